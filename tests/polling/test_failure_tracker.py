"""Reads of the poll loop that fail for a while: what is logged."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

import anyio

from finetuning_async import APIResponseError, APIStatusError, InternalServerError
from finetuning_async._polling._failure_tracker import (
    BELIEVED_AFTER,
    BELIEVED_COUNT,
    MAX_SKIPPED,
    WARN_AFTER,
    WARN_AGAIN_AFTER,
    FailureTracker,
    is_refusal,
    is_unclear,
)
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


# The tracker without the poll loop.

OUTAGE = InternalServerError("x", status_code=500, code="INTERNAL_ERROR")
UNCLEAR = APIResponseError("no JSON")


def test_what_the_service_itself_refuses_is_a_refusal() -> None:
    def error(status: int, code: str | None) -> APIStatusError:
        return APIStatusError("x", status_code=status, code=code)

    own = {status: error(status, "SOME_CODE") for status in (399, 400, 404, 499)}
    assert [s for s, each in own.items() if is_refusal(each)] == [400, 404, 499]
    assert not any(map(is_unclear, own.values()))
    foreign = {status: error(status, None) for status in (302, 400, 404, 499, 500)}
    assert [s for s, each in foreign.items() if is_unclear(each)] == [
        302,
        400,
        404,
        499,
    ]
    passing = [error(status, "SOME_CODE") for status in (408, 425, 429, 500)]
    assert not any(is_refusal(each) or is_unclear(each) for each in passing)
    assert not any(map(is_refusal, foreign.values()))


def test_after_each_failure_more_slots_are_skipped_up_to_a_limit() -> None:
    tracker = FailureTracker(scale=1.0)
    skipped = [tracker.on_failure(0.0, OUTAGE) for _ in range(6)]
    assert skipped == [1, 3, 7, MAX_SKIPPED, MAX_SKIPPED, MAX_SKIPPED]


def test_half_a_minute_of_failures_is_logged_and_so_is_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, logger="finetuning_async")
    tracker = FailureTracker(scale=1.0)
    tracker.on_failure(0.0, OUTAGE)
    tracker.on_failure(WARN_AFTER - 1, OUTAGE)
    tracker.on_success(WARN_AFTER - 0.5)
    assert not caplog.messages
    tracker.on_failure(100.0, OUTAGE)
    tracker.on_failure(100.0 + WARN_AFTER, OUTAGE)
    tracker.on_success(100.0 + WARN_AFTER)
    assert len(caplog.messages) == 2


def test_gateways_are_logged_once_in_ten_minutes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, logger="finetuning_async")
    tracker = FailureTracker(scale=1.0)
    logged = []
    for now in (0.0, WARN_AGAIN_AFTER - 1, WARN_AGAIN_AFTER):
        tracker.on_failure(now, UNCLEAR)
        tracker.on_success(now)
        logged.append(len(caplog.messages))
    assert logged == [1, 1, 2]


def test_refusals_of_a_gateway_persist_if_nothing_else_arrives_for_long() -> None:
    tracker = FailureTracker(scale=1.0)
    assert not tracker.persists(0.0)
    for number in range(BELIEVED_COUNT - 1):
        tracker.on_failure(float(number), UNCLEAR)
    assert not tracker.persists(BELIEVED_AFTER), "so few may be chance"
    tracker.on_failure(BELIEVED_AFTER - 1, UNCLEAR)
    assert not tracker.persists(BELIEVED_AFTER - 1)
    assert tracker.persists(BELIEVED_AFTER)
    tracker.on_failure(BELIEVED_AFTER, OUTAGE)
    assert not tracker.persists(BELIEVED_AFTER), "the last one is the service's own"
