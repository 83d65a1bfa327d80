"""The fault matrix: every fault at every point, in-process and on a real port.

In-process: each fault of a create, alone and under each way to end the call, in virtual
time. On a port: a TCP proxy cuts, holds and delays at any byte, in real time, with the
times of the recovery scaled down.
"""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import anyio
import attrs

from benchmarks.proofs._audit import Create, Log, balance, leftovers
from benchmarks.proofs._libraries import Library, in_process, on_the_network
from benchmarks.proofs._proxy import Cut, proxy
from benchmarks.proofs._schedule import CREATE, POST_FAULTS, START, Tally
from finetuning_async import AsyncClient, FinetuningError, Generation
from finetuning_async._submission import _recovery
from finetuning_async.emulator import Emulator, Fault, serve
from finetuning_async.testing import jumping_backend

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.proofs._proxy import How, Way

ON_UNKNOWN = ("raise", "resubmit")
MOMENTS = (None, 0.0, 0.2, 1.0, 6.0, 35.0)
"""Seconds after which the call is cancelled; `None` for never."""

IN_PROCESS = [
    (fault, on_unknown, moment)
    for fault in POST_FAULTS
    for on_unknown in ON_UNKNOWN
    for moment in MOMENTS
]

WAYS: tuple[Way, ...] = ("to service", "to client")
HOWS: tuple[How, ...] = ("reset", "close", "hang", "delay")
PLACES = (0.0, 0.1, 0.3, 0.5, 0.8, 0.97)
"""Where in the request or the response, as a share of its bytes."""

ON_A_PORT = [(way, how, place) for way in WAYS for how in HOWS for place in PLACES]

REQUEST_BYTES = 340
ANSWER_BYTES = 455
SCALE = 30.0


@attrs.frozen
class Cell:
    """One cell: its name and its row in the table."""

    name: str
    run: Any


def cells_in_process() -> list[Cell]:
    """Every fault, with and without ``resubmit``, cancelled at each moment."""
    return [
        Cell(f"{_name(fault)} / {on_unknown} / {moment}", (fault, on_unknown, moment))
        for fault, on_unknown, moment in IN_PROCESS
    ]


def cells_on_a_port() -> list[Cell]:
    """Every direction, kind and position of a cut."""
    return [
        Cell(f"{way} / {how} / {place:.0%}", (way, how, place))
        for way, how, place in ON_A_PORT
    ]


def _name(fault: dict[str, Any]) -> str:
    return " ".join(str(value) for value in fault.values())


def play_in_process(
    cell: Cell, run: int, tally: Tally, library: Library = "httpx"
) -> None:
    """Run one cell once; `run` is its seed, and odd ones run on trio."""
    name, options = jumping_backend("trio" if run % 2 else "asyncio")
    anyio.run(
        _one_in_process,
        cell,
        run,
        tally,
        library,
        backend=name,
        backend_options=dict(options),
    )


async def _one_in_process(cell: Cell, run: int, tally: Tally, library: Library) -> None:
    fault, on_unknown, moment = cell.run
    rng = random.Random(f"{cell.name}/{run}")
    latency = rng.choice([(0.0, 0.0), (0.05, 0.2), (0.5, 1.0)])
    with Log() as log:
        async with (
            Emulator(
                seed=run,
                start_time=START,
                latency=latency,
                audio=b"mp3",
                rewrite_prompts=run % 5 == 4,
            ) as emulator,
            in_process(emulator, library) as http,
            AsyncClient(
                emulator.api_key,
                base_url=emulator.base_url,
                http_client=http,
                rate_limits=emulator.rate_limits,
            ) as client,
        ):
            if run % 3:
                await client.me()
            emulator.add_fault(Fault(path=CREATE, method="POST", **fault))
            create = Create("a song", resubmits=on_unknown == "resubmit")
            seed = rng.choice([None, 42])
            await _cancelled(client, create, moment, seed=seed, on_unknown=on_unknown)
            await anyio.sleep(100)
            _book(cell, run, tally, emulator, client, create, log)


async def _cancelled(
    client: AsyncClient, create: Create, moment: float | None, **options: Any
) -> None:
    async def on_submitted(track: Generation) -> None:
        create.reported.append(track)

    with anyio.CancelScope() as scope:
        if moment is not None:
            scope.deadline = anyio.current_time() + moment
        try:
            create.returned = await client.generations.create(
                create.prompt, on_submitted=on_submitted, **options
            )
        except FinetuningError as error:
            create.error = error
        except BaseException as error:
            create.error = error
            raise


def _book(
    cell: Cell,
    run: int,
    tally: Tally,
    emulator: Emulator,
    client: AsyncClient,
    create: Create,
    log: Log,
) -> None:
    wrong = [*balance(emulator, [create], log), *leftovers(client)]
    tally.wrong += [f"{cell.name}, run {run}: {each}" for each in wrong]
    tally.creates[create.outcome] += 1
    tally.schedules += 1
    tally.tracks += len(emulator.tracks)
    tally.posts += emulator.count(method="POST", path=CREATE)


@contextmanager
def scaled_lookup() -> Iterator[None]:
    """A recovery that takes a second instead of thirty."""
    before = (
        _recovery.SETTLE_TIME,
        _recovery.PAUSES,
        _recovery.LATER_PAUSE,
        _recovery.LAG_ALLOWANCE,
    )
    _recovery.SETTLE_TIME /= SCALE  # type: ignore[misc] # in real time, for these runs
    _recovery.PAUSES = tuple(p / SCALE for p in _recovery.PAUSES)  # type: ignore[misc,assignment] # as above
    _recovery.LATER_PAUSE /= SCALE  # type: ignore[misc] # as above
    _recovery.LAG_ALLOWANCE /= SCALE  # type: ignore[misc] # as above
    try:
        yield
    finally:
        settle, pauses, later, lag = before
        _recovery.SETTLE_TIME = settle  # type: ignore[misc] # as above
        _recovery.PAUSES = pauses  # type: ignore[misc] # as above
        _recovery.LATER_PAUSE = later  # type: ignore[misc] # as above
        _recovery.LAG_ALLOWANCE = lag  # type: ignore[misc] # as above


async def play_on_a_port(
    cell: Cell, run: int, tally: Tally, library: Library = "httpx"
) -> None:
    """Run one cell once, on an emulator, a proxy and a client of its own."""
    way, how, place = cell.run
    rng = random.Random(f"{cell.name}/{run}")
    whole = REQUEST_BYTES if way == "to service" else ANSWER_BYTES
    spread = rng.uniform(-0.05, 0.05) if place else 0.0
    cut = Cut(way, int(whole * max(place + spread, 0.0)), how, seconds=0.3)
    with Log() as log:
        async with (
            Emulator(seed=run, audio=b"mp3") as emulator,
            serve(emulator) as url,
            proxy(url) as (carrier, near),
            on_the_network(library) as http,
            AsyncClient(
                emulator.api_key,
                base_url=near,
                http_client=http,
                request_timeout=0.6,
                rate_limits=None,
            ) as client,
        ):
            carrier.cuts.append(cut)
            create = Create(f"a song {run}")
            await _cancelled(client, create, None, lyrics="la " * rng.randint(0, 9))
            await anyio.sleep(0.3)
            _book(cell, run, tally, emulator, client, create, log)
