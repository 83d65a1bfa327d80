"""Creates with an idempotency key: one track and one credit, whoever asks."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import attrs
import httpx
import pytest

from finetuning_async import (
    APIConnectionError,
    APITimeoutError,
    AsyncClient,
    ClientClosedError,
    Generation,
    GenerationFailedError,
    GenerationRequest,
    IdempotencyConflictError,
    InstrumentalRequest,
    InsufficientCreditsError,
    InternalServerError,
    InvalidRequestError,
    RateLimit,
    RateLimits,
    SoundEffectRequest,
    SubmissionUnknownError,
    WaitTimeoutError,
)
from finetuning_async._session import session_of
from finetuning_async.emulator import Emulator, Fault
from finetuning_async.journal import (
    Absent,
    Delete,
    Item,
    JournalError,
    Restarted,
    Sending,
    Update,
    step,
)
from finetuning_async.journal._credit_check import CreditBaseline, CreditReading
from finetuning_async.journal._store import MemoryStore
from tests._cancellations import (
    CANCELLERS,
    STEP_CANCELLERS,
    Canceller,
    StepCanceller,
    cancel_at_step,
    run_loop,
)
from tests._client_journals import MemoryJournal, open_journal
from tests._emulated_client import SHORT, emulated, short

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
    from pathlib import Path

    from finetuning_async._api import AnyRequest
    from finetuning_async.journal._store import Change, Committed

CREATE = "/v1/generations"
RAIN = GenerationRequest("rain", idempotency_key="k")


def posts(emulator: Emulator) -> int:
    return sum(request.method == "POST" for request in emulator.requests)


async def test_a_key_that_is_given_again_costs_nothing_and_gives_the_same_track() -> (
    None
):
    async with emulated(journal=MemoryJournal()) as (emulator, client):
        first = await client.generate("rain", idempotency_key="k")
        again = await client.generate("rain", idempotency_key="k")
        created = await client.generations.create("rain", idempotency_key="k")
        assert first.id == again.id == created.id
        assert created.status == "completed"
        assert created.audio_url == first.audio_url
        assert len(emulator.ledger) == posts(emulator) == 1


async def test_each_kind_of_create_takes_a_key() -> None:
    async with emulated(journal=MemoryJournal()) as (emulator, client):

        def creates() -> list[Callable[[], Awaitable[Any]]]:
            return [
                lambda: client.generations.create("rain", idempotency_key="1"),
                lambda: client.instrumentals.create("rain", idempotency_key="2"),
                lambda: client.sound_effects.create("rain", idempotency_key="3"),
            ]

        first = [await create() for create in creates()]
        again = [await create() for create in creates()]
        assert [track.id for track in first] == [track.id for track in again]
        assert [track.kind for track in again] == [
            "music",
            "instrumental",
            "sound_effect",
        ]
        assert posts(emulator) == 3


async def test_calls_with_one_key_at_once_get_one_track() -> None:
    async with emulated(short(latency=(0.2, 0.2)), journal=MemoryJournal()) as (
        emulator,
        client,
    ):
        ids: set[str] = set()
        high = client.with_options(max_retries=2)

        async def create(client: AsyncClient) -> None:
            ids.add((await client.generate("rain", idempotency_key="k")).id)

        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(create, client)
                group.start_soon(create, high)
        assert len(ids) == len(emulator.ledger) == posts(emulator) == 1


async def test_generate_many_takes_keys_and_repeats_what_it_made() -> None:
    requests: list[AnyRequest] = [
        GenerationRequest("rain", idempotency_key="1"),
        InstrumentalRequest("wind", idempotency_key="2"),
        SoundEffectRequest("a door", idempotency_key="3"),
        GenerationRequest("rain", idempotency_key="1"),
    ]
    async with emulated(journal=MemoryJournal()) as (emulator, client):
        ids: list[dict[str | None, str]] = []
        for _ in range(2):
            async with client.generate_many(requests) as outcomes:
                ended = [
                    (o.request.idempotency_key, o.result().id) async for o in outcomes
                ]
            assert len(ended) == 4
            ids.append(dict(ended))
        assert ids[0] == ids[1]
        assert posts(emulator) == 3


@pytest.mark.parametrize(
    "options",
    [
        {"tags": "wind"},
        {"tags": "rain", "duration": 31},
        {"tags": "rain", "duration": 30, "seed": 5},
    ],
    ids=str,
)
async def test_a_key_with_other_content_is_a_conflict_and_nothing_is_sent(
    options: dict[str, Any],
) -> None:
    async with emulated(journal=MemoryJournal()) as (emulator, client):
        await client.generate("rain", duration=30, idempotency_key="k")
        with pytest.raises(IdempotencyConflictError, match="'k'") as caught:
            await client.generate(**options, idempotency_key="k")
        assert caught.value.field == "idempotency_key"
        assert isinstance(caught.value, InvalidRequestError)
        assert posts(emulator) == 1


async def test_the_key_of_another_kind_is_a_conflict() -> None:
    async with emulated(journal=MemoryJournal()) as (emulator, client):
        await client.generate("rain", idempotency_key="k")
        with pytest.raises(IdempotencyConflictError, match="its kind"):
            await client.sound_effects.create("rain", idempotency_key="k")
        assert posts(emulator) == 1


async def test_numbers_and_keys_may_be_written_in_another_way() -> None:
    async with emulated(journal=MemoryJournal()) as (emulator, client):
        first = await client.generate(
            "rain", duration=30, key="Db", timesignature=4, idempotency_key="k"
        )
        again = await client.generate(
            "rain",
            duration=30.0,
            key="C#",
            timesignature="4",
            webhook="https://example.com/hook?token=1",
            idempotency_key="k",
        )
        assert first.id == again.id
        assert posts(emulator) == 1


@pytest.mark.parametrize("key", ["", "x" * 256, 5, b"k", "a\0b", "\ud800"], ids=repr)
@pytest.mark.parametrize("validate", [True, False])
async def test_a_bad_key_is_refused_and_nothing_is_sent(
    key: Any, validate: bool
) -> None:
    async with emulated(journal=MemoryJournal()) as (emulator, client):
        with pytest.raises(InvalidRequestError, match="idempotency_key must be"):
            await client.generate("rain", idempotency_key=key, validate=validate)
        for method in (client.journal.get, client.journal.forget, client.resume):
            with pytest.raises(InvalidRequestError, match="key must be"):
                await method(key)
        assert not emulator.requests


@pytest.mark.parametrize("key", ["x", "x" * 255, "ä" * 255, "a\nb", " "])
async def test_a_key_is_any_text_of_1_to_255_characters(key: str) -> None:
    async with emulated(journal=MemoryJournal()) as (emulator, client):
        first = await client.generate("rain", idempotency_key=key)
        assert (await client.resume(key)).id == first.id
        assert posts(emulator) == 1


async def test_without_a_journal_a_key_is_refused_with_the_way_to_get_one() -> None:
    async with emulated() as (emulator, client):
        with pytest.raises(InvalidRequestError, match=r"AsyncClient\(journal="):
            await client.generate("rain", idempotency_key="k")
        async with client.generate_many([RAIN]) as outcomes:
            errors = [outcome.error async for outcome in outcomes]
        assert isinstance(errors[0], InvalidRequestError)
        for use in (lambda: client.journal, client.resume_all):
            with pytest.raises(InvalidRequestError, match=r"AsyncClient\(journal="):
                use()
        with pytest.raises(InvalidRequestError, match=r"AsyncClient\(journal="):
            await client.resume("k")
        assert not emulator.requests


async def test_a_create_that_is_refused_leaves_nothing_behind() -> None:
    journal = MemoryJournal()
    async with emulated(Emulator(credits=0), journal=journal) as (emulator, client):
        with pytest.raises(InsufficientCreditsError):
            await client.generate("rain", idempotency_key="k")
        assert journal.states() == {}
        emulator.account.pack = 1
        await client.generate("wind", idempotency_key="k")
        assert len(emulator.ledger) == 1


async def test_a_create_that_cannot_be_sent_leaves_nothing_behind() -> None:
    journal = MemoryJournal()
    async with emulated(journal=journal, max_retries=0) as (emulator, client):
        await open_journal(client)
        emulator.add_fault(Fault("connect_refused", CREATE))
        with pytest.raises(APIConnectionError) as caught:
            await client.generate("rain", idempotency_key="k")
        assert caught.value.safe_to_retry
        assert journal.states() == {}


async def test_a_create_that_times_out_before_its_permit_leaves_nothing_behind() -> (
    None
):
    journal = MemoryJournal()
    async with emulated(short(creates_per_minute=1), journal=journal) as (
        emulator,
        client,
    ):
        await client.generations.create("first", idempotency_key="1")
        with pytest.raises(APITimeoutError) as caught:
            await client.generate("rain", idempotency_key="k", timeout=5)
        assert caught.value.safe_to_retry
        assert list(journal.states()) == ["1"]
        await anyio.sleep(120)
        assert posts(emulator) == 1


async def test_the_timeout_of_a_joined_call_is_its_own() -> None:
    emulator = short(latency=(2, 2))
    async with emulated(emulator, journal=MemoryJournal()) as (_, client):
        await client.generations.create("before")
        errors: list[APITimeoutError] = []
        tracks: list[Generation] = []

        async def create(timeout: float | None) -> None:
            try:
                track = await client.generations.create(
                    "rain", idempotency_key="k", timeout=timeout
                )
                tracks.append(track)
            except APITimeoutError as error:
                errors.append(error)

        async with anyio.create_task_group() as group:
            group.start_soon(create, None)
            await anyio.sleep(0.1)
            group.start_soon(create, 1.0)
            group.start_soon(create, 60.0)
        assert len({track.id for track in tracks}) == 1
        assert len(tracks) == 2
        assert "another call with key 'k'" in errors[0].message
        assert errors[0].safe_to_retry
        assert posts(emulator) == 2


async def test_a_cancelled_creator_hands_over_to_a_joined_call() -> None:
    emulator = short(creates_per_minute=1)
    async with emulated(emulator, journal=MemoryJournal()) as (_, client):
        await client.generations.create("first")
        tracks: list[Generation] = []

        async def join() -> None:
            tracks.append(await client.generations.create("rain", idempotency_key="k"))

        async with anyio.create_task_group() as group:
            with anyio.move_on_after(10):
                group.start_soon(anyio.sleep, 0)
                group.start_soon(_after, 1.0, join)
                await client.generations.create("rain", idempotency_key="k")
        assert len(tracks) == 1
        assert posts(emulator) == 2


async def _after(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    await anyio.sleep(seconds)
    await work()


async def test_a_lost_response_is_found_and_the_key_keeps_its_track() -> None:
    journal = MemoryJournal()
    async with emulated(journal=journal) as (emulator, client):
        emulator.add_fault(Fault("lost_after_commit", CREATE, method="POST"))
        track = await client.generate("rain", idempotency_key="k")
        assert journal.states() == {"k": "completed"}
        assert (await client.generate("rain", idempotency_key="k")).id == track.id
        assert len(emulator.ledger) == 1


async def in_doubt(
    emulator: Emulator, client: AsyncClient, fault: Any, **options: Any
) -> SubmissionUnknownError:
    """Create with a key so that its response is lost and no list shows its fate."""
    await open_journal(client)
    emulator.add_fault(Fault(fault, CREATE, method="POST"))
    emulator.add_fault(Fault("status", CREATE, method="GET", times=None))
    with pytest.raises(SubmissionUnknownError) as caught:
        await client.generate("rain", idempotency_key="k", **options)
    emulator.clear_faults()
    return caught.value


async def test_a_create_in_doubt_is_found_by_the_next_call_with_its_key() -> None:
    journal = MemoryJournal()
    async with emulated(journal=journal) as (emulator, client):
        error = await in_doubt(emulator, client, "lost_after_commit")
        assert error.safe_to_retry
        assert error.message.count("charged") == 1
        assert error.message.endswith("the same call looks again, and cannot pay twice")
        assert error.prompt == "rain"
        assert error.seed == journal.item("k").entry.seed
        assert journal.states() == {"k": "unknown"}
        (track_id,) = emulator.tracks
        assert (await client.generations.create("rain", idempotency_key="k")).id == (
            track_id
        )
        assert len(emulator.ledger) == 1


async def test_a_create_in_doubt_stays_so_while_its_absence_is_not_proved() -> None:
    journal = MemoryJournal()
    async with emulated(journal=journal) as (emulator, client):
        await in_doubt(emulator, client, "lost_before_commit")
        begun = anyio.current_time()
        for _ in range(3):
            with pytest.raises(SubmissionUnknownError, match="'k'") as caught:
                await client.generate("rain", idempotency_key="k")
            assert caught.value.safe_to_retry
        assert anyio.current_time() - begun < 60
        with pytest.raises(SubmissionUnknownError):
            await client.resume("k")
        assert journal.states() == {"k": "unknown"}
        assert not emulator.ledger


@pytest.mark.parametrize("on_unknown", ["raise", "resubmit"])
async def test_once_its_absence_is_proved_a_create_is_sent_with_the_same_seed(
    on_unknown: Any,
) -> None:
    journal = MemoryJournal()
    async with emulated(journal=journal) as (emulator, client):
        await client.generate("before")
        error = await in_doubt(
            emulator, client, "lost_before_commit", on_unknown=on_unknown
        )
        await client.generate("after")
        await anyio.sleep(400)
        track = await client.generate("rain", idempotency_key="k")
        assert track.parameters.seed == error.seed
        assert [job.prompt for job in emulator.tracks.values()] == [
            "before",
            "after",
            "rain",
        ]


class CutTitles(httpx.AsyncBaseTransport):
    """Puts half an emoji into each response, as a service that cuts titles does."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        body = await response.aread()
        body = body.replace(b'"prompt":', b'"short":"ra\\ud83d","prompt":')
        del response.headers["content-length"]
        return httpx.Response(
            response.status_code, headers=response.headers, content=body
        )


