"""A batch while listings are wrong: each row is paid once, with or without proof."""

from __future__ import annotations

import itertools
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import attrs
import httpx
import pytest

from benchmarks.proofs._unreliable_lists import FIELDS, HOUR, Oddities, StrangeLists
from finetuning_async import AsyncClient, GenerationRequest, RateLimit, RateLimits
from finetuning_async.batch import Batch, Options, Worker
from finetuning_async.emulator import Emulator, Fault
from finetuning_async.journal._store import MemoryStore
from tests._emulated_client import SHORT, Cookieless
from tests.batch.test_worker import drive, filled, songs

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from finetuning_async.emulator import Action

pytestmark = pytest.mark.sampled(2)

CREATES = "/v1/generations"
MODES = ("hold", "resubmit")
"""Of a create whose fate is unknown. Where cases are many, the modes take turns."""

ON_UNKNOWN = pytest.mark.parametrize("on_unknown", MODES)
PLAIN = Oddities(
    lag=0.0,
    replicas=(),
    skew=0.0,
    fields=(),
    share=1.0,
    newest_first=True,
    page=99,
    paging="right",
    jumping=0.0,
    not_found=0.0,
)


@asynccontextmanager
async def wrong_listings(
    pace: int, **odd: Any
) -> AsyncGenerator[tuple[Emulator, AsyncClient]]:
    """An emulator with wrong listings, and a client with a limit of creates."""
    emulator = Emulator(
        audio=b"ID3" + bytes(1000), queue_size=1000, generation_time=SHORT
    )
    async with emulator:
        lists = StrangeLists(emulator, attrs.evolve(PLAIN, **odd), 1)
        async with (
            Cookieless(transport=lists) as http,
            AsyncClient(
                emulator.api_key,
                base_url=emulator.base_url,
                http_client=http,
                rate_limits=RateLimits(creates=RateLimit(pace)),
            ) as client,
        ):
            yield emulator, client


async def states_of(
    client: AsyncClient, folder: Path, on_unknown: Any, rows: int, **more: Any
) -> Counter[str]:
    requests = [GenerationRequest(f"song {n}", duration=30) for n in range(rows)]
    options = Options(on_unknown=on_unknown, **more)
    async with Batch(client, folder, options=options) as batch:
        await batch.add(requests)
        return Counter([item.state async for item in batch.run()])


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("skew", "on_unknown"),
    [(-4.0, "hold"), (-600.0, "resubmit"), (-8 * HOUR, "hold"), (8 * HOUR, "resubmit")],
)
async def test_dates_by_a_wrong_clock_hide_no_row(
    tmp_path: Path, skew: float, on_unknown: str
) -> None:
    async with wrong_listings(10, skew=skew) as (service, client):
        service.add_fault(Fault("lost_after_commit", CREATES, method="POST"))
        assert await states_of(client, tmp_path, on_unknown, 4) == {"downloaded": 4}
        assert len(service.ledger) == 4


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("field", "on_unknown"),
    list(zip((f for f in FIELDS if f != "no parameters"), itertools.cycle(MODES))),
)
async def test_rows_with_missing_or_respelled_fields_match_by_their_seed(
    tmp_path: Path, field: str, on_unknown: str
) -> None:
    async with wrong_listings(10, fields=(field,)) as (service, client):
        service.add_fault(Fault("lost_after_commit", CREATES, method="POST"))
        assert await states_of(client, tmp_path, on_unknown, 4) == {"downloaded": 4}
        assert len(service.ledger) == 4


@pytest.mark.sampled(4)
@ON_UNKNOWN
async def test_rows_without_seeds_prove_nothing(
    tmp_path: Path, on_unknown: str
) -> None:
    async with wrong_listings(2, fields=("no parameters",)) as (service, client):
        service.add_fault(Fault("lost_after_commit", CREATES, method="POST"))
        assert await states_of(client, tmp_path, on_unknown, 14) == {
            "downloaded": 13,
            "held": 1,
        }
        assert len(service.ledger) == 14


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("paging", "on_unknown"),
    [
        ("no more, too early", "hold"),
        ("offset ignored", "resubmit"),
        ("first page for ever", "hold"),
        ("more for ever", "resubmit"),
    ],
)
async def test_pages_that_do_not_join_prove_nothing(
    tmp_path: Path, paging: str, on_unknown: str
) -> None:
    async with wrong_listings(2, paging=paging, page=3) as (service, client):
        service.add_fault(Fault("hide", CREATES, method="POST", seconds=1e6))
        service.add_fault(Fault("lost_after_commit", CREATES, method="POST", skip=1))
        before = Fault("lost_before_commit", CREATES, method="POST", skip=1)
        service.add_fault(before)
        await states_of(client, tmp_path, on_unknown, 10)
        made = Counter(job.prompt for job in service.tracks.values())
        assert max(made.values()) == 1


