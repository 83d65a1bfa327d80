"""What the shared ledger decides: who is next, who counts, what takes a place."""

from __future__ import annotations

from math import inf

import attrs
import pytest

from finetuning_async._api._messages import ResponseFacts
from finetuning_async._coordination._exchange_messages import PermitRequest
from finetuning_async._coordination._outage_hold import MAX_WAIT
from finetuning_async._coordination._shared_ledger import MEMBER_TTL, SLACK
from finetuning_async._pacing._dealer import LOW, NORMAL
from finetuning_async._pacing._limits import RateLimit, RateLimits
from tests.coordination.test_shared_ledger import (
    LEASE,
    LIMITS,
    Ledger,
    answered_read,
    report,
    waiting,
)

TEN = RateLimits(creates=RateLimit(10), reads=RateLimit(6))
ONE = RateLimits(creates=RateLimit(1), reads=RateLimit(6))


def room(remaining: int, *, status: int = 202, limit: int = 10) -> ResponseFacts:
    return ResponseFacts(status=status, limit=limit, remaining=remaining)


def creates(
    *names: str, rank: int = NORMAL, share: str | None = None
) -> tuple[PermitRequest, ...]:
    return tuple(
        PermitRequest(id=name, budget="creates", rank=rank, share=share)
        for name in names
    )


def ready(limits: RateLimits = TEN, *, tracks: int = 0, status: int = 202) -> Ledger:
    """A ledger after one create, whose response says what is left."""
    ledger = Ledger(limits)
    assert ledger.acquire("a", 1, "a0") == {"a0"}
    left = limits.creates.limit - 1
    facts = room(left, status=status, limit=limits.creates.limit)
    answered = report(1, "a0", "answered", facts)
    ledger.exchange("a", 2, reports=(answered,), tracks_in_progress=tracks)
    return ledger


# Reports.


def test_a_report_counts_from_the_moment_of_which_it_speaks() -> None:
    ledger = ready()
    assert ledger.acquire("a", 3, "a1") == {"a1"}
    ledger.now += 10
    answered = attrs.evolve(report(2, "a1", "answered", room(8)), ago=4.0)
    reply = ledger.exchange("a", 4, reports=(answered,))
    tokens = reply.snapshots["creates"].tokens
    assert tokens[-2:] == pytest.approx((LEASE - 10, LEASE - 4))


def test_of_what_has_no_lease_only_what_was_sent_is_charged() -> None:
    ledger = ready()
    reply = ledger.exchange("b", 1, reports=(report(1, "x", "unsent"),))
    assert reply.snapshots["creates"].free == 9
    reply = ledger.exchange("b", 2, reports=(report(2, "y", "sent"),))
    assert reply.snapshots["creates"].free == 8
    ledger.now += 21
    # Its process has not said what became of it; that ended its lease a second ago.
    tokens = ledger.exchange("a", 3).snapshots["creates"].tokens
    assert tokens[-1] == pytest.approx(LEASE - 1)


def test_a_lease_ends_when_its_time_is_over() -> None:
    ledger = Ledger(ONE)
    assert ledger.acquire("a", 1, "a1") == {"a1"}
    ledger.now += 19.875
    assert ledger.exchange("b", 1).snapshots["creates"].status.next_free_in == inf
    ledger.now += 0.125
    reply = ledger.exchange("b", 2)
    assert reply.snapshots["creates"].status.next_free_in == pytest.approx(LEASE)


# Members.


def test_a_process_is_counted_for_two_minutes() -> None:
    ledger = ready()
    for later, processes in ((MEMBER_TTL, 2), (0.125, 1)):
        ledger.now += later
        assert ledger.exchange("b", 1).processes == processes


def test_a_silent_process_that_comes_back_repeats_no_report() -> None:
    ledger = ready()
    ledger.now += LEASE + 1
    ledger.exchange("b", 1)
    reply = ledger.exchange("a", 3, reports=(report(1, "a0", "answered", room(9)),))
    assert reply.snapshots["creates"].free == 10


