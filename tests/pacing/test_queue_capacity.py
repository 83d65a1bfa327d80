"""The service's queue is used, not hit: its capacity is learned from one refusal."""

from __future__ import annotations

import logging
from itertools import pairwise
from math import inf
from typing import Any

import anyio
import pytest
from hypothesis import given, settings, strategies as st

from finetuning_async import InvalidRequestError, QueueFullError, RateLimits
from finetuning_async._pacing._queue_capacity import (
    FOREIGN_PAUSES,
    MAX_PROBES,
    QueueCapacity,
)
from finetuning_async.emulator import Emulator
from tests._emulated_client import emulated

pytestmark = pytest.mark.sampled(2)


@pytest.mark.long
@pytest.mark.parametrize("size", [3, 5, 10])
async def test_sixty_creates_without_a_waiter_are_all_accepted(size: int) -> None:
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


async def test_a_queue_full_of_foreign_tracks_is_retried_at_growing_pauses() -> None:
    service = Emulator(queue_size=2, generation_time=(200, 200))
    async with emulated(service) as (emulator, client):
        await _fill_with_foreign_tracks(client, emulator, 2)
        started = anyio.current_time()
        track = await client.generations.create("mine")
        assert track.id in emulator.tracks
        refused = [r.at - started for r in emulator.requests if r.code == "QUEUE_FULL"]
        pauses = [b - a for a, b in pairwise(refused)]
        assert pauses[:3] == pytest.approx([5, 10, 20], abs=0.5)
        assert pauses[3:] == pytest.approx([30] * len(pauses[3:]), abs=0.5)
        assert (client.rate_limit_status().creates.available or 0) >= 7


async def test_refusals_of_creates_sent_together_count_as_one_attempt() -> None:
    service = Emulator(queue_size=2, generation_time=(200, 200), latency=(0.1, 0.3))
    async with emulated(service) as (emulator, client):
        await _fill_with_foreign_tracks(client, emulator, 2)
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


async def test_the_retry_after_of_a_full_queue_is_obeyed() -> None:
    service = Emulator(
        queue_size=1, generation_time=(50, 50), queue_full_retry_after=40
    )
    async with emulated(service) as (emulator, client):
        await _fill_with_foreign_tracks(client, emulator, 1)
        await client.generations.create("mine")
        refused = [r.at for r in emulator.requests if r.code == "QUEUE_FULL"]
        later = [r.at for r in emulator.requests if r.method == "POST"][2:]
        assert all(at >= refused[0] + 40 for at in later)


async def test_a_retry_after_the_deadline_is_not_waited_for() -> None:
    service = Emulator(queue_size=1, generation_time=(200, 200))
    async with emulated(service) as (emulator, client):
        await _fill_with_foreign_tracks(client, emulator, 1)
        with pytest.raises(QueueFullError) as caught:
            await client.generations.create("mine", timeout=12)
        assert caught.value.safe_to_retry
        assert (
            anyio.current_time() < 6
        )  # after the retry at 5 s, the next one is at 15 s


async def _fill_with_foreign_tracks(
    client: Any, emulator: Emulator, number: int
) -> None:
    """Fill the queue, and make this client forget that it did."""
    for each in range(number):
        await client.generations.create(f"theirs {each}")
    client._session().account.inflight.tracks.clear()
    client._session().account.inflight._capacity = QueueCapacity()
    assert emulator.account.in_progress == number


def test_what_fitted_before_others_filled_the_queue_counts_no_more() -> None:
    queue = QueueCapacity()
    for in_progress in range(1, 11):
        queue.on_sent()
        queue.on_accepted(in_progress)
    for _ in range(MAX_PROBES):
        queue.on_sent()
    assert queue.opens_at(9 - MAX_PROBES) == -inf, "ten fitted before"
    assert queue.opens_at(10 - MAX_PROBES) == inf
    for _ in range(MAX_PROBES):
        queue.on_other_outcome()
    queue.on_sent()
    queue.on_refused(100.0, 0)  # ours have ended: it is full of others' tracks
    queue.on_sent()
    queue.on_accepted(1)
    assert queue.capacity is None
    for _ in range(MAX_PROBES):
        assert queue.opens_at(1) == -inf
        queue.on_sent()
    assert queue.opens_at(1) == inf


async def test_a_higher_capacity_is_tried_one_create_at_a_time() -> None:
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


async def test_a_full_queue_logs_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "finetuning_async")
    async with emulated(Emulator(queue_size=2)) as (_, client):
        async with anyio.create_task_group() as group:
            for number in range(6):
                group.start_soon(client.generations.create, f"song {number}")
    assert caplog.text == ""


def test_before_the_capacity_is_known_few_creates_are_in_flight() -> None:
    capacity = QueueCapacity()
    for _ in range(MAX_PROBES):
        assert capacity.opens_at(0) == -inf
        capacity.on_sent()
    assert capacity.opens_at(0) == inf
    capacity.on_accepted(1)
    assert capacity.opens_at(1) == -inf


