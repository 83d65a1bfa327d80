"""A hook that lands in another worker process: how much later the end is noticed.

uvicorn gives each connection to any of its workers, so with two of them about half of
the hooks arrive at workers where no call waits. There polling finds the end.
"""

from __future__ import annotations

import json
import statistics
from typing import TYPE_CHECKING, Any

import anyio
import httpx

from benchmarks.webhooks.running import backend, free_port
from finetuning_async.emulator import Emulator, serve

if TYPE_CHECKING:
    from collections.abc import Mapping


async def table(*, tracks: int, speed: float) -> None:
    """Print the delays by where the hook landed; seconds are those of the service."""
    print(f"{tracks} tracks, service {speed:g} times as fast")
    print("workers  hook landed in     tracks   median    p90     max   429s  reads")
    for workers in (1, 2):
        delays, emulator = await measure(workers, tracks=tracks, speed=speed)
        for where, found in delays.items():
            if found:
                row = _summary(found, speed) + _load(emulator)
                print(f"{workers:>7}  {where:<16}{row}")


async def measure(
    workers: int, *, tracks: int, speed: float
) -> tuple[dict[str, list[float]], Emulator]:
    """The delays from each end to its notice, in real seconds."""
    landed: dict[str, int] = {}

    async def deliver(url: str, headers: Mapping[str, str], body: bytes) -> int:
        async with httpx.AsyncClient() as fresh:  # a new connection, as a service has
            response = await fresh.post(url, headers=dict(headers), content=body)
        landed[json.loads(body)["id"]] = int(response.headers["x-pid"])
        return response.status_code

    emulator = Emulator(speed=speed, queue_size=tracks, webhook_sender=deliver)
    async with emulator, serve(emulator) as service:
        where = (emulator.api_key, service)
        per = emulator.rate_limits.reads.per
        async with backend(*where, free_port(), workers=workers, per=per) as url:
            made = await _make_all(url, tracks)
            await anyio.sleep(1)  # until the last hook has come
        delays: dict[str, list[float]] = {"the same process": [], "another": []}
        for row in made:
            is_same = landed[row["id"]] == row["pid"]
            ended_at = emulator.tracks[row["id"]].ends_at
            delays["the same process" if is_same else "another"].append(
                row["noticed_at"] - ended_at
            )
    return delays, emulator


async def _make_all(url: str, tracks: int) -> list[dict[str, Any]]:
    """Ask for all tracks at once, each on a connection of its own."""
    made: list[dict[str, Any]] = []

    async def make() -> None:
        async with httpx.AsyncClient(timeout=httpx.Timeout(3600)) as http:
            made.append((await http.post(f"{url}/make")).json())

    async with anyio.create_task_group() as group:
        for _ in range(tracks):
            group.start_soon(make)
    return made


def _summary(found: list[float], speed: float) -> str:
    scaled = sorted(seconds * speed for seconds in found)
    p90 = scaled[int(len(scaled) * 0.9)]
    median = statistics.median(scaled)
    return f"{len(found):>9}{median:>9.2f}{p90:>7.2f}{scaled[-1]:>8.2f}"


def _load(emulator: Emulator) -> str:
    return f"{emulator.count(status=429):>7}{emulator.count(method='GET'):>7}"
