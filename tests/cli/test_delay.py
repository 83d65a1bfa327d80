"""Why a create is not accepted yet: which of the causes it is, and when it changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from finetuning_async._events import (
    RateLimited,
    RequestFailed,
    RequestSent,
    SubmissionUnknown,
)
from finetuning_async.cli import _delay_notice
from finetuning_async.cli._delay_notice import DelayTracker

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

    Run = Callable[..., Result]

CREATE = "POST /v1/generations"


def words(delay: DelayTracker, now: float, closed_for: float = 0.0) -> str:
    reason, number = delay.reason(now, closed_for)
    return reason.format(number)


def sent(at: float) -> RequestSent:
    return RequestSent(
        at=at, method="POST", path="/", attempt=1, budget="creates", available=1
    )


def refused(budget: str) -> RateLimited:
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


def test_each_cause_has_words_of_its_own() -> None:
    delay = DelayTracker()
    assert words(delay, 5) == _delay_notice.RATE_LIMIT
    delay(sent(at=1))
    assert words(delay, 9) == "no response from the service for 8 s"
    assert delay.may_be_accepted
    delay(refused("queue"))
    assert words(delay, 9) == _delay_notice.QUEUE_FULL
    assert not delay.may_be_accepted
    delay(refused("creates"))
    assert words(delay, 9, closed_for=31.2).endswith("allows the next try in 31 s")
    delay(failed("{no}\n"))
    assert "cannot reach the service ({no}\\n)" in words(delay, 9)
    delay(SubmissionUnknown(at=1, kind="music", seed=1, reason="x", given_up=False))
    assert words(delay, 9) == _delay_notice.RESPONSE_LOST
    assert delay.may_be_accepted


def test_a_try_that_is_answered_soon_does_not_change_the_cause() -> None:
    delay = DelayTracker()
    delay(refused("queue"))
    delay(sent(at=10))
    assert words(delay, 10.5) == _delay_notice.QUEUE_FULL


def test_a_full_queue_is_told_as_such_and_once(finetuning: Run, service: Any) -> None:
    service.answer(CREATE, "error_queue_full", status=429)
    ran = finetuning(["generate", "choir", "--no-wait", "--timeout", "60"])
    assert ran.exit_code == 1
    assert ran.stderr.count("not accepted yet: ") == 1
    assert f"not accepted yet: {_delay_notice.QUEUE_FULL}\n" in ran.stderr
    assert "Nothing was charged. To wait longer, raise --timeout" in ran.stderr


def test_a_service_that_cannot_be_reached_is_told_as_such(
    finetuning: Run, service: Any
) -> None:
    def refuse(request: httpx.Request) -> None:
        raise httpx.ConnectError("no route", request=request)

    service.on_request = refuse
    ran = finetuning(["generate", "choir", "--no-wait"])
    assert "not accepted yet: cannot reach the service (" in ran.stderr
    assert "queue" not in ran.stderr


@pytest.mark.parametrize("words", [["generate"], ["inst"], ["sfx", "gen"]])
def test_without_a_timeout_a_full_queue_is_waited_for(
    finetuning: Run, emulator: Any, words: list[str]
) -> None:
    object.__setattr__(emulator, "queue_size", 1)
    finetuning(["generate", "choir", "--no-wait", "--duration", "210"])
    ran = finetuning([*words, "rain", "--no-wait"])
    assert ran.exit_code == 0
    assert _delay_notice.QUEUE_FULL in ran.stderr