def test_a_stated_capacity_is_used_at_once_and_never_exceeded() -> None:
    capacity = QueueCapacity(4)
    for number in range(4):
        assert capacity.opens_at(number) == -inf
        capacity.on_sent()
        capacity.on_accepted(number + 1)
    assert capacity.opens_at(4) == inf
    assert capacity.opens_at(3) == -inf


def test_a_stated_capacity_that_others_fill_in_part_is_tried_again() -> None:
    capacity = QueueCapacity(4)
    capacity.on_sent()
    capacity.on_refused(100.0, 2)
    assert capacity.capacity == 2
    assert capacity.opens_at(2) == 100.0 + FOREIGN_PAUSES[0]
    for number in (3, 4):
        capacity.on_sent()
        capacity.on_accepted(number)
    assert capacity.opens_at(4) == inf


async def test_a_stated_queue_is_never_refused_and_never_idle() -> None:
    service = Emulator(queue_size=3, generation_time=(50, 50))
    limits = RateLimits(queue=3)
    async with emulated(service, rate_limits=limits) as (emulator, client):
        async with anyio.create_task_group() as group:
            for number in range(12):
                group.start_soon(client.generations.create, f"song {number}")
        assert emulator.count(status=429) == 0
        assert anyio.current_time() < 3 * 52


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "five"])
def test_a_stated_queue_is_a_whole_number_of_at_least_1(wrong: Any) -> None:
    with pytest.raises(InvalidRequestError, match="queue must be a whole number"):
        RateLimits(queue=wrong)


def test_as_many_as_have_fit_before_go_out_at_once() -> None:
    capacity = QueueCapacity()
    for number in range(1, 6):
        capacity.on_sent()
        capacity.on_accepted(number)
    for _ in range(5):
        assert capacity.opens_at(0) == -inf
        capacity.on_sent()


def test_foreign_pauses_grow_until_a_create_is_accepted() -> None:
    capacity = QueueCapacity()
    now = 0.0
    for pause in (*FOREIGN_PAUSES, FOREIGN_PAUSES[-1]):
        capacity.on_sent()
        capacity.on_refused(now, 0)
        assert capacity.opens_at(0) == now + pause
        now += pause
    capacity.on_sent()
    capacity.on_accepted(1)
    assert capacity.capacity is None
    capacity.on_sent()
    capacity.on_refused(now, 0)
    assert capacity.opens_at(0) == now + FOREIGN_PAUSES[0]


@given(
    size=st.integers(1, 12),
    foreign=st.integers(0, 12),
    moves=st.lists(st.sampled_from(["send", "respond", "end", "fail", "wait"])),
    is_stated=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_any_sequence_of_events_keeps_the_capacity_consistent(
    size: int, foreign: int, moves: list[str], is_stated: bool
) -> None:
    """A model of the queue, with responses in any order."""
    capacity, now = QueueCapacity(size if is_stated else None), 0.0
    in_progress = pending = 0
    for move in [*moves, *["respond"] * len(moves)]:
        if move == "send" and capacity.opens_at(in_progress) <= now:
            capacity.on_sent()
            pending += 1
        elif move == "fail" and pending:
            capacity.on_other_outcome()
            pending -= 1
        elif move == "respond" and pending:
            pending -= 1
            if in_progress + foreign < size:
                in_progress += 1
                capacity.on_accepted(in_progress)
            else:
                capacity.on_refused(now, in_progress)
        elif move == "end":
            in_progress = max(in_progress - 1, 0)
        elif move == "wait":
            now += 7
        assert capacity.pending == pending >= 0
        assert capacity.capacity is None or 0 <= capacity.capacity <= size
    # Whatever was learned, it opens again some time.
    assert capacity.opens_at(0) < inf


def test_one_more_that_fits_is_the_new_capacity_unless_others_filled_the_queue() -> (
    None
):
    for stated, after_none in ((None, None), (5, 1)):
        queue = QueueCapacity(stated)
        for in_progress in (1, 2):
            queue.on_sent()
            queue.on_accepted(in_progress)
        queue.on_sent()
        queue.on_refused(0.0, 2)
        assert queue.capacity == 2
        queue.on_sent()
        queue.on_accepted(3)
        assert queue.capacity == 3
        queue.on_sent()
        queue.on_refused(1.0, 0)
        assert queue.capacity == 0
        queue.on_sent()
        queue.on_accepted(1)
        assert queue.capacity == after_none


@pytest.mark.parametrize(
    ("learned", "stated", "capacity"),
    [(2, 5, 2), (None, 5, 5), (2, 1, 1), (2, None, 2)],
)
def test_of_what_is_stored_and_what_is_stated_the_lower_capacity_holds(
    learned: int | None, stated: int | None, capacity: int
) -> None:
    state = QueueCapacity(learned).to_state()
    assert QueueCapacity.from_state(state, stated).capacity == capacity