async def test_a_track_with_a_text_that_utf_8_cannot_encode_is_recorded(
    tmp_path: Path,
) -> None:
    async with short() as emulator:
        transport = CutTitles(emulator.transport())
        async with (
            httpx.AsyncClient(transport=transport) as http,
            AsyncClient(
                emulator.api_key,
                base_url=emulator.base_url,
                http_client=http,
                journal=tmp_path / "tracks.db",
            ) as client,
        ):
            track = await client.generate("rain", idempotency_key="k")
            entry = await client.journal.get("k")
            assert entry is not None
            assert entry.generation == track
            assert entry.generation.raw["short"] == "ra\ud83d"


async def test_a_resumed_call_sends_what_its_entry_says_now() -> None:
    journal = MemoryJournal()
    async with emulated(journal=journal) as (emulator, client):
        await open_journal(client)
        left = journal.leave(RAIN, holder="alive")
        journal.store.beat("alive", 3.0)
        async with anyio.create_task_group() as group:
            group.start_soon(client.resume, "k")
            await anyio.sleep(0.1)
            # Its call fails, another uses the key for something else, and dies.
            journal.store.commit([Delete(left)])
            journal.leave(GenerationRequest("wind", idempotency_key="k"))
        assert [job.prompt for job in emulator.tracks.values()] == ["wind"]


