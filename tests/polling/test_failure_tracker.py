"""Reads of the poll loop that fail for a while: what is logged."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

import anyio

from tests._scripted_service import refusal, scripted_service

if TYPE_CHECKING:
    import httpx
    import pytest

    from finetuning_async import AsyncClient
    from tests._scripted_service import ScriptedService


async def outage(
    service: ScriptedService, client: AsyncClient, *spans: tuple[float, float]
) -> float:
    """Wait while no read works within these spans; return how long it took."""

    async def intercept(request: httpx.Request) -> httpx.Response | None:
        now = anyio.current_time()
        if any(begin <= now < end for begin, end in spans):
            return refusal(503, "INTERNAL_ERROR")
        return None

    began, service.intercept = anyio.current_time(), intercept
    await client.wait_for_completion("a")
    return anyio.current_time() - began


async def test_an_outage_and_its_end_are_logged_once_each(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, logger="finetuning_async")
    async with scripted_service() as (service, client):
        service.add("a", 220.0)
        await outage(service, client, (50, 200))
        first, second = caplog.messages
        assert re.fullmatch(
            r"reading tracks has failed for 3\d s and is being retried: .*503.*", first
        )
        assert re.fullmatch(
            r"reading tracks works again, after 1[56]\d s of failures", second
        )


async def test_short_outages_and_outages_without_waiters_are_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, logger="finetuning_async")
    async with scripted_service() as (service, client):
        service.add("a", 500.0)
        with anyio.move_on_after(115):
            await outage(service, client, (10, 30), (50, 70), (95, 420))
        await anyio.sleep(300)
        await outage(service, client, (95, 420))
        assert caplog.messages == []
