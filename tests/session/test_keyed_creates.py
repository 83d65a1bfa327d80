"""Creates with an idempotency key: one track and one credit, whoever asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from finetuning_async import (
    APIConnectionError,
    APITimeoutError,
    AsyncClient,
    Generation,
    GenerationFailedError,
    GenerationRequest,
    IdempotencyConflictError,
    InstrumentalRequest,
    InsufficientCreditsError,
    InternalServerError,
    InvalidRequestError,
    SoundEffectRequest,
    SubmissionUnknownError,
    WaitTimeoutError,
)
from finetuning_async.emulator import Emulator, Fault
from tests._client_journals import MemoryJournal, open_journal
from tests._emulated_client import emulated, short
from tests.session._keyed import CREATE, RAIN, posts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from finetuning_async._api import AnyRequest


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
