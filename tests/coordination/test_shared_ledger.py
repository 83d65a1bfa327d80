"""The shared ledger, exchange by exchange."""

from __future__ import annotations

import random
from typing import Any

import pytest

from finetuning_async._api._messages import ResponseFacts
from finetuning_async._coordination._exchange import apply_exchange
from finetuning_async._coordination._exchange_messages import (
    ExchangeReply,
    ExchangeRequest,
    PermitRequest,
    Report,
)
from finetuning_async._coordination._outage_hold import (
    MAX_WAIT,
    MIN_WAIT,
    NOTICED_WITHIN,
    REPORT_WINDOW,
)
from finetuning_async._coordination._shared_ledger import SLACK
from finetuning_async._pacing._limits import RateLimit, RateLimits

LEASE = 60.05
LIMITS = RateLimits(creates=RateLimit(2), reads=RateLimit(6))
ROOM = ResponseFacts(status=200, limit=2, remaining=2)


class Ledger:
    """A stored ledger, and the processes that exchange with it."""

    def __init__(self, limits: RateLimits = LIMITS) -> None:
        self.limits = limits
        self.text: str | None = None
        self.now = 1000.0
        self._rng = random.Random(2)

    def exchange(self, process: str, number: int, **content: Any) -> ExchangeReply:
        request = ExchangeRequest(
            process=process,
            number=number,
            limits=self.limits,
            timeout=20.0,
            **content,
        )
        self.text, reply = apply_exchange(
            self.text, request, now=self.now, rng=self._rng
        )
        return reply

    def acquire(self, process: str, number: int, *names: str) -> frozenset[str]:
        return self.exchange(process, number, permit_requests=waiting(*names)).granted


def waiting(*names: str, budget: Any = "creates") -> tuple[PermitRequest, ...]:
    return tuple(PermitRequest(id=name, budget=budget) for name in names)


def report(
    serial: int, name: str, event: Any, facts: ResponseFacts | None = None
) -> Report:
    return Report(serial=serial, id=name, budget="creates", event=event, facts=facts)


@pytest.fixture
def ledger() -> Ledger:
    """A ledger whose service has said that two creates are left."""
    made = Ledger()
    assert made.acquire("a", 1, "a0") == {"a0"}
    made.now += 0.5
    made.exchange("a", 2, reports=(report(1, "a0", "answered", ROOM),))
    return made


def test_a_repeated_report_is_applied_once(ledger: Ledger) -> None:
    ledger.exchange("a", 3, reports=(report(1, "a0", "answered", ROOM),))
    ledger.exchange("a", 4, reports=(report(1, "a0", "answered", ROOM),))
    assert ledger.acquire("b", 1, "b1") == {"b1"}, "the token of a0 alone is charged"


def test_an_exchange_that_arrives_late_is_not_applied(ledger: Ledger) -> None:
    ledger.exchange("a", 9, tracks_in_progress=1)
    assert ledger.acquire("a", 5, "a1") == frozenset()
    assert ledger.acquire("b", 1, "b1") == {"b1"}


def test_a_repeated_permit_request_gets_the_same_permit(ledger: Ledger) -> None:
    for number in (3, 3, 4):  # a store may apply an exchange twice
        assert ledger.acquire("a", number, "a1") == {"a1"}
    assert ledger.acquire("b", 1, "b1") == frozenset(), "a1 has the last token, once"


def test_a_permit_that_is_not_claimed_goes_to_the_next_process(ledger: Ledger) -> None:
    assert ledger.acquire("a", 3, "a1") == {"a1"}
    assert ledger.acquire("dead", 1, "d1") == frozenset()
    assert ledger.acquire("b", 1, "b1") == frozenset()
    ledger.exchange("a", 4, reports=(report(2, "a1", "unsent"),))  # now d1 is granted
    ledger.now += 0.1
    assert ledger.acquire("b", 2, "b1") == frozenset()
    ledger.now += 2 * SLACK + 1
    assert ledger.acquire("b", 3, "b1") == {"b1"}


