"""The service's queue is used, not hit: learned once, then entered as tracks end."""

from __future__ import annotations

import logging
from itertools import pairwise
from math import inf
from typing import Any

import anyio
import pytest
from hypothesis import given, settings, strategies as st

from finetuning_async import QueueFullError
from finetuning_async._pacing._queue_capacity import (
    FOREIGN_PAUSES,
    MAX_PROBES,
    QueueCapacity,
)
from finetuning_async.emulator import Emulator
from tests._emulated_client import emulated


@pytest.mark.parametrize("size", [3, 5, 10])
async def test_sixty_creates_that_nobody_waits_for_get_through(size: int) -> None:
    service = Emulator(queue_size=size, latency=(0.02, 0.2))
    async with emulated(service) as (emulator, client):
        ids: set[str] = set()

        async def create(number: int) -> None:
            ids.add((await client.generations.create(f"song {number}")).id)

        async with anyio.create_task_group() as group:
            for number in range(60):
                group.start_soon(create, number)
        assert ids == set(emulator.tracks)
        assert len(ids) == 60
        assert emulator.count(code="QUEUE_FULL") <= 3
        assert emulator.count(status=429) == emulator.count(code="QUEUE_FULL")
        assert anyio.current_time() < 60 / size * 70 * 1.35 + 130


async def test_a_queue_full_of_others_is_tried_again_at_growing_pauses() -> None:
    service = Emulator(queue_size=2, generation_time=(200, 200))
    async with emulated(service) as (emulator, client):
        await _somebody_else(client, emulator, 2)
        started = anyio.current_time()
        track = await client.generations.create("mine")
        assert track.id in emulator.tracks
        refused = [r.at - started for r in emulator.requests if r.code == "QUEUE_FULL"]
        pauses = [b - a for a, b in pairwise(refused)]
        assert pauses[:3] == pytest.approx([5, 10, 20], abs=0.5)
        assert pauses[3:] == pytest.approx([30] * len(pauses[3:]), abs=0.5)
        assert (client.rate_limit_status().creates.available or 0) >= 7


async def test_refusals_of_creates_that_went_together_are_one_try() -> None:
    service = Emulator(queue_size=2, generation_time=(200, 200), latency=(0.1, 0.3))
    async with emulated(service) as (emulator, client):
        await _somebody_else(client, emulator, 2)
        started = anyio.current_time()
        async with anyio.create_task_group() as group:
            for number in range(4):
                group.start_soon(client.generations.create, f"mine {number}")
        posts = [r for r in emulator.requests if r.method == "POST"]
        refused = [r.at - started for r in posts if r.code == "QUEUE_FULL"]
        together = [at for at in refused if at < 2]
        assert len(together) == MAX_PROBES
        tries = [together[-1], *refused[MAX_PROBES:]]
        pauses = [b - a for a, b in pairwise(tries)]
        assert pauses[:3] == pytest.approx([5, 10, 20], abs=1)


async def test_a_pause_that_a_full_queue_asks_for_is_kept() -> None:
    service = Emulator(
        queue_size=1, generation_time=(50, 50), queue_full_retry_after=40
    )
    async with emulated(service) as (emulator, client):
        await _somebody_else(client, emulator, 1)
        await client.generations.create("mine")
        refused = [r.at for r in emulator.requests if r.code == "QUEUE_FULL"]
        later = [r.at for r in emulator.requests if r.method == "POST"][2:]
        assert all(at >= refused[0] + 40 for at in later)


async def test_a_try_that_cannot_come_in_time_is_not_waited_for() -> None:
    service = Emulator(queue_size=1, generation_time=(200, 200))
    async with emulated(service) as (emulator, client):
        await _somebody_else(client, emulator, 1)
        with pytest.raises(QueueFullError) as caught:
            await client.generations.create("mine", timeout=12)
        assert caught.value.safe_to_retry
        assert anyio.current_time() < 6  # after the try at 5 s, the next were at 15 s


