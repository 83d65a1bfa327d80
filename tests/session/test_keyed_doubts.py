"""Creates with a key whose response was lost: found, held, or sent once more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from finetuning_async import (
    AsyncClient,
    GenerationFailedError,
    SubmissionUnknownError,
)
from finetuning_async.emulator import Emulator, Fault
from finetuning_async.journal._credit_check import CreditBaseline, CreditReading
from tests._client_journals import MemoryJournal
from tests._emulated_client import Cookieless, emulated, short
from tests.session._keyed import CREATE, in_doubt, posts

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_lost_response_is_found_and_the_key_keeps_its_track() -> None:
    journal = MemoryJournal()
    async with emulated(journal=journal) as (emulator, client):
        emulator.add_fault(Fault("lost_after_commit", CREATE, method="POST"))
        track = await client.generate("rain", idempotency_key="k")
        assert journal.states() == {"k": "completed"}
        assert (await client.generate("rain", idempotency_key="k")).id == track.id
        assert len(emulator.ledger) == 1


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
            Cookieless(transport=transport) as http,
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
