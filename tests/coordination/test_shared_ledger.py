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
from finetuning_async._coordination._shared_ledger import SLACK
from finetuning_async._pacing._limits import RateLimit, RateLimits

LIMITS = RateLimits(creates=RateLimit(2), reads=RateLimit(6))
ROOM = ResponseFacts(status=200, limit=2, remaining=2)


class Ledger:
    """A stored ledger, and the processes that exchange with it."""

    def __init__(self) -> None:
        self.text: str | None = None
        self.now = 1000.0
        self._rng = random.Random(2)

    def exchange(self, process: str, number: int, **content: Any) -> ExchangeReply:
        request = ExchangeRequest(
            process=process, number=number, limits=LIMITS, timeout=20.0, **content
        )
        self.text, reply = apply_exchange(
            self.text, request, now=self.now, rng=self._rng
        )
        return reply

    def acquire(self, process: str, number: int, *names: str) -> frozenset[str]:
        requests = tuple(PermitRequest(id=name, budget="creates") for name in names)
        return self.exchange(process, number, permit_requests=requests).granted


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
    assert ledger.acquire("a", 3, "a1") == {"a1"}
    assert ledger.acquire("a", 4, "a1") == {"a1"}
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