async def _somebody_else(client: Any, emulator: Emulator, number: int) -> None:
    """Fill the queue in a way that this client's register does not know of."""
    for each in range(number):
        await client.generations.create(f"theirs {each}")
    client._session().account.inflight.tracks.clear()
    gate = client._session().account.inflight
    gate._capacity = QueueCapacity()
    assert emulator.account.in_progress == number


async def test_capacity_is_tried_upwards_one_at_a_time() -> None:
    service = Emulator(queue_size=2, generation_time=(60, 60))
    async with emulated(service) as (emulator, client):
        most = 0

        async def watch() -> None:
            nonlocal most
            while True:
                await anyio.sleep(1)
                most = max(most, emulator.account.in_progress)

        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            async with anyio.create_task_group() as creates:
                for number in range(90):
                    creates.start_soon(client.generations.create, f"song {number}")
                await anyio.sleep(300)
                learned = client._session().account.inflight.queue_capacity
                object.__setattr__(emulator, "queue_size", 4)
            group.cancel_scope.cancel()
        assert learned == 2
        assert most == 4
        assert client._session().account.inflight.queue_capacity == 4


async def test_the_log_says_nothing_alarming(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "finetuning_async")
    async with emulated(Emulator(queue_size=2)) as (_, client):
        async with anyio.create_task_group() as group:
            for number in range(6):
                group.start_soon(client.generations.create, f"song {number}")
    assert caplog.text == ""


def test_before_anything_is_known_few_are_without_an_answer() -> None:
    gate = QueueCapacity()
    for _ in range(MAX_PROBES):
        assert gate.opens_at(0) == -inf
        gate.on_sent()
    assert gate.opens_at(0) == inf
    gate.on_accepted(1)
    assert gate.opens_at(1) == -inf


def test_what_was_seen_to_fit_goes_out_at_once() -> None:
    gate = QueueCapacity()
    for number in range(1, 6):
        gate.on_sent()
        gate.on_accepted(number)
    for _ in range(5):
        assert gate.opens_at(0) == -inf
        gate.on_sent()


def test_foreign_pauses_grow_and_end_with_an_acceptance() -> None:
    gate = QueueCapacity()
    now = 0.0
    for pause in (*FOREIGN_PAUSES, FOREIGN_PAUSES[-1]):
        gate.on_sent()
        gate.on_refused(now, 0)
        assert gate.opens_at(0) == now + pause
        now += pause
    gate.on_sent()
    gate.on_accepted(1)
    assert gate.capacity is None
    gate.on_sent()
    gate.on_refused(now, 0)
    assert gate.opens_at(0) == now + FOREIGN_PAUSES[0]


@given(
    size=st.integers(1, 12),
    foreign=st.integers(0, 12),
    moves=st.lists(st.sampled_from(["enter", "answer", "end", "leave", "wait"])),
)
@settings(max_examples=300, deadline=None)
def test_any_course_of_events_leaves_the_gate_whole(
    size: int, foreign: int, moves: list[str]
) -> None:
    """A model of the queue, with answers that come in any order."""
    gate, now, under_way, entering = QueueCapacity(), 0.0, 0, 0
    for move in [*moves, *["answer"] * len(moves)]:
        if move == "enter" and gate.opens_at(under_way) <= now:
            gate.on_sent()
            entering += 1
        elif move == "leave" and entering:
            gate.on_other_outcome()
            entering -= 1
        elif move == "answer" and entering:
            entering -= 1
            if under_way + foreign < size:
                under_way += 1
                gate.on_accepted(under_way)
            else:
                gate.on_refused(now, under_way)
        elif move == "end":
            under_way = max(under_way - 1, 0)
        elif move == "wait":
            now += 7
        assert gate.pending == entering >= 0
        assert gate.capacity is None or 0 <= gate.capacity <= size
    # Whatever was learned, it does not stay shut for ever.
    assert gate.opens_at(0) < inf
