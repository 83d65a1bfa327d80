"""`Reconciler`: which listing, and which credits, prove that a create made no track."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import attrs
import httpx
import pytest

from finetuning_async import AsyncClient, Generation, GenerationRequest
from finetuning_async._session import session_of
from finetuning_async._submission import ListedRow
from finetuning_async.journal import Accepted, EngineOptions, ItemFactory, Journal, Row
from finetuning_async.journal._credit_check import CreditReading, Observation
from finetuning_async.journal._reconciler import Listing, Reconciler
from finetuning_async.journal._state_machine import (
    Adopted,
    Ended,
    Entry,
    Lost,
    Retried,
    Sending,
    step,
)
from finetuning_async.journal._store import MemoryStore
from tests._emulated_client import emulated

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from finetuning_async.journal import Event

KEY = "ft_live_" + "k" * 32
SETTLE = EngineOptions().settle


@attrs.frozen
class Known:
    """A journal, and what reconciles it."""

    store: MemoryStore
    reconciler: Reconciler

    def record(self, seq: int, *events: Event) -> None:
        for event in events:
            item = self.store.get(seq)
            self.store.record(item, step(item.entry, event)[0])

    def accept(self, seq: int, at: float) -> None:
        """An item's create is accepted as `track SEQ`, with its number as its seed."""
        self.record(seq, Sending(seq, at), Accepted(f"track {seq}"))

    def lose(self, seq: int, at: float) -> None:
        self.record(seq, Sending(seq, at), Lost(at, "no response"))


@asynccontextmanager
async def journal_of(*prompts: str, **options: Any) -> AsyncGenerator[Known]:
    async with emulated() as (_, client):
        store = MemoryStore()
        rows = [Row(request=GenerationRequest(prompt)) for prompt in prompts]
        store.add([ItemFactory().item(row) for row in rows])
        service, journal = session_of(client), Journal(store)
        yield Known(store, Reconciler(service, journal, EngineOptions(**options)))


def listing(seeds: dict[int, int | None], *, is_complete: bool = True) -> Listing:
    """A listing of items' tracks, which show these seeds."""
    rows = [
        ListedRow(
            id=f"track {seq}", kind="music", prompt="x", seed=seed, created_at=None
        )
        for seq, seed in seeds.items()
    ]
    return Listing(rows, {}, is_complete)


@pytest.mark.parametrize(
    ("shown", "verdict"),
    [
        (listing({3: 3, 1: 1}), "absent"),
        (listing({3: 3}), "the listing could not be read completely"),
        (listing({3: 3, 1: 1}, is_complete=False), "could not be read completely"),
        (listing({1: 1}), "no later create of this batch is listed"),
        (listing({3: 3, 1: 9}), "the service does not echo seeds"),
        (listing({3: 3, 9: None, 1: 1}), "listed tracks may be its own"),
        (listing({3: 3, 9: 5, 1: 1}), "absent"),
    ],
    ids=[
        "proof",
        "begins too late",
        "has gaps",
        "ends too early",
        "other seeds",
        "a track of nobody without a seed",
        "a track of nobody with another seed",
    ],
)
async def test_absence_takes_a_listing_of_ours_from_before_to_after_with_its_seeds(
    shown: Listing, verdict: str
) -> None:
    async with journal_of("before", "lost", "after", on_unknown="resubmit") as known:
        known.accept(1, at=100.0)
        known.lose(2, at=200.0)
        known.accept(3, at=300.0)
        await known.reconciler.load()
        judged = known.reconciler.judge(
            known.store.get(2),
            shown,
            now=200.0 + SETTLE,
            more_to_come=False,
        )
    assert verdict in judged


@pytest.mark.parametrize("time_is_local", [False, True])
async def test_a_row_without_a_seed_is_excluded_by_its_date_only_if_the_time_is_known(
    time_is_local: bool,
) -> None:
    sent_at = 30 * 86_400.0
    others = ListedRow(
        id="theirs", kind="music", prompt="x", seed=None, created_at=86_400.0
    )
    async with journal_of("before", "lost", "after", on_unknown="resubmit") as known:
        known.accept(1, at=sent_at - 100)
        known.lose(2, at=sent_at)
        known.accept(3, at=sent_at + 100)
        await known.reconciler.load()
        known.reconciler.time_is_local = time_is_local
        shown = listing({3: 3, 1: 1})
        shown.rows.append(others)
        lost = known.store.get(2)
        assert known.reconciler.match([lost], shown) == {}
        judged = known.reconciler.judge(
            lost, shown, now=sent_at + SETTLE, more_to_come=False
        )
    assert ("theirs" in judged) == time_is_local


