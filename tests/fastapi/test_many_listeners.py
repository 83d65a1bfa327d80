"""Five hundred browsers of one process and account share one poll loop."""

from __future__ import annotations

import json
from contextlib import aclosing
from typing import TYPE_CHECKING

import anyio

from finetuning_async.emulator import Emulator
from finetuning_async.fastapi import event_stream
from tests._emulated_client import emulated

if TYPE_CHECKING:
    from finetuning_async import AsyncClient

LISTENERS = 500
TRACKS = 100


async def test_500_listeners_stay_within_60_reads_a_minute() -> None:
    ended_at: dict[int, float] = {}

    async def listen(client: AsyncClient, number: int, track_id: str) -> None:
        async with aclosing(event_stream(client, track_id)) as events:
            async for event in events:
                last = json.loads(str(event.data))
        assert last["status"] == "completed"
        ended_at[number] = anyio.current_time()

    service = Emulator(creates_per_minute=TRACKS, queue_size=TRACKS)
    async with emulated(service) as (emulator, client):
        async with anyio.create_task_group() as listeners:
            tracks = [(await client.generations.create("x")).id for _ in range(TRACKS)]
            for number in range(LISTENERS):
                track_id = tracks[number % TRACKS]
                listeners.start_soon(listen, client, number, track_id)
        reads = [r.at for r in emulator.requests if r.method == "GET"]
        ends = [emulator.tracks[track_id].ends_at for track_id in tracks]
    assert emulator.count(status=429) == 0
    assert max(sum(t <= r < t + 60 for r in reads) for t in reads) <= 60
    late = [at - ends[number % TRACKS] for number, at in ended_at.items()]
    assert len(late) == LISTENERS
    assert max(late) < 5