@pytest.mark.parametrize(("later", "granted"), [(0.0, False), (0.125, True)])
def test_a_process_that_waits_keeps_its_place_until_it_is_overdue(
    later: float, granted: bool
) -> None:
    ledger = Ledger(ONE)
    assert ledger.acquire("a", 1, "a1") == {"a1"}
    reply = ledger.exchange("b", 1, permit_requests=waiting("b1"))
    assert ledger.acquire("c", 1, "c1") == frozenset()
    assert ledger.acquire("b", 2, "b1") == frozenset()  # its place is the same
    ledger.now += 1.0
    assert ledger.acquire("c", 2, "c1") == frozenset()
    ledger.now += reply.wait + SLACK - 1.0 + later
    ledger.exchange("a", 2, reports=(report(1, "a1", "unsent"),))
    assert ledger.acquire("c", 3, "c1") == ({"c1"} if granted else frozenset())


def test_what_a_process_no_longer_asks_for_leaves_the_line() -> None:
    ledger = Ledger(ONE)
    assert ledger.acquire("a", 1, "a1") == {"a1"}
    ledger.acquire("b", 1, "b1")
    ledger.acquire("c", 1, "c1")
    ledger.exchange("b", 2)
    ledger.exchange("a", 2, reports=(report(1, "a1", "unsent"),))
    assert ledger.acquire("c", 2, "c1") == {"c1"}


# Whose turn it is.


def test_shares_take_turns_from_exchange_to_exchange() -> None:
    ledger, sent = Ledger(ONE), list[str]()
    assert ledger.acquire("x", 1, "x0") == {"x0"}
    ids, asked = ["x0"], {"a": ["a1", "a2"], "b": ["b1"]}
    for number in range(1, 8):
        for name, left in asked.items():
            requests = creates(*left, share=name)
            reply = ledger.exchange(name, number, permit_requests=requests)
            sent += [each for each in left if each in reply.granted]
            ids += [each for each in left if each in reply.granted]
            asked[name] = [each for each in left if each not in reply.granted]
        ended = report(number, ids[-1], "unsent")
        ledger.exchange("x", number + 1, reports=(ended,))
    assert sent == ["a1", "b1", "a2"]


def test_turns_are_forgotten_once_nobody_waits() -> None:
    ledger = ready(ONE)
    ledger.now += LEASE
    ledger.exchange("a", 3, permit_requests=creates("a1", share="a"))
    wanted = creates("a1", "a2", share="a")
    ledger.exchange("a", 4, permit_requests=wanted)
    ledger.exchange("b", 1, permit_requests=creates("b1", share="b"))
    unsent = (report(2, "a1", "unsent"),)
    reply = ledger.exchange(
        "a", 5, reports=unsent, permit_requests=creates("a2", share="a")
    )
    assert reply.granted == {"a2"}


LOWS = creates(*(f"low{n}" for n in range(20)), rank=LOW)


def test_a_batch_goes_evenly_over_all_processes() -> None:
    ledger, sent = ready(), 0
    for number in range(3, 13):
        reply = ledger.exchange(
            "a", number, permit_requests=LOWS, creates_waiting=(0, 0, 40)
        )
        assert len(reply.granted) == 1 + (number - 3) // 6
        sent = len(reply.granted)
        ledger.now += 1.0
    assert sent == 2


def test_a_snapshot_counts_what_waits_in_the_processes_too() -> None:
    ledger = Ledger(ONE)
    ledger.acquire("x", 1, "x1")
    reply = ledger.exchange("a", 1, permit_requests=LOWS, creates_waiting=(0, 0, 40))
    creates_, reads = reply.snapshots["creates"], reply.snapshots["reads"]
    assert (creates_.waiting, creates_.status.waiting) == ((0, 0, 40), 40)
    assert (reads.waiting, reads.status.waiting) == ((0, 0, 0), 0)
    wanted = waiting("r1", "r2", budget="reads")
    reply = ledger.exchange("b", 1, permit_requests=wanted)
    assert reply.snapshots["reads"].waiting == (0, 1, 0)