async def test_a_key_is_the_same_however_the_url_is_spelled() -> None:
    journal = MemoryJournal()
    async with emulated(journal=journal) as (emulator, client):
        first = await client.generate("rain", idempotency_key="k")
        url = emulator.base_url.upper().replace("HTTPS", "https") + ":443/"
        async with (
            httpx.AsyncClient(transport=emulator.transport()) as http,
            AsyncClient(
                emulator.api_key, base_url=url, http_client=http, journal=journal
            ) as other,
        ):
            again = await other.generate("rain", idempotency_key="k")
        assert first.id == again.id
        assert posts(emulator) == 1


class BrokenStore(MemoryStore):
    """A store that cannot commit an accepted track for some times."""

    breaks = 0

    def commit(self, changes: Sequence[Change]) -> list[Committed]:
        is_accepted = any(
            isinstance(change, Update) and change.entry.state == "accepted"
            for change in changes
        )
        if is_accepted and self.breaks:
            self.breaks -= 1
            raise JournalError("the database is gone")
        return super().commit(changes)


@asynccontextmanager
async def two_processes(
    journal: MemoryJournal, **options: Any
) -> AsyncGenerator[tuple[Emulator, AsyncClient, AsyncClient]]:
    """Two clients with leases of their own, the first of which keeps its own for ever.

    As the process of a server does, which always has a create in progress.
    """
    async with (
        emulated(journal=journal, **options) as (emulator, first),
        httpx.AsyncClient(transport=emulator.transport()) as http,
        AsyncClient(
            emulator.api_key,
            base_url=emulator.base_url,
            http_client=http,
            journal=journal,
        ) as second,
    ):
        opened = await session_of(first).recorder().journal.opened()
        async with opened.alive():
            yield emulator, first, second