def test_a_process_that_died_while_waiting_is_passed_over(ledger: Ledger) -> None:
    assert ledger.acquire("a", 3, "a1") == {"a1"}
    assert ledger.acquire("dead", 1, "d1") == frozenset()
    assert ledger.acquire("b", 1, "b1") == frozenset()
    for number in range(2, 6):
        ledger.now += 2.0
        assert ledger.acquire("b", number, "b1") == frozenset()
    ledger.exchange("a", 4, reports=(report(2, "a1", "unsent"),))
    assert ledger.acquire("b", 6, "b1") == {"b1"}


def test_a_timer_that_fires_early_skips_no_rule(ledger: Ledger) -> None:
    assert ledger.acquire("a", 3, "a1") == {"a1"}
    ledger.exchange("a", 4, reports=(report(2, "a1", "answered", ROOM),))
    ledger.now += LEASE - 5e-7
    # Both tokens are back, but what the service said of room is out of date.
    assert len(ledger.acquire("b", 1, "b1", "b2")) == 1


def test_a_process_looks_again_when_its_permit_may_come(ledger: Ledger) -> None:
    assert ledger.exchange("b", 1).wait == MAX_WAIT
    answered = ledger.now
    assert ledger.acquire("a", 3, "a1") == {"a1"}

    def wait_of(process: str, number: int) -> float:
        requests = waiting(f"{process}1")
        return ledger.exchange(process, number, permit_requests=requests).wait

    assert wait_of("b", 2) == MIN_WAIT, "another process may be answered any moment"
    ledger.now += 0.25
    ledger.exchange("a", 4, reports=(report(2, "a1", "answered", ROOM),))
    assert wait_of("b", 3) == MAX_WAIT
    ledger.exchange("a", 5, permit_requests=waiting("r1", budget="reads"))
    assert wait_of("b", 4) == MAX_WAIT, "a read in flight is none of its business"
    ledger.now = answered + LEASE - 0.5
    assert wait_of("b", 5) == pytest.approx(0.5)
    reply = ledger.exchange("c", 1, permit_requests=waiting("c1"))
    assert reply.wait == pytest.approx(0.75), "its token is the second"
    creates = reply.snapshots["creates"]
    assert creates.tokens == pytest.approx((0.5, 0.75))
    assert creates.status.waiting == 2
    assert creates.newcomer_in == pytest.approx(LEASE - 0.5, abs=1)


def answered_read(ledger: Ledger) -> None:
    """The service says that five reads are left."""
    ledger.exchange("a", 1, permit_requests=waiting("r0", budget="reads"))
    room = ResponseFacts(status=200, limit=6, remaining=5)
    answered = Report(serial=1, id="r0", budget="reads", event="answered", facts=room)
    ledger.exchange("a", 2, reports=(answered,))


def test_what_the_service_says_of_room_is_used_at_once() -> None:
    ledger = Ledger()
    answered_read(ledger)
    reads = waiting("r1", "r2", "r3", budget="reads")
    assert len(ledger.exchange("a", 3, permit_requests=reads).granted) == 3


# After an outage.


@pytest.mark.parametrize(("per", "silence"), [(6.0, 1.0), (240.0, 5.0)])
def test_how_long_silence_is_follows_from_the_longest_period(
    per: float, silence: float
) -> None:
    limits = RateLimits(creates=RateLimit(2, per=per), reads=RateLimit(6, per=per))
    ledger = Ledger(limits)
    assert ledger.acquire("a", 1, "a1") == {"a1"}
    assert ledger.acquire("b", 1, "b1") == frozenset()
    ledger.now += silence
    reads = waiting("r1", budget="reads")
    assert ledger.exchange("a", 2, permit_requests=reads).granted == {"r1"}


def test_a_process_that_is_alone_is_not_held_up_by_its_own_outage(
    ledger: Ledger,
) -> None:
    ledger.now += 10
    requests = waiting("a1")
    reply = ledger.exchange("a", 3, degraded_for=8.0, permit_requests=requests)
    assert reply.granted == {"a1"}


