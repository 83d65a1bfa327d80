"""`request_timeout`: seconds, the `Timeout` of either library, or no limit."""

from __future__ import annotations

import math
from typing import Any

import httpx
import httpx2
import pytest

from finetuning_async import InvalidRequestError
from finetuning_async._http._timeouts import as_timeout


@pytest.mark.parametrize("seconds", [0.25, 1, 30, 9e11])
def test_seconds_bound_each_step(seconds: float) -> None:
    assert as_timeout(seconds) == httpx.Timeout(seconds)


@pytest.mark.parametrize("value", [None, 1e12, math.inf, 10**400])
def test_what_no_attempt_lives_to_see_is_no_limit(value: Any) -> None:
    assert as_timeout(value) == httpx.Timeout(None)


def test_the_timeout_of_either_library_keeps_its_steps() -> None:
    ours = httpx.Timeout(30, connect=0.5, pool=None)
    assert as_timeout(ours) is ours
    assert as_timeout(httpx2.Timeout(30, connect=0.5, pool=None)) == ours


@pytest.mark.parametrize("value", [0, -1, math.nan, "30", "x", True, object])
def test_what_is_no_number_above_0_is_refused(value: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"^request_timeout"):
        as_timeout(value)