@pytest.mark.parametrize("breaks", [1, 4, 5])
async def test_a_track_that_could_not_be_recorded_is_not_lost(breaks: int) -> None:
    journal = MemoryJournal(new_store=BrokenStore)
    async with two_processes(journal) as (emulator, first, second):
        store = journal.store
        assert isinstance(store, BrokenStore)
        store.breaks = breaks
        if breaks == 1:
            await first.generations.create("rain", idempotency_key="k")
        else:
            with pytest.raises(JournalError, match="is gone"):
                await first.generations.create("rain", idempotency_key="k")
        if breaks == 5:  # even then the same process finds it
            await first.generations.create("rain", idempotency_key="k")
        track = await second.generations.create("rain", idempotency_key="k", timeout=5)
        assert {*emulator.tracks} == {track.id}


async def test_a_resumed_call_that_runs_out_of_time_gives_up_its_lease() -> None:
    journal = MemoryJournal()
    limits = RateLimits(creates=RateLimit(1, per=60.0))
    async with two_processes(journal, rate_limits=limits) as (emulator, first, second):
        journal.leave(RAIN)
        await first.generations.create("wind")
        with pytest.raises(APITimeoutError):
            await first.resume("k", timeout=1.0)
        await second.generations.create("rain", idempotency_key="k", timeout=90.0)
        assert len(emulator.tracks) == 2


async def test_a_callback_may_ask_for_the_key_of_its_own_call() -> None:
    async with emulated(journal=MemoryJournal()) as (emulator, client):
        ids: list[str] = []

        async def ask_again(track: Generation) -> None:
            again = await client.generate("rain", idempotency_key="k", timeout=300.0)
            ids.extend((track.id, again.id))

        track = await client.generate(
            "rain", idempotency_key="k", on_submitted=ask_again
        )
        assert ids == [track.id] * 2
        assert posts(emulator) == 1


class TakingStore(MemoryStore):
    """A store in which another process has taken a create for absent, too early."""

    def commit(self, changes: Sequence[Change]) -> list[Committed]:
        for change in changes:
            if not isinstance(change, Update) or change.entry.state != "accepted":
                continue
            stored = self.get(change.item.seq)
            if stored.entry.lost_at is None:
                lost, _ = step(stored.entry, Restarted(1.0))
                planned, _ = step(lost, Absent())
                super().commit([Update(stored, planned)])
        return super().commit(changes)


async def test_a_late_response_is_recorded_unless_it_was_sent_again() -> None:
    journal = MemoryJournal(new_store=TakingStore)
    async with emulated(journal=journal) as (emulator, client):
        first = await client.generate("rain", idempotency_key="k")
        again = await client.generate("rain", idempotency_key="k")
        assert first.id == again.id
        assert posts(emulator) == 1


class HastyStore(MemoryStore):
    """A store in which another process takes the first one that sends for dead."""

    has_taken = False

    def commit(self, changes: Sequence[Change]) -> list[Committed]:
        results = super().commit(changes)
        for item in list(self.rows("sending")):
            if not self.has_taken:
                self.has_taken = True
                lost, _ = step(item.entry, Restarted(self.now()))
                super().commit([Update(item, lost)])
        return results


@pytest.mark.parametrize("kind", ["generations", "sound_effects"])
async def test_a_late_refusal_leaves_nothing_in_doubt(kind: str) -> None:
    journal = MemoryJournal(new_store=HastyStore)
    async with emulated(journal=journal) as (emulator, client):
        path = f"/v1/{kind.replace('_', '-')}"
        emulator.add_fault(Fault("status", path, method="POST", status=402))
        create = getattr(client, kind).create
        track = await create("rain", idempotency_key="k", timeout=10.0)
        assert journal.item("k").entry.track_id == track.id
        assert posts(emulator) == 2


