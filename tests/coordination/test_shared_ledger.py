"""The shared book, step by step."""

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


class Page:
    """A book, and those who write in it."""

    def __init__(self) -> None:
        self.text: str | None = None
        self.now = 1000.0
        self._rng = random.Random(2)

    def say(self, process: str, number: int, **said: Any) -> ExchangeReply:
        request = ExchangeRequest(
            process=process, number=number, limits=LIMITS, timeout=20.0, **said
        )
        self.text, reply = apply_exchange(
            self.text, request, now=self.now, rng=self._rng
        )
        return reply

    def ask(self, process: str, number: int, *names: str) -> frozenset[str]:
        requests = tuple(PermitRequest(id=name, budget="creates") for name in names)
        return self.say(process, number, permit_requests=requests).granted


def note(
    serial: int, name: str, event: Any, facts: ResponseFacts | None = None
) -> Report:
    return Report(serial=serial, id=name, budget="creates", event=event, facts=facts)


@pytest.fixture
def page() -> Page:
    """A book whose service has said that there is room for two."""
    made = Page()
    assert made.ask("a", 1, "a0") == {"a0"}
    made.now += 0.5
    made.say("a", 2, reports=(note(1, "a0", "answered", ROOM),))
    return made


def test_a_note_that_is_told_twice_is_taken_once(page: Page) -> None:
    page.say("a", 3, reports=(note(1, "a0", "answered", ROOM),))
    page.say("a", 4, reports=(note(1, "a0", "answered", ROOM),))
    assert page.ask("b", 1, "b1") == {"b1"}, "the token of a0 alone is charged"


def test_a_request_that_comes_late_is_not_acted_on(page: Page) -> None:
    page.say("a", 9, tracks_in_progress=1)
    assert page.ask("a", 5, "a1") == frozenset()
    assert page.ask("b", 1, "b1") == {"b1"}


def test_the_same_question_gets_the_same_turn(page: Page) -> None:
    assert page.ask("a", 3, "a1") == {"a1"}
    assert page.ask("a", 4, "a1") == {"a1"}
    assert page.ask("b", 1, "b1") == frozenset(), "a1 has taken the last one, once"


def test_a_turn_that_its_owner_does_not_fetch_goes_to_the_next(page: Page) -> None:
    assert page.ask("a", 3, "a1") == {"a1"}
    assert page.ask("dead", 1, "d1") == frozenset()
    assert page.ask("b", 1, "b1") == frozenset()
    page.say("a", 4, reports=(note(2, "a1", "unsent"),))  # now d1 has its turn
    page.now += 0.1
    assert page.ask("b", 2, "b1") == frozenset()
    page.now += 2 * SLACK + 1
    assert page.ask("b", 3, "b1") == {"b1"}


def test_who_died_in_the_line_is_passed_over(page: Page) -> None:
    assert page.ask("a", 3, "a1") == {"a1"}
    assert page.ask("dead", 1, "d1") == frozenset()
    assert page.ask("b", 1, "b1") == frozenset()
    for number in range(2, 6):
        page.now += 2.0
        assert page.ask("b", number, "b1") == frozenset()
    page.say("a", 4, reports=(note(2, "a1", "unsent"),))
    assert page.ask("b", 6, "b1") == {"b1"}
