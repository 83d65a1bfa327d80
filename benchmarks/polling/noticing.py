"""Tracks in progress: how late their ends are noticed, and what that costs in reads.

The service is the emulator, with a latency of 20 to 200 ms each way. A number of tracks
is created at once, and again when all have ended; in the rows that say "kept", another
one is created as soon as the end of one is noticed. Then 99 tracks do not fit on one
page of the list, because ended ones are between them. Creates are not limited here,
otherwise 99 could not be in progress at a time; reads are, to 60 a minute. Beside the
polling, a caller reads a track every 5 s.

The vendor's way is a loop for each track: read it every 3 s; after a 429, wait as long
as `Retry-After` asks.
"""

from __future__ import annotations

import itertools
import random
import statistics
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio
import attrs
import httpx

from finetuning_async import AsyncClient, RateLimit, RateLimits
from finetuning_async.emulator import Emulator
from finetuning_async.testing import jumping_backend

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

IN_FLIGHT: Final = (
    (1, False),
    (10, False),
    (40, False),
    (99, False),
    (40, True),
    (99, True),
)
"""How many tracks, and whether that number is kept."""

CROWDS: Final = (600, 1200)
"""More at once than fit on two or three pages; this package only, a third as long."""

TIMES: Final = {"20-120 s": (20.0, 120.0), "45 ± 1 s": (44.0, 46.0)}
LATENCY: Final = (0.02, 0.2)
LIMITS: Final = RateLimits(
    creates=RateLimit(100_000, per=60.0), reads=RateLimit(60, per=60.0)
)
CALLER_EVERY: Final = 5.0
VENDOR_EVERY: Final = 3.0
START: Final = 60.0
"""Seconds in which the first tracks are created."""


@attrs.define
class Watched:
    """What was measured of one way to poll."""

    late: list[float] = attrs.field(factory=list)
    caller: list[float] = attrs.field(factory=list)
    reads: list[float] = attrs.field(factory=list)
    refused: int = 0


@attrs.frozen(eq=False)
class Scene:
    """A service, a client of it, and what was measured."""

    emulator: Emulator
    client: AsyncClient
    http: httpx.AsyncClient
    seen: Watched

    async def ours(self) -> str:
        """Create a track and wait for it with the shared poll loop."""
        return (await self.client.generate("x", duration=30, wait_timeout=None)).id

    async def vendors(self) -> str:
        """Create a track and wait for it with a loop of its own."""
        created = await self.http.post("/v1/generations", json={"tags": "x"})
        track_id: str = created.json()["data"]["id"]
        while True:
            await anyio.sleep(VENDOR_EVERY)
            response = await self.http.get(f"/v1/generations/{track_id}")
            if response.status_code == 429:
                await anyio.sleep(float(response.headers["Retry-After"]))
            elif response.json()["data"]["status"] == "completed":
                return track_id

    async def our_caller(self, track_id: str) -> None:
        """Read a track with the paced client."""
        await self.client.generations.get(track_id)

    async def vendors_caller(self, track_id: str) -> None:
        """Read a track, and wait after a 429."""
        while True:
            response = await self.http.get(f"/v1/generations/{track_id}")
            if response.status_code != 429:
                return
            await anyio.sleep(float(response.headers["Retry-After"]))


async def one(scene: Scene, wait: Callable[[], Awaitable[str]]) -> None:
    """Create a track, wait for it, and record how late its end was noticed."""
    track_id = await wait()
    ended = scene.emulator.tracks[track_id].ends_at
    scene.seen.late.append(anyio.current_time() - ended)


async def batches(
    scene: Scene, wait: Callable[[], Awaitable[str]], in_flight: int
) -> None:
    """Create `in_flight` tracks at once, again and again."""
    while True:
        async with anyio.create_task_group() as group:
            for _ in range(in_flight):
                group.start_soon(one, scene, wait)


async def keep(
    scene: Scene, wait: Callable[[], Awaitable[str]], in_flight: int, rng: random.Random
) -> None:
    """Keep `in_flight` tracks in progress; the first are created within a minute."""

    async def again(first: float) -> None:
        await anyio.sleep_until(first)
        while True:
            await one(scene, wait)

    async with anyio.create_task_group() as group:
        for _ in range(in_flight):
            group.start_soon(again, rng.uniform(0, START))