async def test_credits_are_dated_when_they_were_read_however_long_a_list_is() -> None:
    journal = MemoryJournal()
    async with emulated(journal=journal) as (emulator, client):
        await in_doubt(emulator, client, "lost_before_commit")
        await anyio.sleep(100)
        emulator.add_fault(Fault("slow_answer", CREATE, seconds=25.0, times=None))
        with pytest.raises(SubmissionUnknownError):
            await client.generations.create("rain", idempotency_key="k")
        note = journal.store.read_note("balance")
        assert note is not None
        seen = CreditBaseline.from_json(note).seen
        read = [request.at for request in emulator.requests if request.path == "/v1/me"]
        assert len(seen) > 1
        assert seen[-1] - seen[0] == pytest.approx(read[-1] - read[-len(seen)], abs=3.0)


async def test_a_call_that_times_out_behind_its_lookalike_is_never_paid() -> None:
    journal = MemoryJournal()
    async with emulated(journal=journal) as (emulator, client):
        emulator.add_fault(Fault("lost_before_commit", CREATE, method="POST"))
        with pytest.raises(SubmissionUnknownError):
            await client.generations.create("rain", seed=7, idempotency_key="k")
        with pytest.raises(APITimeoutError, match="nothing was sent"):
            await client.generations.create(
                "rain", seed=7, timeout=3, idempotency_key="l"
            )
        assert journal.states() == {"k": "unknown"}


async def test_a_call_that_is_resumed_behind_its_lookalike_leaves_it_to_others() -> (
    None
):
    journal = MemoryJournal()
    async with emulated(journal=journal) as (emulator, client):
        emulator.add_fault(Fault("lost_before_commit", CREATE, method="POST"))
        with pytest.raises(SubmissionUnknownError):
            await client.generations.create("rain", seed=7, idempotency_key="k")
        journal.leave(GenerationRequest("rain", seed=7, idempotency_key="l"))
        with pytest.raises(APITimeoutError, match="nothing was sent"):
            await client.resume("l", timeout=3)
        item = journal.item("l")
        assert item.entry.state == "planned"
        assert not journal.store.is_alive(str(item.entry.holder))


class SleepyStore(MemoryStore):
    """A store whose machine sleeps for an hour once it has committed a `sending`."""

    def __init__(self) -> None:
        super().__init__()
        self.slept = 0.0
        self.states: list[str] = []

    def commit(self, changes: Sequence[Change]) -> list[Committed]:
        results = super().commit(changes)
        self.states += [item.entry.state for item in results if isinstance(item, Item)]
        if "sending" in self.states:
            self.slept = 3600.0
        return results