@pytest.mark.sampled(4)
@ON_UNKNOWN
async def test_pages_that_join_prove_absence(tmp_path: Path, on_unknown: str) -> None:
    async with wrong_listings(2, page=3, newest_first=False) as (service, client):
        service.add_fault(Fault("lost_before_commit", CREATES, method="POST", skip=1))
        assert await states_of(client, tmp_path, on_unknown, 14) == {"downloaded": 14}
        assert len(service.ledger) == 14


@ON_UNKNOWN
async def test_a_create_that_the_service_calls_not_queued_is_not_sent_again_for_that(
    tmp_path: Path, on_unknown: str
) -> None:
    """It was queued in fact, and the listing lags."""
    async with wrong_listings(10, lag=45.0) as (service, client):
        says = Fault(
            "status",
            CREATES,
            method="POST",
            status=500,
            code="GENERATION_FAILED",
            commit=True,
        )
        service.add_fault(says)
        assert await states_of(client, tmp_path, on_unknown, 4) == {"downloaded": 4}
        assert len(service.ledger) == 4


@pytest.mark.parametrize(
    ("odd", "on_unknown"),
    [
        ({"skew": -8 * HOUR}, "hold"),
        ({"fields": ("no type", "no date")}, "resubmit"),
        ({"lag": 60.0}, "hold"),
        ({"lag": 60.0}, "resubmit"),
    ],
)
async def test_workers_of_a_shared_journal_match_the_same_way(
    odd: Any, on_unknown: Any
) -> None:
    async with wrong_listings(10, **odd) as (service, client):
        service.add_fault(Fault("lost_after_commit", CREATES, method="POST"))
        store = MemoryStore()
        filled(store, *songs(4))
        worker = Worker(client, store, options=Options(on_unknown=on_unknown))
        ends = await drive(worker, seqs=range(1, 5))
        assert [item.state for item in ends] == ["downloaded"] * 4
        await anyio.sleep(100)
        assert len(service.ledger) == 4


def nth(number: int, action: Action) -> Fault:
    """A fault of one create."""
    return Fault(action, CREATES, method="POST", skip=number - 1)


async def test_a_failed_track_leaves_undecided_only_what_was_in_doubt_beside_it(
    tmp_path: Path,
) -> None:
    """Its refund, if it had one, may have hidden a charge of that alone."""
    async with wrong_listings(2) as (service, client):
        for fault in (
            nth(2, "lost_before_commit"),
            nth(2, "fail"),
            nth(7, "lost_before_commit"),
        ):
            service.add_fault(fault)
        quick = {"settle": 60.0, "look_every": 10.0}
        assert await states_of(client, tmp_path, "hold", 11, **quick) == {
            "downloaded": 9,
            "failed": 1,
            "held": 1,
        }
        assert len(service.ledger) == 10


async def test_a_create_in_flight_does_not_keep_another_in_doubt(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with wrong_listings(10) as (service, client):
        service.add_fault(nth(2, "lost_before_commit"))
        service.add_fault(
            Fault("delay", CREATES, method="POST", seconds=25.0, times=None)
        )
        folder, options = tmp_path / "album", Options(settle=60.0, look_every=10.0)
        requests = [GenerationRequest(f"song {n}", duration=30) for n in range(30)]
        async with Batch(client, folder, options=options) as batch:
            await batch.add(requests)
            async for _ in batch.run():
                if "sent again" in caplog.text:
                    break
            # Others were in flight all the time, and some are still to come.
            assert batch.summary.states["planned"] > 1
        assert len(service.ledger) < 30


class Gateway(httpx.AsyncBaseTransport):
    """Answers some reads itself, with an HTML page."""

    def __init__(self, behind: httpx.AsyncBaseTransport) -> None:
        self._behind = behind
        self.refusals = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        is_late = 30 < anyio.current_time() < 200  # while doubts are looked up
        is_own_read = request.url.path in {"/v1/me", "/v1/generations"}
        if is_late and is_own_read and request.method == "GET":
            self.refusals += 1
            if self.refusals % 3:
                return httpx.Response(403, html="<h1>Checking you</h1>")
        return await self._behind.handle_async_request(request)


async def test_a_403_from_a_gateway_to_a_listing_ends_no_batch(tmp_path: Path) -> None:
    emulator = Emulator(
        audio=b"ID3" + bytes(1000), queue_size=1000, generation_time=SHORT
    )
    async with emulator:
        losses: tuple[Action, ...] = ("lost_before_commit", "lost_after_commit")
        for action in losses:
            emulator.add_fault(Fault(action, path=CREATES, method="POST", skip=12))
        gateway = Gateway(emulator.transport())
        async with (
            Cookieless(transport=gateway) as http,
            AsyncClient(
                emulator.api_key, base_url=emulator.base_url, http_client=http
            ) as client,
        ):
            states = await states_of(client, tmp_path, "hold", 40)
        assert gateway.refusals > 3
        assert states["downloaded"] >= 39
        assert states.total() == 40
        assert len(emulator.ledger) == states["downloaded"]
