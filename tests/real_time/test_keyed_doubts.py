"""Keyed creates that wait or are in doubt, over a real socket, on the real clock."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio
import pytest

from finetuning_async import (
    APITimeoutError,
    AsyncClient,
    GenerationRequest,
    SubmissionUnknownError,
)
from finetuning_async._session import _keyed_door
from finetuning_async.emulator import Emulator, serve
from finetuning_async.journal import Held, Lost, Sending, SQLiteJournal
from tests._client_journals import MemoryJournal

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.real_time

RAIN = GenerationRequest("rain", idempotency_key="k")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # uvicorn runs on no other loop


async def test_a_held_create_is_judged_again_and_sent_once_it_is_proved_absent() -> (
    None
):
    journal = MemoryJournal(settle=0.5, look_every=0.1)
    async with (
        Emulator(audio=b"mp3", generation_time=(0.2, 0.2)) as emulator,
        serve(emulator) as url,
        AsyncClient(emulator.api_key, base_url=url, journal=journal) as client,
    ):
        await client.generate("before", idempotency_key="before")
        now = time.time()
        lost = (Sending(7, now), Lost(now, "it was lost"), Held("it may be charged"))
        journal.leave(RAIN, *lost)
        with pytest.raises(SubmissionUnknownError):
            await client.resume("k")
        await anyio.sleep(1.1)  # the service's time has whole seconds
        await client.generate("after", idempotency_key="after")
        with anyio.fail_after(10):
            track = await client.resume("k")
        assert track.prompt == "rain"
        assert len(emulator.ledger) == 3


async def test_what_is_resumed_is_looked_for_at_a_pause_until_it_is_known(
    tmp_path: Path,
) -> None:
    store = SQLiteJournal(tmp_path / "j.db", settle=30.0, look_every=0.3)
    async with (
        Emulator(audio=b"mp3", generation_time=(0.2, 0.2)) as emulator,
        serve(emulator) as url,
        AsyncClient(emulator.api_key, base_url=url, journal=store) as client,
    ):
        await client.journal.get("none")
        (opened,) = store._stores.values()
        journal = MemoryJournal(stores={"": opened})  # type: ignore[dict-item] # as one
        now = time.time()
        journal.leave(RAIN, Sending(7, now), Lost(now, "it was lost"))

        async def make() -> None:
            await anyio.sleep(1)
            async with AsyncClient(emulator.api_key, base_url=url) as other:
                await other.generations.create("rain", seed=7)

        listed = len(emulator.requests)
        async with anyio.create_task_group() as tasks, client.resume_all() as outcomes:
            tasks.start_soon(make)
            with anyio.fail_after(10):
                found = [outcome async for outcome in outcomes]
        assert [outcome.result().prompt for outcome in found] == ["rain"]
        paths = [r.path for r in emulator.requests[listed:] if r.method == "GET"]
        assert 2 <= paths.count("/v1/generations") <= 8
        await store.aclose()


async def test_a_call_behind_its_lookalike_goes_out_once_that_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_keyed_door, "LOOK_AGAIN", 0.1)
    journal = MemoryJournal(look_every=0.1)
    async with (
        Emulator(audio=b"mp3", generation_time=(0.2, 0.2)) as emulator,
        serve(emulator) as url,
        AsyncClient(emulator.api_key, base_url=url, journal=journal) as client,
        AsyncClient(emulator.api_key, base_url=url) as other,
    ):
        await client.journal.get("none")
        first = GenerationRequest("rain", seed=7, idempotency_key="k")
        now = time.time()
        journal.leave(first, Sending(7, now), Lost(now, "it was lost"))

        async def create(key: str, timeout: float = 10) -> str:
            track = await client.generations.create(
                "rain", seed=7, idempotency_key=key, timeout=timeout
            )
            return track.id

        with pytest.raises(APITimeoutError, match="nothing was sent"):
            await create("short of time", 0.3)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(create, "l")
            await anyio.sleep(0.2)
            assert emulator.count(method="POST") == 0
            made = await other.generations.create("rain", seed=7)
            assert await create("k") == made.id
        assert len(emulator.ledger) == 2
        assert journal.states() == {"k": "accepted", "l": "accepted"}


async def test_a_create_that_waits_is_planned_and_gone_once_it_is_cancelled() -> None:
    journal = MemoryJournal()
    emulator = Emulator(speed=60, creates_per_minute=2)
    async with (
        emulator,
        serve(emulator) as url,
        AsyncClient(
            emulator.api_key,
            base_url=url,
            journal=journal,
            rate_limits=emulator.rate_limits,
        ) as client,
    ):

        async def create(key: str) -> None:
            await client.generations.create("rain", idempotency_key=key)

        await create("a")
        await create("b")
        async with anyio.create_task_group() as tasks:
            with anyio.move_on_after(0.3):
                tasks.start_soon(create, "c")
                await create("cancelled")
            assert journal.states() == {
                "a": "accepted",
                "b": "accepted",
                "c": "planned",
            }
        assert journal.item("c").entry.state == "accepted"
        assert emulator.count(status=429) == 0
        assert len(emulator.ledger) == 3
