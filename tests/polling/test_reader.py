"""What a read of the poll loop covers, and what its failure leads to."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest

from finetuning_async._http import NoResponse
from finetuning_async._pacing._limiter import Limiter
from finetuning_async._polling._failure_tracker import FailureTracker
from finetuning_async._polling._listing_health import SUSPECT_AFTER
from finetuning_async._polling._reader import Reader
from finetuning_async._polling._reads_in_flight import (
    HANGS_AFTER,
    ReadInFlight,
    ReadsInFlight,
)
from finetuning_async._polling._schedule import ReadPacer
from finetuning_async._polling._waiters import Waiter
from tests._dispatch_harness import WHOLE, DispatchHarness

if TYPE_CHECKING:
    from collections.abc import Callable

    from finetuning_async import FinetuningError
    from finetuning_async._polling._read_planner import Read
    from finetuning_async._polling._watch_list import Watched

PERMANENT = NoResponse(
    "not_sent", timed_out=False, reason="no such host", is_permanent=True
)


class Loop(DispatchHarness):
    """A poll loop whose reads a test begins and ends."""

    def __init__(self) -> None:
        super().__init__()
        self.pacer = ReadPacer(limit=60, per=60.0)
        self.reads = ReadsInFlight()
        self.read_elsewhere: set[str] = set()
        self.ended_with: list[FinetuningError] = []
        limiter = Limiter(None, rng=random.Random(1))
        self.waiter = Waiter(cast("Any", SimpleNamespace(limiter=limiter)))
        self.reader = Reader(
            self,
            watch_list=self.watch_list,
            listings=self.listings,
            dispatcher=self.dispatcher,
            pacer=self.pacer,
            failures=FailureTracker(scale=1.0),
            reads=self.reads,
        )

    def may_read(self, now: float, track: Watched | None = None) -> bool:
        return track is None or track.track_id not in self.read_elsewhere

    def wake_driver(self) -> None:
        """There is no driver."""

    def close(self, pool: object) -> None:
        """There is no client."""

    def fail_waiters(self, error: Callable[[Waiter], FinetuningError]) -> None:
        self.ended_with.append(error(self.waiter))

    def begin(self) -> ReadInFlight:
        """Send what is due; the read hangs until `end`."""
        in_flight = ReadInFlight(self.waiter)
        self.reads.add(in_flight)
        self.reader._choose_read(in_flight)
        return in_flight

    def end(self, in_flight: ReadInFlight, failure: NoResponse) -> None:
        self.reader._on_failure(in_flight, failure)
        self.reader.forget(in_flight)

    def covered(self) -> Read:
        """What is read now, as far as it is due."""
        in_flight = self.begin()
        self.reader.forget(in_flight)
        assert in_flight.read is not None
        return in_flight.read

    def seconds_to_look(self, track: Watched) -> float:
        return track.next_look - anyio.current_time()


async def test_what_is_read_is_not_due_again_before_the_next_slot() -> None:
    loop = Loop()
    a, _ = loop.watch("a")
    assert loop.covered().tracks == [a]
    assert loop.seconds_to_look(a) == pytest.approx(loop.pacer.interval, abs=0.01)


async def test_a_track_left_to_another_process_is_looked_at_in_the_next_slot() -> None:
    loop = Loop()
    (a, _), (b, _) = loop.watch("a"), loop.watch("b")
    loop.read_elsewhere = {"a"}
    assert loop.covered().tracks == [b]
    assert loop.seconds_to_look(a) == pytest.approx(loop.pacer.interval, abs=0.01)


async def test_a_list_whose_pages_hang_is_suspect_unless_other_reads_hang_too() -> None:
    loop = Loop()
    (a, _), (b, _) = loop.watch("a"), loop.watch("b")

    async def hang(*tracks: Watched) -> None:
        for track in tracks:
            loop.watch_list.schedule_now(track)
        loop.begin()
        await anyio.sleep(HANGS_AFTER)

    for _ in range(SUSPECT_AFTER):
        assert not loop.listings.is_suspect(WHOLE)
        await hang(a, b)
    await hang(a)
    assert loop.listings.is_suspect(WHOLE)
    await hang(a)
    assert not loop.listings.is_suspect(WHOLE)


async def test_a_read_that_cannot_work_ends_all_waits_if_none_has_ever_worked() -> None:
    loop = Loop()
    loop.watch("a")
    loop.end(loop.begin(), PERMANENT)
    (error,) = loop.ended_with
    assert str(error).startswith("GET /v1/generations/a was not sent: no such host")
    loop = Loop()
    loop.end(ReadInFlight(loop.waiter), PERMANENT)  # it had no permit yet
    (error,) = loop.ended_with
    assert str(error).startswith("GET /v1/generations was not sent: no such host")
    loop = Loop()
    loop.watch("a")
    loop.reader._last_success_at = anyio.current_time()
    loop.end(loop.begin(), PERMANENT)
    assert not loop.ended_with
