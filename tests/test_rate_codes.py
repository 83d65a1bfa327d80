"""What a 429 means is decided in one module."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

import finetuning_async
from finetuning_async import AsyncClient
from finetuning_async._rate_codes import (
    CODES,
    is_queue_full,
    is_rate_limited,
    is_uncharged,
    rate_budget_of,
)

KEY = "ft_live_" + "0" * 32
ME = {"data": {"id": "u", "email": "e@example.org", "tier": "pro", "limits": {}}}
PACKAGE = Path(finetuning_async.__file__).parent


@pytest.mark.parametrize(
    ("status", "code", "budget", "rate", "queue", "free"),
    [
        (429, "GENERATION_RATE_LIMITED", "creates", True, False, True),
        (429, "RATE_LIMITED", "reads", True, False, True),
        (429, "QUEUE_FULL", None, False, True, True),
        (429, "DAILY_LIMIT_REACHED", None, False, False, False),
        (429, None, None, True, False, False),
        (429, "HTTP_429", None, True, False, False),
        (503, "QUEUE_FULL", None, False, False, False),
        (400, "RATE_LIMITED", "reads", False, False, False),
        (200, None, None, False, False, False),
    ],
)
def test_each_429_has_one_meaning(
    status: int,
    code: str | None,
    budget: str | None,
    rate: bool,
    queue: bool,
    free: bool,
) -> None:
    assert rate_budget_of(code) == budget
    assert is_rate_limited(status, code) is rate
    assert is_queue_full(status, code) is queue
    assert is_uncharged(status, code) is free


def test_no_other_module_contains_a_429_code() -> None:
    code = re.compile(f'"({"|".join([*CODES.values(), "QUEUE_FULL"])})"')
    ours = (
        path
        for path in PACKAGE.rglob("*.py")
        if "emulator" not in path.parts and path.name != "_rate_codes.py"
    )
    assert [path.name for path in ours if code.search(path.read_text())] == []


async def test_a_429_of_a_proxy_with_code_http_429_is_waited_out() -> None:
    asked: list[float] = []

    async def proxy(_: httpx.Request) -> httpx.Response:
        asked.append(anyio.current_time())
        error: dict[str, Any] = {"error": {"code": "HTTP_429", "message": "slow down"}}
        if len(asked) < 3:
            return httpx.Response(429, headers={"Retry-After": "7"}, json=error)
        return httpx.Response(200, json=ME)

    http = httpx.AsyncClient(transport=httpx.MockTransport(proxy))
    await AsyncClient(KEY, http_client=http).me()
    first, second, third = asked
    assert second - first >= 7
    assert third - second >= 7