def test_who_waits_behind_its_own_create_does_not_look_again_so_soon() -> None:
    limits = RateLimits(creates=RateLimit(2), reads=RateLimit(6))
    ledger = ready(limits)
    reply = ledger.exchange("a", 3, permit_requests=waiting("a1", "a2"))
    assert reply.granted == {"a1"}
    assert reply.wait == MAX_WAIT


def test_a_batch_goes_between_creates_that_wait_elsewhere() -> None:
    ledger = ready()
    ledger.exchange("b", 1, creates_waiting=(0, 1, 0))
    reply = ledger.exchange("a", 3, permit_requests=LOWS, creates_waiting=(0, 0, 40))
    assert len(reply.granted) > 1


def test_a_person_goes_at_once_beside_a_batch() -> None:
    ledger = ready()
    waits = (0, 0, 40)
    ledger.exchange("a", 3, permit_requests=LOWS, creates_waiting=waits)
    reply = ledger.exchange(
        "b", 1, permit_requests=creates("b1"), creates_waiting=(0, 1, 0)
    )
    assert reply.granted == {"b1"}


# The service's queue.


def test_creates_take_places_in_the_services_queue_and_reads_do_not() -> None:
    limits = attrs.evolve(TEN, queue=1)
    ledger = ready(limits, tracks=1)
    assert ledger.acquire("b", 1, "b1") == frozenset()
    reads = waiting("r1", "r2", budget="reads")
    reply = ledger.exchange("c", 1, permit_requests=reads)
    assert len(reply.granted) == 1, "one as a probe"
    ledger.exchange("c", 2)
    ledger.exchange("a", 3, tracks_in_progress=0)
    assert ledger.acquire("b", 2, "b1") == {"b1"}
    assert ledger.acquire("d", 1, "d1") == frozenset(), "b1 takes the place"
    ledger.exchange("b", 3, reports=(report(1, "b1", "unsent"),))
    assert ledger.acquire("d", 2, "d1") == {"d1"}
    ledger.exchange("d", 3)  # it does not want it any more, and was given it
    ledger.now += 20.0
    assert ledger.acquire("e", 1, "e1") == {"e1"}, "its time is over"


def test_a_place_that_was_never_given_away_is_free_again() -> None:
    limits = attrs.evolve(TEN, queue=1)
    ledger = ready(limits)
    assert ledger.acquire("a", 3, "a1") == {"a1"}
    assert ledger.acquire("b", 1, "b1") == frozenset()
    ledger.exchange("a", 4, reports=(report(2, "a1", "unsent"),))  # b1 is granted
    ledger.exchange("b", 2)  # and not wanted
    assert ledger.acquire("c", 1, "c1") == {"c1"}


def test_a_full_queue_is_tried_again_when_the_service_says() -> None:
    ledger = ready()
    assert ledger.acquire("a", 3, "a1") == {"a1"}
    full = ResponseFacts(
        status=429, code="QUEUE_FULL", retry_after=20.0, limit=10, remaining=8
    )
    ledger.exchange("a", 4, reports=(report(2, "a1", "answered", full),))
    for number in range(1, 11):
        assert ledger.acquire("b", number, "b1") == frozenset()
        ledger.now += 2
    assert ledger.acquire("b", 11, "b1") == {"b1"}


@pytest.mark.parametrize(("status", "granted"), [(202, 5), (300, 3), (503, 3)])
def test_what_was_accepted_shows_how_many_tracks_fit(status: int, granted: int) -> None:
    ledger = ready(tracks=5, status=status)
    ledger.exchange("a", 3, tracks_in_progress=0)
    names = [f"a{n}" for n in range(1, 8)]
    assert len(ledger.acquire("a", 4, *names)) == granted


def test_reads_are_none_of_the_queues_business() -> None:
    ledger = Ledger(LIMITS)
    answered_read(ledger)
    ledger.exchange("a", 3, permit_requests=waiting("r1", budget="reads"))
    reply = ledger.exchange("a", 4, permit_requests=waiting("a1", "a2"))
    assert len(reply.granted) == 1