async def test_what_a_machine_was_about_to_send_when_it_slept_does_not_leave(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = SleepyStore()
    wall = time.time
    monkeypatch.setattr(time, "time", lambda: wall() + store.slept)
    journal = MemoryJournal(new_store=lambda: store)
    async with emulated(journal=journal) as (emulator, client):
        await client.generate("rain", idempotency_key="k")
        assert store.states[:4] == ["sending", "planned", "sending", "accepted"]
        assert posts(emulator) == 1


async def test_an_effect_does_not_keep_a_create_in_doubt() -> None:
    async with emulated(journal=MemoryJournal()) as (emulator, client):
        await client.generate("before")
        # Nobody waits for it, and it costs no credit.
        await client.sound_effects.create("a door")
        await in_doubt(emulator, client, "lost_before_commit")
        await client.generate("after")
        await anyio.sleep(400)
        await client.generate("rain", idempotency_key="k")
        assert len(emulator.ledger) == 3


async def test_an_effect_hides_no_charge() -> None:
    journal = MemoryJournal()
    async with emulated(journal=journal) as (emulator, client):
        await client.generate("before")
        await in_doubt(emulator, client, "lost_after_commit")
        await client.sound_effects.create("a door")
        base = CreditBaseline.from_json(journal.store.read_note("balance"))
        summary, left = journal.store.summary(), (await client.me()).total_remaining
        assert left is not None
        reading = CreditReading(credits=left, accepts=summary.accepts, fails=0)
        charged = base.spans[-1].gap_to(reading).charges(refunds=False)
        assert charged == (1, 1)


async def test_a_track_that_nobody_waits_for_does_not_keep_others_in_doubt() -> None:
    async with emulated(journal=MemoryJournal()) as (emulator, client):
        emulator.add_fault(Fault("fail", CREATE, method="POST"))
        left = await client.generations.create("left alone", idempotency_key="left")
        await anyio.sleep(300)
        emulator.add_fault(Fault("lost_before_commit", CREATE, method="POST"))
        with pytest.raises(SubmissionUnknownError):
            await client.generations.create("rain", idempotency_key="k")
        for _ in range(20):
            await anyio.sleep(60)
            try:
                track = await client.generations.create("rain", idempotency_key="k")
            except SubmissionUnknownError:
                continue
            break
        assert {*emulator.tracks} == {left.id, track.id}
        entry = await client.journal.get("left")
        assert entry is not None
        assert entry.state == "failed"
        assert entry.generation is not None
        assert entry.generation.id == left.id


async def test_a_failure_just_before_does_not_keep_a_lost_create_in_doubt() -> None:
    async with emulated(journal=MemoryJournal()) as (emulator, client):
        emulator.add_fault(Fault("fail", CREATE, method="POST"))
        with pytest.raises(GenerationFailedError, match="use another idempotency key"):
            await client.generate("first", idempotency_key="first")
        emulator.add_fault(Fault("lost_before_commit", CREATE, method="POST"))
        for _ in range(20):
            try:
                await client.generations.create("rain", idempotency_key="k")
            except SubmissionUnknownError:
                await anyio.sleep(60)
        assert len(emulator.ledger) == 2


async def test_a_track_that_is_deleted_does_not_keep_others_in_doubt_for_ever() -> None:
    async with emulated(journal=MemoryJournal()) as (emulator, client):
        left = await client.generations.create("left alone", idempotency_key="left")
        await anyio.sleep(300)
        await client.generations.delete([left.id])
        emulator.add_fault(Fault("lost_before_commit", CREATE, method="POST"))
        emulator.add_fault(Fault("status", "/v1/me", status=503, times=None))
        for _ in range(45):
            with pytest.raises(SubmissionUnknownError):
                await client.generations.create("rain", idempotency_key="k")
            await anyio.sleep(60)
        entry = await client.journal.get("k")
        assert entry is not None
        assert entry.state == "held"


async def held_key(emulator: Emulator, client: AsyncClient, fault: str) -> None:
    """Leave the key ``k`` held: its create lost, and the credits not shown for long."""
    await client.generate("before")
    await in_doubt(emulator, client, fault)
    emulator.add_fault(Fault("status", "/v1/me", status=503, times=None))
    if fault == "lost_after_commit":
        emulator.tracks.popitem()  # listed nowhere, though it was charged
    for _ in range(25):
        await anyio.sleep(60)
        with pytest.raises(SubmissionUnknownError):
            await client.generations.create("rain", idempotency_key="k")
    entry = await client.journal.get("k")
    assert entry is not None
    assert entry.state == "held"
    emulator.clear_faults()


async def test_a_held_create_is_sent_once_its_absence_is_proved_after_all() -> None:
    journal = MemoryJournal()
    async with emulated(journal=journal) as (emulator, client):
        await held_key(emulator, client, "lost_before_commit")
        await client.generate("after")
        track = await client.generate("rain", idempotency_key="k")
        assert [job.prompt for job in emulator.tracks.values()][-1] == "rain"
        assert track.id in emulator.tracks
        assert len(emulator.ledger) == 3


async def test_a_held_create_that_was_charged_is_never_sent_again() -> None:
    journal = MemoryJournal()
    async with emulated(journal=journal) as (emulator, client):
        await held_key(emulator, client, "lost_after_commit")
        for number in range(3):
            await client.generate(f"after {number}")
            await anyio.sleep(400)
            with pytest.raises(SubmissionUnknownError):
                await client.generate("rain", idempotency_key="k")
        assert len(emulator.ledger) == 5
        assert journal.states()["k"] == "held"


async def test_a_failed_track_fails_every_call_of_its_key() -> None:
    journal = MemoryJournal()
    async with emulated(journal=journal) as (emulator, client):
        emulator.add_fault(Fault("fail", CREATE, method="POST"))
        for _ in range(2):
            with pytest.raises(GenerationFailedError) as caught:
                await client.generate("rain", idempotency_key="k")
        created = await client.generations.create("rain", idempotency_key="k")
        assert created.id == caught.value.generation_id
        assert created.status == "failed"
        assert posts(emulator) == 1


async def test_a_wait_that_times_out_is_safe_to_retry_with_a_key_alone() -> None:
    async with emulated(journal=MemoryJournal()) as (emulator, client):
        errors: list[bool] = []
        for key in ("k", None):
            with pytest.raises(WaitTimeoutError) as caught:
                await client.generate("rain", idempotency_key=key, wait_timeout=1)
            errors.append(caught.value.safe_to_retry)
        request = GenerationRequest("wind", idempotency_key="w")
        async with client.generate_many([request], wait_timeout=1) as outcomes:
            async for outcome in outcomes:
                assert outcome.error is not None
                errors.append(outcome.error.safe_to_retry)
        assert errors == [True, False, True]
        track = await client.generate("rain", idempotency_key="k")
        assert track.status == "completed"
        assert posts(emulator) == 3


async def test_the_track_is_reported_to_each_caller_that_asks_for_it() -> None:
    async with emulated(journal=MemoryJournal()) as (_, client):
        seen: list[str] = []

        async def note(track: Generation) -> None:
            seen.append(track.id)

        for _ in range(2):
            track = await client.generations.create(
                "rain", idempotency_key="k", on_submitted=note
            )
        assert seen == [track.id, track.id]


async def test_what_a_callback_raises_reaches_its_caller_and_the_track_stays() -> None:
    journal = MemoryJournal()
    async with emulated(journal=journal) as (emulator, client):

        def fail(_: Generation) -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await client.generate("rain", idempotency_key="k", on_submitted=fail)
        assert journal.states() == {"k": "accepted"}
        await client.generate("rain", idempotency_key="k")
        assert posts(emulator) == 1


# What a process that died has left.


async def test_a_create_that_died_in_flight_is_looked_up_and_not_sent() -> None:
    journal = MemoryJournal()
    async with emulated(journal=journal) as (emulator, client):
        made = await client.generations.create("rain", seed=77)
        now = made.created_at.timestamp() if made.created_at else 0.0
        request = GenerationRequest("rain", seed=77, idempotency_key="k")
        (store,) = journal.stores.values()
        for item in list(store.rows()):
            store.commit([Delete(item)])
        journal.leave(request, Sending(77, now - 0.5))
        track = await client.generate("rain", seed=77, idempotency_key="k")
        assert track.id == made.id
        assert posts(emulator) == 1


async def test_what_dead_processes_left_keeps_no_other_create_in_doubt() -> None:
    journal = MemoryJournal()
    async with emulated(journal=journal) as (emulator, client):
        await in_doubt(emulator, client, "lost_before_commit")
        now = client._session().account.service_time() or 0.0
        sent = attrs.evolve(RAIN, idempotency_key="sent")
        journal.leave(sent, Sending(78, now))
        journal.leave(attrs.evolve(RAIN, idempotency_key="planned"))
        for _ in range(20):
            await anyio.sleep(60)
            try:
                await client.generations.create("rain", idempotency_key="k")
            except SubmissionUnknownError:
                continue
            break
        assert journal.states()["k"] == "accepted"
        assert len(emulator.ledger) == 1


async def test_a_create_that_died_before_it_was_sent_is_sent_by_the_next_call() -> None:
    journal = MemoryJournal()
    async with emulated(journal=journal) as (emulator, client):
        await open_journal(client)
        journal.leave(RAIN)
        await client.generate("rain", idempotency_key="k")
        assert journal.item("k").entry.fence == 1
        assert len(emulator.ledger) == 1


async def test_while_another_process_holds_the_lease_a_call_waits_for_its_track() -> (
    None
):
    journal = MemoryJournal()
    async with emulated(journal=journal) as (emulator, client):
        await open_journal(client)
        item = journal.leave(RAIN, holder="other")
        journal.store.beat("other", 60.0)
        with pytest.raises(APITimeoutError, match="another call with key 'k'"):
            await client.generate("rain", idempotency_key="k", timeout=30)
        assert journal.item("k") == item
        assert posts(emulator) == 0


async def test_a_lease_whose_holder_dies_is_taken_over_within_a_second() -> None:
    journal = MemoryJournal()
    async with emulated(journal=journal) as (emulator, client):
        await open_journal(client)
        journal.leave(RAIN, holder="other")
        journal.store.beat("other", 60.0)
        async with anyio.create_task_group() as group:
            group.start_soon(
                lambda: client.generations.create("rain", idempotency_key="k")
            )
            await anyio.sleep(10)
            assert posts(emulator) == 0
            journal.store.remove_holder("other")
            await anyio.sleep(1.1)
            assert posts(emulator) == 1


async def test_an_entry_that_its_holder_deletes_is_made_by_the_call_that_waited() -> (
    None
):
    journal = MemoryJournal()
    async with emulated(journal=journal) as (emulator, client):
        await open_journal(client)
        item = journal.leave(RAIN, holder="other")
        journal.store.beat("other", 60.0)
        async with anyio.create_task_group() as group:
            group.start_soon(
                lambda: client.generations.create("rain", idempotency_key="k")
            )
            await anyio.sleep(5)
            journal.store.commit([Delete(item)])
        assert journal.states() == {"k": "accepted"}
        assert posts(emulator) == 1


# Sound effects.


async def test_an_effect_in_doubt_is_held_until_a_person_releases_it() -> None:
    journal = MemoryJournal()
    async with emulated(journal=journal) as (emulator, client):
        emulator.add_fault(
            Fault("lost_before_commit", "/v1/sound-effects", method="POST")
        )
        for _ in range(3):
            with pytest.raises(SubmissionUnknownError) as caught:
                await client.sound_effects.create("a door", idempotency_key="k")
            assert caught.value.safe_to_retry
        assert "client.journal.release('k')" in caught.value.message
        assert journal.states() == {"k": "held"}
        assert posts(emulator) == 1
        await client.journal.release("k")
        effect = await client.sound_effects.create("a door", idempotency_key="k")
        assert effect.id in emulator.tracks
        assert posts(emulator) == 2


# Creates without a key.


async def test_a_create_without_a_key_is_recorded_under_a_generated_one() -> None:
    journal = MemoryJournal()
    async with emulated(journal=journal) as (emulator, client):
        for _ in range(2):
            await client.generate("rain")
        await client.sound_effects.create("a door")
        assert list(journal.states().values()) == ["completed", "completed", "accepted"]
        keys = list(journal.states())
        assert len(set(keys)) == 3
        assert all(key.startswith("auto-") for key in keys)
        assert posts(emulator) == 3


async def test_without_a_key_errors_are_those_of_a_client_without_a_journal() -> None:
    journal = MemoryJournal()
    async with emulated(journal=journal, max_retries=0) as (emulator, client):
        emulator.add_fault(
            Fault("status", CREATE, method="POST", code="GENERATION_FAILED")
        )
        with pytest.raises(InternalServerError):
            await client.generations.create("rain")
        emulator.add_fault(Fault("lost_before_commit", CREATE, method="POST"))
        with pytest.raises(SubmissionUnknownError) as caught:
            await client.generations.create("rain")
        assert not caught.value.safe_to_retry
        assert set(journal.states().values()) == {"unknown"}
        emulator.add_fault(
            Fault("status", CREATE, method="POST", status=402, code="NO_CREDITS")
        )
        with pytest.raises(InsufficientCreditsError):
            await client.generations.create("rain")
        assert len(journal.states()) == 2


# Several clients.


async def test_views_share_the_journal_and_refuse_another() -> None:
    journal = MemoryJournal()
    async with emulated(journal=journal) as (emulator, client):
        view = client.with_options(max_retries=1)
        assert client.with_options(journal=journal).journal is not None
        for other in (MemoryJournal(), "other.db", None):
            with pytest.raises(InvalidRequestError, match="all its views share"):
                client.with_options(journal=other)
        first = await client.generations.create("rain", idempotency_key="k")
        again = await view.generations.create("rain", idempotency_key="k")
        assert first.id == again.id
        assert len(journal.stores) == posts(emulator) == 1
    assert not journal.is_closed


async def test_keys_belong_to_the_account_and_not_to_the_api_key() -> None:
    journal = MemoryJournal()
    async with emulated(journal=journal) as (emulator, client):
        second, other = "ft_live_" + 32 * "b", "ft_live_" + 32 * "c"
        emulator.add_key(second)
        emulator.add_account(other)
        first = await client.generations.create("rain", idempotency_key="k")
        rotated = client.with_options(api_key=second)
        again = await rotated.generations.create("rain", idempotency_key="k")
        assert again.id == first.id
        stranger = client.with_options(api_key=other)
        theirs = await stranger.generations.create("wind", idempotency_key="k")
        assert theirs.id != first.id
        assert len(journal.stores) == 2
        assert posts(emulator) == 2


# Cancellation.


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("canceller", "after"),
    # Of each two moments one; the ways to cancel take turns.
    [
        (canceller, after)
        for number, canceller in enumerate(CANCELLERS)
        for after in [0.1, 0.3, 0.6, 0.9, 1.1, 1.6][number % 2 :: 2]
    ],
    ids=str,
)
def test_a_keyed_create_cancelled_at_any_time_is_paid_once(
    canceller: Canceller, after: float
) -> None:
    async def main() -> None:
        journal = MemoryJournal()
        service = Emulator(latency=(0.25, 0.25), generation_time=SHORT)
        async with emulated(service, journal=journal) as (
            emulator,
            client,
        ):
            await canceller.run(
                lambda: client.generations.create("rain", idempotency_key="k"), after
            )
            await check_paid_once(emulator, client, journal)

    run_loop(canceller.loop, main)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("canceller", STEP_CANCELLERS)