async def test_a_track_of_the_same_moment_shows_not_how_far_a_listing_goes_back() -> (
    None
):
    async with journal_of("before", "lost", "after", "beside") as known:
        known.accept(1, at=100.0)
        known.lose(2, at=200.0)
        known.accept(3, at=300.0)
        known.accept(4, at=200.0)
        await known.reconciler.load()
        judged = known.reconciler.judge(
            known.store.get(2),
            listing({3: 3, 4: 4}),
            now=200.0 + SETTLE,
            more_to_come=False,
        )
    assert "could not be read completely" in judged


async def test_a_seed_alone_proves_a_track_only_if_it_was_drawn_here() -> None:
    async with journal_of("rain") as known:
        row = Row(request=GenerationRequest("rain", seed=2))
        known.store.add([ItemFactory().item(row)])
        known.lose(1, at=100.0)
        known.lose(2, at=100.0)
        items = map(known.store.get, (1, 2))
        found = known.reconciler.match(items, listing({1: 1, 2: 2}))
    assert found == {1: "track 1"}


async def test_a_track_that_was_adopted_from_a_folder_dates_no_listing() -> None:
    async with journal_of("adopted", "lost", "after", on_unknown="resubmit") as known:
        known.record(1, Adopted("downloaded", track_id="track 1", seed=1))
        known.lose(2, at=200.0)
        known.accept(3, at=300.0)
        await known.reconciler.load()
        judged = known.reconciler.judge(
            known.store.get(2),
            listing({3: 3}),
            now=200.0 + SETTLE,
            more_to_come=False,
        )
    assert judged == "absent"


@pytest.mark.parametrize(
    ("status", "is_current"),
    [("completed", True), ("failed", False), (None, True)],
)
async def test_a_reading_counts_unless_a_track_may_have_failed_before_it(
    status: Any, is_current: bool
) -> None:
    """One that the journal still waits for may have been refunded, or not yet."""
    async with journal_of("one", "two") as known:
        known.accept(1, at=100.0)
        known.accept(2, at=100.0)
        ended = (
            {}
            if status is None
            else {"track 2": Generation(id="track 2", status=status)}
        )
        seen = Observation(
            reading=CreditReading(credits=10, accepts=2, fails=0), at=150.0
        )
        shown = Listing([], ended, is_complete=True)
        assert await known.reconciler.observe(seen, shown) == is_current
        assert not await known.reconciler.observe(seen, None)


@pytest.mark.parametrize(
    ("seq", "meanwhile", "is_usable"),
    [
        (2, (), True),
        (2, (Sending(2, 100.0),), True),
        (2, (Sending(2, 100.0), Accepted("track 2")), False),
        (1, (Ended(failed=True),), False),
    ],
    ids=["nothing", "one is sent", "one is accepted", "one fails"],
)
async def test_credits_count_unless_a_track_was_accepted_or_failed_as_they_were_read(
    seq: int, meanwhile: tuple[Event, ...], is_usable: bool
) -> None:
    async with journal_of("one", "two") as known:
        known.accept(1, at=50.0)

        async def read_at() -> float:
            known.record(seq, *meanwhile)
            return 150.0

        seen = await known.reconciler.read_credits(read_at)
    assert (seen is not None) == is_usable
    if seen is not None:
        assert (seen.reading.credits, seen.at) == (2000, 150.0)


async def test_an_account_that_shows_no_credits_proves_nothing() -> None:
    async def read_at() -> float:
        return 150.0

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"data": {"id": "u"}})

    http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    async with http, AsyncClient(KEY, http_client=http) as client:
        journal = Journal(MemoryStore())
        reconciler = Reconciler(session_of(client), journal, EngineOptions())
        assert await reconciler.read_credits(read_at) is None


def test_the_failed_track_of_an_item_that_is_retried_stays_known_as_its_own() -> None:
    failed = Entry(state="failed", track_id="second", former=("first",))
    assert step(failed, Retried())[0].former == ("first", "second")
    refused = Entry(state="failed", former=("first",))
    assert step(refused, Retried())[0].former == ("first",)
