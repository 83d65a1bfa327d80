"""A list without responses, while ``GET`` by id works, delays no wait for long."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import httpx
import pytest

from finetuning_async._polling._listing_health import (
    FIRST_PAUSE,
    PAUSE_AFTER_FAILURES,
    ListingHealth,
)
from tests._dispatch_harness import WHOLE
from tests._scripted_service import assert_nothing_left, refusal, scripted_service
from tests.polling.test_reads_in_flight import late

if TYPE_CHECKING:
    from tests._scripted_service import ScriptedService


def spoil_lists(
    service: ScriptedService,
    how: str,
    until: float = float("inf"),
    seconds: float = 30.0,
) -> None:
    """Let the list hang, reset connections, or respond 500."""

    async def intercept(request: httpx.Request) -> httpx.Response | None:
        if "limit" not in request.url.params or anyio.current_time() >= until:
            return None
        if how == "500":
            return refusal(500, "INTERNAL")
        if how == "hangs":
            await anyio.sleep(seconds)
        raise httpx.ReadError("no response")

    service.intercept = intercept


@pytest.mark.parametrize("ends_in", [3.0, 40.0])
@pytest.mark.parametrize("how", ["hangs", "resets", "500"])
async def test_if_only_the_list_gets_no_response_each_track_is_read(
    how: str, ends_in: float
) -> None:
    async with scripted_service() as (service, client):
        ids = [service.add(f"t{n}", ends_in).id for n in range(4)]
        spoil_lists(service, how)
        assert await late(client, service, *ids) < 15
        assert_nothing_left(client)


async def test_a_list_that_got_no_response_is_tried_again() -> None:
    async with scripted_service() as (service, client):
        ids = [service.add(f"t{n}", 120.0).id for n in range(4)]
        spoil_lists(service, "resets", until=40.0)
        assert await late(client, service, *ids) < 5
        pages = [at for at, path in service.log if "?" in path]
        assert len([at for at in pages if at < 40]) <= 4
        assert len([at for at in pages if at > 100]) > 8


async def test_old_pages_that_hang_do_not_use_up_the_reads_in_flight() -> None:
    async with scripted_service(request_timeout=300) as (service, client):
        ids = [service.add(f"t{n}", 200.0).id for n in range(4)]
        spoil_lists(service, "hangs", seconds=250)
        assert await late(client, service, *ids) < 10


async def test_a_network_outage_does_not_bypass_the_list() -> None:
    async with scripted_service() as (service, client):
        ids = [service.add(f"t{n}", 100.0).id for n in range(30)]

        async def down(request: httpx.Request) -> httpx.Response | None:
            if 20 < anyio.current_time() < 60:
                raise httpx.ConnectError("no network")
            return None

        service.intercept = down
        assert await late(client, service, *ids) < 5
        assert len(service.singles) < 20


def test_two_failed_pages_and_another_read_that_works_bypass_the_list() -> None:
    listings = ListingHealth(scale=0.1)
    for now, rest in ((0.0, FIRST_PAUSE), (100.0, PAUSE_AFTER_FAILURES)):
        while not listings.is_suspect(WHOLE):
            listings.page_sent(WHOLE, now)
            listings.page_unanswered(WHOLE, now, now + 5)
            listings.page_unanswered(WHOLE, now, now + 30)  # counted already
        listings.other_read_worked(now + 4, now + 6)  # sent before
        assert listings.is_suspect(WHOLE)
        listings.other_read_worked(now + 5, now + 6)
        assert not listings.is_suspect(WHOLE)
        end = now + 6 + rest / 10
        assert not listings.is_usable(WHOLE, end - 0.1)
        assert listings.is_usable(WHOLE, end)
    listings.page_worked(WHOLE)
    assert listings.is_usable(WHOLE, 106.0)


def test_a_list_is_not_suspect_after_one_failed_page_or_if_other_reads_fail() -> None:
    listings = ListingHealth(scale=1.0)
    for now in (0.0, 10.0):
        assert not listings.is_suspect(WHOLE)
        listings.page_sent(WHOLE, now)
        listings.page_unanswered(WHOLE, now, now)
    assert listings.is_suspect(WHOLE)
    listings.other_read_failed(20.0)
    listings.other_read_worked(30.0, 30.0)
    assert listings.is_usable(WHOLE, 30.0)
    assert not listings.is_suspect(WHOLE)


def test_only_the_page_that_was_sent_last_counts_and_only_once() -> None:
    listings = ListingHealth(scale=1.0)
    for now in (0.0, 10.0, 20.0):
        listings.page_sent(WHOLE, now)
    for sent_at in (0.0, 10.0, 20.0, 20.0):
        listings.page_unanswered(WHOLE, sent_at, 25.0)
    assert not listings.is_suspect(WHOLE)
