"""Why a create is not accepted yet: the reasons, and when they change."""

from __future__ import annotations

import re
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import given, settings, strategies as st

from finetuning_async._events import (
    CreateWaiting,
    RateLimited,
    RequestFailed,
    RequestSent,
    SubmissionUnknown,
)
from finetuning_async.cli import _delay_notice
from finetuning_async.cli._delay_notice import Delay, DelayTracker, LineInterval

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

    Run = Callable[..., Result]

CREATE = "POST /v1/generations"


def text(delay: DelayTracker, now: float, closed_for: float = 0.0) -> str:
    return str(delay.delay(now, closed_for))


def waiting(reason: Any, start: float, position: int = 0) -> CreateWaiting:
    return CreateWaiting(
        at=1,
        kind="music",
        reason=reason,
        since=1,
        position=position,
        expected_start=start,
    )


def sent(at: float) -> RequestSent:
    return RequestSent(
        at=at, method="POST", path="/", attempt=1, budget="creates", available=1
    )


def rate_limited(budget: str) -> RateLimited:
    return RateLimited(at=1, budget=budget, duration=None, code=None, request_id=None)


def failed(reason: str) -> RequestFailed:
    return RequestFailed(
        at=1,
        method="POST",
        path="/",
        attempt=1,
        budget="creates",
        reason=reason,
        not_sent=True,
        duration=1,
    )


def test_each_reason_has_its_own_text() -> None:
    delay = DelayTracker()
    assert text(delay, 5) == _delay_notice.RATE_LIMIT
    delay(sent(at=1))
    assert text(delay, 9) == "no response from the service for 8 s"
    assert delay.may_be_accepted
    delay(rate_limited("queue"))
    assert text(delay, 9) == _delay_notice.QUEUE_FULL
    assert not delay.may_be_accepted
    delay(rate_limited("creates"))
    closed = text(delay, 9, closed_for=31.2)
    assert closed == f"{_delay_notice.RETRY_AFTER}, next in 0:31"
    delay(failed("{no}\n"))
    assert "cannot reach the service ({no}\\n)" in text(delay, 9)
    delay(SubmissionUnknown(at=1, kind="music", seed=1, reason="x", given_up=False))
    assert text(delay, 9) == _delay_notice.RESPONSE_LOST
    assert delay.may_be_accepted


def test_an_attempt_with_a_quick_response_does_not_change_the_reason() -> None:
    delay = DelayTracker()
    delay(rate_limited("queue"))
    delay(sent(at=10))
    assert text(delay, 10.5) == _delay_notice.QUEUE_FULL


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("rate_limit", "waiting for the rate limit, next in 0:42, 3 before it"),
        ("retry_after", "rate limited; waiting as long as the service asked, next in"),
        ("queue", "the service's queue is full; waiting for a track to end, next in"),
    ],
)
def test_a_wait_says_its_reason_and_when_the_create_goes_out(
    reason: str, words: str
) -> None:
    delay = DelayTracker()
    delay(waiting(reason, start=52.5, position=3))
    found = delay.delay(10, 0)
    assert str(found).startswith(words)
    assert found.is_wait
    assert len(found.forms[-1]) < 36  # what a terminal of 40 columns has room for
    # A time that is over or not known is not shown.
    assert "next in" not in text(delay, 52)
    delay(waiting(reason, start=inf))
    assert "next in" not in text(delay, 52)


def test_what_happens_to_the_request_replaces_the_wait() -> None:
    delay = DelayTracker()
    delay(waiting("rate_limit", start=50))
    delay(sent(at=50))
    assert text(delay, 59) == "no response from the service for 9 s"
    delay(waiting("queue", start=70))
    assert text(delay, 60).startswith(_delay_notice.QUEUE_FULL)


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 2000)), min_size=60),
    st.booleans(),
)
@settings(max_examples=30)
def test_lines_are_at_least_ten_seconds_apart(
    seconds: list[tuple[str, int]], known: bool
) -> None:
    interval = LineInterval()
    printed = [
        now
        for now, (reason, left) in enumerate(seconds)
        if interval.is_due(Delay(reason, left if known else None), now)
    ]
    assert printed[0] == 0
    assert all(later - sooner >= 10 for sooner, later in pairwise(printed))


def test_lines_of_one_wait_come_further_apart_the_longer_it_is() -> None:
    interval = LineInterval()
    printed = [
        now
        for now in range(1200)
        if interval.is_due(Delay(_delay_notice.RATE_LIMIT, 1200 - now), now)
    ]
    assert 100 < printed[1] < 121
    assert len(printed) < 40


def test_piped_a_wait_for_the_rate_limit_is_told_in_lines(
    finetuning: Run, emulator: Any
) -> None:
    object.__setattr__(emulator, "queue_size", 100)
    for _ in range(10):  # each process has limits of its own, and the service one
        finetuning(["generate", "choir", "--no-wait", "-q"])
    ran = finetuning(["generate", "choir", "--no-wait"])
    assert ran.exit_code == 0
    told = [one for one in ran.stderr.splitlines() if one.startswith("not accepted")]
    assert 2 <= len(told) <= 6
    clock = re.compile("next in 0:[0-5][0-9]$")
    assert all(clock.search(line) for line in told)


def test_a_wait_that_is_too_long_is_refused_at_once(
    finetuning: Run, emulator: Any
) -> None:
    object.__setattr__(emulator, "queue_size", 1)
    finetuning(["generate", "choir", "--no-wait", "--duration", "210"])
    ran = finetuning(["generate", "rain", "--no-wait", "--max-wait", "5"])
    assert ran.exit_code == 1
    assert "nothing was accepted: it " in ran.stderr
    assert "--max-wait" in ran.stderr


def test_a_full_queue_is_reported(finetuning: Run, service: Any) -> None:
    service.respond(CREATE, "error_queue_full", status=429)
    ran = finetuning(["generate", "choir", "--no-wait", "--timeout", "60"])
    assert ran.exit_code == 1
    assert 1 <= ran.stderr.count("not accepted yet: ") <= 6
    assert f"not accepted yet: {_delay_notice.QUEUE_FULL}" in ran.stderr
    assert "Nothing was charged. To wait longer, raise --timeout" in ran.stderr


def test_an_unreachable_service_is_reported(finetuning: Run, service: Any) -> None:
    def refuse(request: httpx.Request) -> None:
        raise httpx.ConnectError("no route", request=request)

    service.on_request = refuse
    ran = finetuning(["generate", "choir", "--no-wait"])
    assert "not accepted yet: cannot reach the service (" in ran.stderr
    assert "queue" not in ran.stderr


@pytest.mark.parametrize("args", [["generate"], ["inst"], ["sfx", "gen"]])
def test_without_a_timeout_a_full_queue_is_waited_for(
    finetuning: Run, emulator: Any, args: list[str]
) -> None:
    object.__setattr__(emulator, "queue_size", 1)
    finetuning(["generate", "choir", "--no-wait", "--duration", "210"])
    ran = finetuning([*args, "rain", "--no-wait"])
    assert ran.exit_code == 0
    assert _delay_notice.QUEUE_FULL in ran.stderr
