"""Why a create is not accepted yet: the reasons, and when they change."""

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


def text(delay: DelayTracker, now: float, closed_for: float = 0.0) -> str:
    reason, number = delay.reason(now, closed_for)
    return reason.format(number)


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
    assert text(delay, 9, closed_for=31.2).endswith("allows the next try in 31 s")
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


def test_a_full_queue_is_reported_once(finetuning: Run, service: Any) -> None:
    service.respond(CREATE, "error_queue_full", status=429)
    ran = finetuning(["generate", "choir", "--no-wait", "--timeout", "60"])
    assert ran.exit_code == 1
    assert ran.stderr.count("not accepted yet: ") == 1
    assert f"not accepted yet: {_delay_notice.QUEUE_FULL}\n" in ran.stderr
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
