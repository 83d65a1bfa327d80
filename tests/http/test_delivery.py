"""What the evidence of a failed request says to its caller; steps of connecting."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import anyio
import pytest

from finetuning_async import APIConnectionError, APITimeoutError
from finetuning_async._api._messages import Call
from finetuning_async._http._delivery import NoResponse, SendTracker

if TYPE_CHECKING:
    from finetuning_async._api._messages import Evidence

READ = Call(method="GET", path="/v1/me")
CREATE = Call(method="POST", path="/v1/generations", body={}, repeatable=False)


@pytest.mark.parametrize(
    ("call", "evidence", "safe_to_retry"),
    [
        (CREATE, "not_sent", True),
        (CREATE, "unknown", False),
        (READ, "not_sent", True),
        (READ, "unknown", True),
    ],
)
@pytest.mark.parametrize("timed_out", [False, True])
def test_only_a_create_that_may_have_left_is_not_safe_to_retry(
    call: Call, evidence: Evidence, *, safe_to_retry: bool, timed_out: bool
) -> None:
    failure = NoResponse(evidence, timed_out=timed_out, reason="reset")
    error = failure.as_error(call)
    assert error.safe_to_retry == safe_to_retry
    assert type(error) is (APITimeoutError if timed_out else APIConnectionError)
    outcome = "was not sent" if evidence == "not_sent" else "got no response"
    assert str(error).startswith(f"{call.method} {call.path} {outcome}: reset")


@pytest.mark.parametrize("evidence", ["not_sent", "unknown"])
def test_a_failure_that_would_repeat_itself_is_not_safe_to_retry(
    evidence: Evidence,
) -> None:
    failure = NoResponse(
        evidence, timed_out=False, reason="a wrong URL", is_permanent=True
    )
    for call in (READ, CREATE):
        assert not failure.as_error(call).safe_to_retry


@pytest.mark.parametrize(
    ("given", "left", "used"),
    [
        (5.0, 100.0, 5.0),
        (100.0, 10.0, 9.8),
        (None, 10.0, 9.8),
        (5.0, -1.0, 0.0),
        (5.0, inf, 5.0),
        (None, inf, None),
    ],
)
async def test_a_step_of_connecting_ends_by_itself_or_before_its_attempt_does(
    given: float | None, left: float, used: float | None
) -> None:
    tracker = SendTracker(lambda: True)
    tracker.deadline = anyio.current_time() + left
    step = {"timeout": given}
    await tracker("connection.connect_tcp.started", step)
    assert step["timeout"] == pytest.approx(used, abs=0.001)