async def call(scene: Scene, read: Callable[[str], Awaitable[None]]) -> None:
    """Read a track every 5 s, as a caller may, once all are in progress."""
    for moment in itertools.count(START, CALLER_EVERY):
        await anyio.sleep_until(moment)
        began = anyio.current_time()
        await read(next(reversed(scene.emulator.tracks)))
        scene.seen.caller.append(anyio.current_time() - began)


async def watch(
    way: str,
    in_flight: int,
    times: tuple[float, float],
    minutes: float,
    seed: int,
    *,
    kept: bool,
) -> Watched:
    """Measure one way to poll."""
    seen = Watched()
    emulator = Emulator(
        seed=seed,
        latency=LATENCY,
        generation_time=times,
        creates_per_minute=LIMITS.creates.limit,
        queue_size=2 * CROWDS[-1],
        credits=1_000_000,
    )
    async with (
        emulator,
        httpx.AsyncClient(
            transport=emulator.transport(),
            base_url=emulator.base_url,
            headers={"X-API-Key": emulator.api_key},
            timeout=None,  # noqa: S113 - nothing hangs in an emulator
        ) as http,
        AsyncClient(
            emulator.api_key,
            base_url=emulator.base_url,
            http_client=http,
            rate_limits=LIMITS,
        ) as client,
    ):
        scene = Scene(emulator, client, http, seen)
        wait, read = (
            (scene.ours, scene.our_caller)
            if way == "ours"
            else (scene.vendors, scene.vendors_caller)
        )
        with anyio.move_on_after(minutes * 60):
            async with anyio.create_task_group() as group:
                group.start_soon(call, scene, read)
                if kept:
                    await keep(scene, wait, in_flight, random.Random(seed))
                else:
                    await batches(scene, wait, in_flight)
    seen.reads = [r.at for r in emulator.requests if r.method == "GET"]
    seen.refused = emulator.count(status=429)
    return seen


def per_minute(moments: Sequence[float], minutes: float) -> tuple[float, int]:
    """Return the mean number in a minute and the number in the busiest minute."""
    busiest, first = 0, 0
    for last, moment in enumerate(moments):
        while moments[first] <= moment - 60:
            first += 1
        busiest = max(busiest, last - first + 1)
    return len(moments) / minutes, busiest


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that a share of them does not exceed."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def table(*, minutes: float, seed: int) -> None:
    """Print a row for each number in flight, range of times and way."""
    print(f"Noticing ({minutes:g} minutes each, seed {seed}); seconds\n")
    print(
        "| in flight | take | way | ends | mean late | 95 % | worst |"
        " polls/min | busiest | 429s | caller waits | worst |"
    )
    print("|" + "---|" * 12)
    loop, options = jumping_backend("asyncio")

    def show(
        way: str, name: str, count: int, length: float, *, kept: bool = False
    ) -> None:
        seen = anyio.run(
            partial(watch, way, count, TIMES[name], length, seed, kept=kept),
            backend=loop,
            backend_options=dict(options),
        )
        label = f"{count} kept" if kept else f"{count}"
        print(row(label, name, way, seen, length))

    for name, (count, kept) in itertools.product(TIMES, IN_FLIGHT):
        for way in ("ours", "vendor's"):
            show(way, name, count, minutes, kept=kept)
    for count in CROWDS:
        show("ours", next(iter(TIMES)), count, minutes / 3)


def row(count: str, times: str, way: str, seen: Watched, minutes: float) -> str:
    """Format one line; the caller's own reads are subtracted from our polls."""
    mean, busiest = per_minute(seen.reads, minutes)
    if way == "ours":  # in the other way 429s hide which reads are the caller's
        mean -= len(seen.caller) / minutes
        busiest -= round(60 / CALLER_EVERY)
    return (
        f"| {count} | {times} | {way} | {len(seen.late)}"
        f" | {statistics.mean(seen.late):.2f} | {quantile(seen.late, 0.95):.2f}"
        f" | {max(seen.late):.2f} | {mean:.1f} | {busiest}"
        f" | {seen.refused} | {statistics.mean(seen.caller):.2f}"
        f" | {max(seen.caller):.2f} |"
    )