@pytest.mark.parametrize("is_lost", [False, True])
def test_a_keyed_create_cancelled_at_every_step_is_paid_once(
    canceller: StepCanceller, *, is_lost: bool
) -> None:
    # Of each eight steps one: the four ways to cancel take turns, in both cases.
    step, reached = STEP_CANCELLERS.index(canceller) + 4 * is_lost, True
    while reached:
        step += 8 if step else 1

        async def main(run_cancelled: Any) -> None:
            journal = MemoryJournal()
            service = Emulator(latency=(0.25, 0.25), generation_time=SHORT)
            async with emulated(service, journal=journal) as (
                emulator,
                client,
            ):
                if is_lost:
                    emulator.add_fault(
                        Fault("lost_after_commit", CREATE, method="POST")
                    )
                await run_cancelled(
                    lambda: client.generations.create("rain", idempotency_key="k")
                )
                await check_paid_once(emulator, client, journal)

        reached = cancel_at_step(canceller, step, main)
    assert step >= 20


async def check_paid_once(
    emulator: Emulator, client: AsyncClient, journal: MemoryJournal
) -> None:
    """Check what a cancelled call left, and that its key then costs one credit."""
    await anyio.sleep(1)  # let what is on the wire arrive
    states = journal.states() if journal.stores else {}
    if emulator.tracks:
        assert states in ({"k": "accepted"}, {"k": "unknown"})
    else:
        assert states == {}
    opened = await client._session().recorder().journal.opened()
    assert not opened.locks._waiting
    track = await client.generate("rain", idempotency_key="k")
    assert list(emulator.tracks) == [track.id]
    assert len(emulator.ledger) == 1
    assert journal.states() == {"k": "completed"}


async def test_closing_the_client_ends_keyed_creates_and_pays_none_twice() -> None:
    journal = MemoryJournal()
    emulator = short(creates_per_minute=1, latency=(0.2, 0.2))
    async with emulated(emulator, journal=journal) as (_, client):
        errors: list[Exception] = []

        async def create(key: str) -> None:
            try:
                await client.generations.create("rain", idempotency_key=key)
            except ClientClosedError as error:
                errors.append(error)

        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(create, f"k{number}")
            await anyio.sleep(1.5)
            await client.aclose()
        assert len(errors) == 2
        assert list(journal.states().values()) == ["accepted"]
        assert len(emulator.ledger) == 1