@pytest.mark.parametrize(
    ("later", "granted"), [(NOTICED_WITHIN, False), (NOTICED_WITHIN + 0.25, True)]
)
def test_who_had_the_store_while_another_had_not_shows_that_it_was_there(
    ledger: Ledger, later: float, granted: bool
) -> None:
    ledger.now += 1.5
    ledger.exchange("b", 1)
    reached = ledger.now
    ledger.now += 2.0
    requests = waiting("a1")
    degraded_for = ledger.now - (reached - later)
    reply = ledger.exchange("a", 3, degraded_for=degraded_for, permit_requests=requests)
    assert bool(reply.granted) == granted


def test_when_the_hold_ends_one_request_goes_as_in_a_new_process() -> None:
    ledger = Ledger()
    answered_read(ledger)
    ledger.exchange("b", 1)
    ledger.now += 4.0
    reads = waiting("r1", "r2", "r3", budget="reads")
    held = ledger.exchange("a", 3, degraded_for=4.0, permit_requests=reads)
    assert not held.granted
    room = ResponseFacts(status=200, limit=6, remaining=4)
    late = Report(serial=1, id="r9", budget="reads", event="answered", facts=room)
    ledger.exchange("b", 2, reports=(late,))  # it sent that in the outage
    ledger.now += REPORT_WINDOW
    reply = ledger.exchange("a", 4, permit_requests=reads)
    assert reply.granted == {"r1"}, "others may have used what was left"


def test_an_emptied_store_holds_once_for_all_that_knew_what_it_lost() -> None:
    ledger = Ledger()
    requests = waiting("a1")
    first = ledger.exchange("a", 1, epoch="lost", permit_requests=requests)
    ledger.now += REPORT_WINDOW / 2
    ledger.exchange("b", 1, epoch="lost")
    again = ledger.exchange("a", 2, epoch=first.epoch, permit_requests=requests)
    assert not again.granted
    ledger.now += REPORT_WINDOW / 2
    again = ledger.exchange("a", 3, epoch=first.epoch, permit_requests=requests)
    assert again.granted == {"a1"}


def test_one_hold_is_enough_for_all_that_come_back_from_an_outage(
    ledger: Ledger,
) -> None:
    ledger.exchange("b", 1)
    ledger.now += 4
    requests = waiting("a1")
    ledger.exchange("a", 3, degraded_for=3.5, permit_requests=requests)
    ledger.now += REPORT_WINDOW / 2
    late = 3.5 + REPORT_WINDOW / 2
    ledger.exchange("b", 2, degraded_for=late)
    assert not ledger.exchange("a", 4, permit_requests=requests).granted
    ledger.now += REPORT_WINDOW / 2
    assert ledger.exchange("a", 5, permit_requests=requests).granted == {"a1"}
    # The next outage is another one.
    ledger.now += 4
    requests = waiting("b1")
    reply = ledger.exchange("b", 3, degraded_for=3.5, permit_requests=requests)
    assert not reply.granted
    assert reply.snapshots["creates"].status.closed_for == 0


def test_silence_in_an_outage_counts_although_others_are_back_already(
    ledger: Ledger,
) -> None:
    ledger.exchange("b", 1)
    ledger.now += 5
    ledger.exchange("b", 2)  # it did not need the store meanwhile
    ledger.now += 1
    requests = waiting("a1")
    reply = ledger.exchange("a", 3, degraded_for=5.5, permit_requests=requests)
    assert not reply.granted


@pytest.mark.parametrize(("who", "granted"), [("a", True), ("b", False)])
def test_silence_means_an_outage_only_while_another_process_waits(
    ledger: Ledger, who: str, granted: bool
) -> None:
    assert ledger.acquire("c", 1, "c1") == {"c1"}
    assert ledger.acquire(who, 3, "x1") == frozenset()
    ledger.now += 3
    requests = waiting("r1", budget="reads")
    if who == "a":
        requests += waiting("x1")
    assert bool(ledger.exchange("a", 4, permit_requests=requests).granted) == granted
