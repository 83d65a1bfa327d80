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
from finetuning_async.cli._delay_notice import Delay

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

    Run = Callable[..., Result]

CREATE = "POST /v1/generations"


def words(delay: Delay, now: float, closed_for: float = 0.0) -> str:
    cause, number = delay.cause(now, closed_for)
    return cause.format(number)


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
    delay = Delay()
    assert words(delay, 5) == _delay_notice.TURN
    delay(sent(at=1))
    assert words(delay, 9) == "the service has not answered for 8 s"
    assert delay.may_be_accepted
    delay(refused("queue"))
    assert words(delay, 9) == _delay_notice.QUEUE
    assert not delay.may_be_accepted
    delay(refused("creates"))
    assert words(delay, 9, closed_for=31.2).startswith("the service asks to wait 31 s")
    delay(failed("{no}\n"))
    assert "cannot be reached ({no}\\n)" in words(delay, 9)
    delay(SubmissionUnknown(at=1, kind="music", seed=1, reason="x", given_up=False))
    assert words(delay, 9) == _delay_notice.LOST
    assert delay.may_be_accepted


def test_a_try_that_is_answered_soon_does_not_change_the_cause() -> None:
    delay = Delay()
    delay(refused("queue"))
    delay(sent(at=10))
    assert words(delay, 10.5) == _delay_notice.QUEUE


def test_a_full_queue_is_told_as_such_and_once(finetuning: Run, service: Any) -> None:
    service.answer(CREATE, "error_queue_full", status=429)
    ran = finetuning(["generate", "choir", "--no-wait", "--timeout", "60"])
    assert ran.exit_code == 1
    assert ran.stderr.count("not accepted yet: ") == 1
    assert f"not accepted yet: {_delay_notice.QUEUE}; waiting\n" in ran.stderr
    assert "Nothing was paid. A longer --timeout" in ran.stderr


def test_a_service_that_cannot_be_reached_is_told_as_such(
    finetuning: Run, service: Any
) -> None:
    def refuse(request: httpx.Request) -> None:
        raise httpx.ConnectError("no route", request=request)

    service.on_request = refuse
    ran = finetuning(["generate", "choir", "--no-wait"])
    assert "not accepted yet: the service cannot be reached (" in ran.stderr
    assert "queue" not in ran.stderr


@pytest.mark.parametrize("words", [["generate"], ["inst"], ["sfx", "gen"]])
def test_without_a_timeout_a_full_queue_is_waited_for(
    finetuning: Run, emulator: Any, words: list[str]
) -> None:
    object.__setattr__(emulator, "queue_size", 1)
    finetuning(["generate", "choir", "--no-wait", "--duration", "210"])
    ran = finetuning([*words, "rain", "--no-wait"])
    assert ran.exit_code == 0
    assert _delay_notice.QUEUE in ran.stderr
