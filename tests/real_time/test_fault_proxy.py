"""A create through a proxy that breaks connections at any byte, on real sockets."""

from __future__ import annotations

import anyio
import pytest

from benchmarks.proofs._libraries import LIBRARIES, Library, on_the_network
from benchmarks.proofs._matrix import (
    Cell,
    cells_on_a_port,
    play_on_a_port,
    scaled_lookup,
)
from benchmarks.proofs._proxy import Cut, proxy
from benchmarks.proofs._schedule import CREATE, Tally
from finetuning_async import AsyncClient
from finetuning_async.emulator import Emulator, serve


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # uvicorn supports no other loop


@pytest.mark.parametrize("library", LIBRARIES)
async def test_creates_and_charges_match_wherever_a_connection_breaks(
    library: Library,
) -> None:
    tally = Tally()

    async def one(cell: Cell) -> None:
        await play_on_a_port(cell, 1, tally, library)

    with scaled_lookup():
        async with anyio.create_task_group() as group:
            for number, cell in enumerate(cells_on_a_port()):
                if number % 2:
                    group.start_soon(one, cell)
    assert tally.wrong == []
    assert tally.schedules == 24
    assert tally.creates["returned"] >= 8


@pytest.mark.sampled(2)
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("after", range(0, 455, 50))
async def test_a_response_cut_at_any_byte_is_one_track(
    after: int, library: Library
) -> None:
    async with (
        Emulator() as emulator,
        serve(emulator) as url,
        proxy(url) as (carrier, near),
        on_the_network(library) as http,
        AsyncClient(
            emulator.api_key, base_url=near, rate_limits=None, http_client=http
        ) as client,
    ):
        carrier.cuts.append(Cut("to client", after, "reset"))
        track = await client.generations.create("x")
        assert list(emulator.tracks) == [track.id]
        assert emulator.count(method="POST", path=CREATE) == 1


@pytest.mark.parametrize("library", LIBRARIES)
async def test_a_create_to_a_closed_port_was_not_sent(library: Library) -> None:
    async with Emulator() as emulator, serve(emulator) as url:
        pass
    async with (
        on_the_network(library) as http,
        AsyncClient(
            emulator.api_key,
            base_url=url,
            rate_limits=None,
            max_retries=0,
            http_client=http,
        ) as client,
    ):
        with pytest.raises(Exception, match="was not sent"):
            await client.generations.create("x")
