"""Retries: how often, after which pauses, and never beyond the deadline."""

from __future__ import annotations

import itertools
import random
import sys
from typing import TYPE_CHECKING

import anyio
import httpx
import pytest

from finetuning_async import APIConnectionError, AsyncClient, RateLimitError
from finetuning_async._http._retry import RetryableFailure, RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

KEY = "ft_live_" + "0" * 32


def policy(max_retries: int = 5, max_retry_wait: float = 300.0) -> RetryPolicy:
    return RetryPolicy(
        max_retries=max_retries,
        max_retry_wait=max_retry_wait,
        rng=random.Random(1),
    )


def failing(times: int) -> tuple[list[float], Callable[[], Awaitable[str]]]:
    """An attempt that succeeds at the given call; and the times of its calls."""
    made: list[float] = []

    async def attempt() -> str:
        made.append(anyio.current_time())
        if len(made) < times:
            raise RetryableFailure(APIConnectionError("down"))
        return "done"

    return made, attempt


async def test_pauses_double_up_to_eight_seconds() -> None:
    made, attempt = failing(5)
    started = anyio.current_time()
    first = RetryableFailure(APIConnectionError("down"))
    assert await policy().run(first, attempt) == "done"
    times = [started, *made]
    pauses = [b - a for a, b in itertools.pairwise(times)]
    for pause, nominal in zip(pauses, (0.5, 1, 2, 4, 8), strict=True):
        assert 0.75 * nominal <= pause <= nominal


async def test_the_number_of_retries_is_bounded() -> None:
    made, attempt = failing(100)
    with pytest.raises(APIConnectionError):
        await policy(max_retries=3).run(
            RetryableFailure(APIConnectionError("down")), attempt
        )
    assert len(made) == 3


async def test_without_retries_the_first_error_is_raised_at_once() -> None:
    made, attempt = failing(1)
    started = anyio.current_time()
    with pytest.raises(APIConnectionError):
        await policy(max_retries=0).run(
            RetryableFailure(APIConnectionError("down")), attempt
        )
    assert made == []
    assert anyio.current_time() == pytest.approx(started, abs=0.001)


async def test_a_pause_that_would_end_after_the_deadline_is_not_begun() -> None:
    made, attempt = failing(100)
    started = anyio.current_time()
    with pytest.raises(APIConnectionError):
        await policy().run(
            RetryableFailure(APIConnectionError("down")), attempt, deadline=started + 3
        )
    assert anyio.current_time() < started + 3
    assert len(made) == 2


async def test_retry_after_is_never_cut_short() -> None:
    made, attempt = failing(1)
    started = anyio.current_time()
    busy = RetryableFailure(APIConnectionError("busy", retry_after=30))
    await policy(max_retry_wait=30).run(busy, attempt)
    assert made[0] >= started + 30


async def test_a_retry_after_above_max_retry_wait_raises_at_once() -> None:
    made, attempt = failing(1)
    slow = RateLimitError("wait", status_code=429, retry_after=61)
    with pytest.raises(RateLimitError):
        await policy(max_retry_wait=60).run(RetryableFailure(slow, paced=True), attempt)
    assert made == []


async def test_another_error_ends_the_retries() -> None:
    made: list[None] = []

    async def attempt() -> None:
        made.append(None)
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        await policy().run(RetryableFailure(APIConnectionError("down")), attempt)
    assert len(made) == 1


async def test_a_cancellation_is_never_retried() -> None:
    made, attempt = failing(100)
    with anyio.move_on_after(0.1) as scope:
        await policy().run(RetryableFailure(APIConnectionError("down")), attempt)
    assert scope.cancelled_caught
    assert made == []


async def test_a_call_that_succeeds_does_not_use_tenacity(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def entered(*args: object, **options: object) -> None:
        raise AssertionError("tenacity was entered")

    module = sys.modules["finetuning_async._http._retry"]
    monkeypatch.setattr(module, "AsyncRetrying", entered)
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json={}))
    client = AsyncClient(KEY, http_client=httpx.AsyncClient(transport=transport))
    await client.health()
