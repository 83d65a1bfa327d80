"""Reads of the poll loop that fail for a while: who hears of it."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

import anyio

from tests._scripted_service import open_studio, refusal

if TYPE_CHECKING:
    import httpx
    import pytest

    from finetuning_async import AsyncClient
    from tests._scripted_service import Studio


async def outage(
    studio: Studio, client: AsyncClient, *spans: tuple[float, float]
) -> float:
    """Wait while nothing can be read in these spans; how long it took."""

    async def meddle(request: httpx.Request) -> httpx.Response | None:
        now = anyio.current_time()
        if any(begin <= now < end for begin, end in spans):
            return refusal(503, "INTERNAL_ERROR")
        return None

    began, studio.meddle = anyio.current_time(), meddle
    await client.wait_for_completion("a")
    return anyio.current_time() - began


async def test_an_outage_and_its_end_are_logged_once_each(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, logger="finetuning_async")
    async with open_studio() as (studio, client):
        studio.add("a", 220.0)
        await outage(studio, client, (50, 200))
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
    async with open_studio() as (studio, client):
        studio.add("a", 500.0)
        with anyio.move_on_after(115):
            await outage(studio, client, (10, 30), (50, 70), (95, 420))
        await anyio.sleep(300)
        await outage(studio, client, (95, 420))
        assert caplog.messages == []
