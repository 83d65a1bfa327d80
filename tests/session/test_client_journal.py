"""`client.journal`: what became of the creates of an account; and `journal=`."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from finetuning_async import (
    AsyncClient,
    FinetuningError,
    GenerationRequest,
    IdempotencyConflictError,
    InvalidRequestError,
    SubmissionUnknownError,
)
from finetuning_async.emulator import Fault
from finetuning_async.journal import (
    Accepted,
    Held,
    JournalError,
    Lost,
    Sending,
)
from finetuning_async.journal._store import MemoryStore
from tests._client_journals import MemoryJournal, open_journal
from tests._emulated_client import emulated, short

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from finetuning_async.journal import Change, Committed

CREATE = "/v1/generations"
RAIN = GenerationRequest("rain", idempotency_key="k")
NO_PATHS = [":memory:", "host=db dbname=music", "dbname = music"]
HELD = (Sending(7, 1.0), Lost(2.0, "it was lost"), Held("it may be any of two"))


async def test_an_entry_says_what_became_of_a_key() -> None:
    async with emulated(journal=MemoryJournal()) as (_, client):
        assert await client.journal.get("k") is None
        track = await client.generate("rain", lyrics="drip", idempotency_key="k")
        entry = await client.journal.get("k")
        assert entry is not None
        assert entry.key == "k"
        assert entry.state == "completed"
        assert entry.generation_id == track.id
        assert entry.generation == track
        assert entry.request.kind == "music"
        # Created from the entry, it costs nothing.
        assert entry.request.idempotency_key == "k"
        assert entry.credits == 1
        assert entry.error is None


async def test_waiting_watching_and_reading_record_how_a_track_ended() -> None:
    async with emulated(journal=MemoryJournal()) as (emulator, client):
        emulator.add_fault(Fault("fail", CREATE, method="POST", skip=1))
        one = await client.generations.create("rain", idempotency_key="1")
        two = await client.generations.create("wind", idempotency_key="2")
        await client.wait_for_completion(one.id)
        async for _ in client.watch(two.id):
            pass
        effect = await client.sound_effects.create("a door", idempotency_key="3")
        await anyio.sleep(60)
        await client.sound_effects.get(effect.id)
        states = {e.key: (e.state, e.error is None) async for e in entries(client)}
        assert states == {
            "1": ("completed", True),
            "2": ("failed", False),
            "3": ("completed", True),
        }


def entries(client: AsyncClient, state: Any = None) -> Any:
    return client.journal.entries(state)


async def test_entries_come_oldest_first_and_by_state() -> None:
    journal = MemoryJournal()
    async with emulated(journal=journal) as (_, client):
        await open_journal(client)
        for number in range(450):
            request = GenerationRequest("rain", idempotency_key=f"{number:03}")
            journal.leave(request, Sending(number + 1, 1.0), Accepted(f"t{number}"))
        journal.leave(RAIN, *HELD)
        keys = [entry.key async for entry in entries(client)]
        assert keys == [*(f"{number:03}" for number in range(450)), "k"]
        assert [e.key async for e in entries(client, "held")] == ["k"]
        assert [e.key async for e in entries(client, "failed")] == []


@pytest.mark.parametrize("state", ["done", "", 5, "Held"])
async def test_entries_of_a_state_that_there_is_not_are_refused(state: Any) -> None:
    async with emulated(journal=MemoryJournal()) as (_, client):
        with pytest.raises(InvalidRequestError, match="planned, sending"):
            await anext(entries(client, state))


async def test_what_is_added_is_sent_by_resume_and_paid_once() -> None:
    places: list[int] = []
    states: list[str] = []
    service = short(queue_size=100)  # so that the rate limit is waited for
    async with emulated(service, journal=MemoryJournal()) as (emulator, client):
        for _ in "12":  # the second changes nothing
            entry = await client.journal.add(RAIN, share="ann")
            assert (entry.state, entry.share) == ("planned", "ann")
        for number in range(10):
            await client.generations.create(f"song {number}")
        accepted: list[str] = []
        track = await client.resume(
            "k",
            on_waiting=lambda event: places.append(event.position),
            on_submitted=lambda track: accepted.append(track.id),
            on_update=lambda track: states.append(track.status),
        )
        assert accepted == [track.id]
        assert places[0] == 0
        assert states[-1] == "completed"
        assert len(emulator.ledger) == 11
        added = await client.journal.add(RAIN)
        assert added.generation_id == track.id
        found = await client.journal.find(track.id)
        assert found == await client.journal.get("k")
        assert await client.journal.find("no such track") is None


async def test_what_is_added_is_sent_by_resume_all_in_a_later_process() -> None:
    journal = MemoryJournal()
    async with emulated(journal=journal) as (emulator, client):
        await client.journal.add(RAIN)
        async with client.resume_all() as outcomes:
            (outcome,) = [outcome async for outcome in outcomes]
        assert outcome.result().prompt == "rain"
        assert len(emulator.ledger) == 1


async def test_what_cannot_be_created_is_not_added() -> None:
    journal = MemoryJournal()
    async with emulated(journal=journal) as (_, client):
        await client.journal.add(RAIN)
        with pytest.raises(IdempotencyConflictError, match="tags"):
            await client.journal.add(GenerationRequest("wind", idempotency_key="k"))
        hook = "https://me.example/hook?token=1"
        for request in (
            GenerationRequest("rain"),
            GenerationRequest("rain", bpm=1, idempotency_key="2"),
            GenerationRequest("rain", webhook=hook, idempotency_key="3"),
        ):
            with pytest.raises(InvalidRequestError) as caught:
                await client.journal.add(request)
            assert "token" not in str(caught.value)
        assert journal.states() == {"k": "planned"}


async def test_the_newest_entries_of_a_prefix_are_paged() -> None:
    async with emulated(journal=MemoryJournal()) as (_, client):
        for key in ("ann:1", "bob:1", "ann:2", "ann:3"):
            await client.journal.add(GenerationRequest("rain", idempotency_key=key))
        page = await client.journal.newest("ann:", limit=2)
        assert [entry.key for entry in page] == ["ann:3", "ann:2"]
        rest = await client.journal.newest("ann:", before="ann:2")
        assert [entry.key for entry in rest] == ["ann:1"]
        with pytest.raises(InvalidRequestError, match="before"):
            await client.journal.newest("ann:", before="ann:9")
        with pytest.raises(InvalidRequestError, match="limit"):
            await client.journal.newest(limit=0)


async def test_what_is_forgotten_is_made_anew_and_paid_again() -> None:
    async with emulated(journal=MemoryJournal()) as (emulator, client):
        first = await client.generate("rain", idempotency_key="k")
        assert await client.journal.forget("k") is True
        assert await client.journal.forget("k") is False
        assert (await client.generate("wind", idempotency_key="k")).id != first.id
        assert len(emulator.ledger) == 2


async def test_what_is_being_created_cannot_be_forgotten() -> None:
    journal = MemoryJournal()
    async with emulated(short(latency=(1, 1)), journal=journal) as (_, client):
        await open_journal(client)
        async with anyio.create_task_group() as group:
            group.start_soon(
                lambda: client.generations.create("rain", idempotency_key="k")
            )
            await anyio.sleep(3)
            with pytest.raises(JournalError, match="'k' is sending"):
                await client.journal.forget("k")
        assert await client.journal.forget("k")


async def test_only_what_is_held_can_be_released() -> None:
    journal = MemoryJournal()
    async with emulated(journal=journal) as (emulator, client):
        with pytest.raises(InvalidRequestError, match="there is no such entry"):
            await client.journal.release("k")
        await client.generate("rain", idempotency_key="done")
        with pytest.raises(InvalidRequestError, match="completed"):
            await client.journal.release("done")
        journal.leave(RAIN, *HELD)
        await client.journal.release("k")
        assert journal.item("k").entry.state == "planned"
        assert len(emulator.ledger) == 1
        track = await client.generate("rain", idempotency_key="k")
        assert track.parameters.seed == 7


async def test_a_held_create_is_looked_for_and_else_says_how_to_release_it() -> None:
    journal = MemoryJournal()
    async with emulated(journal=journal) as (emulator, client):
        await open_journal(client)
        journal.leave(RAIN, *HELD)
        with pytest.raises(SubmissionUnknownError, match="release") as caught:
            await client.generate("rain", idempotency_key="k")
        assert caught.value.seed == 7
        assert "it may be any of two" in caught.value.message
        assert not emulator.ledger


@pytest.mark.parametrize(
    "journal",
    [5, b"tracks.db", "", "mysql://h/d", MemoryJournal, 1.5, ["a"], "a\0b", *NO_PATHS],
    ids=repr,
)
def test_a_journal_of_a_wrong_kind_is_refused_at_once(journal: Any) -> None:
    with pytest.raises(InvalidRequestError, match="journal must be a path"):
        AsyncClient("ft_live_" + 32 * "a", journal=journal)


def test_the_password_of_a_url_is_in_no_error_and_no_repr() -> None:
    url = "redis://me:hunter2@host/db"
    with pytest.raises(InvalidRequestError) as caught:
        AsyncClient("ft_live_" + 32 * "a", journal=url)
    assert "hunter2" not in repr(caught.value) + str(vars(caught.value))


async def test_another_option_of_a_journal_client_is_still_checked() -> None:
    client = AsyncClient("ft_live_" + 32 * "a", journal=MemoryJournal())
    with pytest.raises(InvalidRequestError, match="journal, max_retries"):
        client.with_options(jurnal=5)  # type: ignore[call-arg]  # refused
    await client.aclose()


async def test_a_path_is_made_absolute_so_that_views_may_name_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    client = AsyncClient("ft_live_" + 32 * "a", journal="tracks.db")
    view = client.with_options(journal=tmp_path / "tracks.db")
    assert view.journal is not None
    assert not (tmp_path / "tracks.db").exists()
    await client.aclose()


async def test_a_journal_whose_account_cannot_be_read_sends_nothing() -> None:
    async with emulated(journal=MemoryJournal(), max_retries=0) as (emulator, client):
        emulator.add_fault(Fault("status", "/v1/me"))
        with pytest.raises(FinetuningError):
            await client.generate("rain", idempotency_key="k")
        assert not emulator.ledger
        await client.generate("rain", idempotency_key="k")
        assert len(emulator.ledger) == 1


def a_text_file(path: Path) -> None:
    path.write_text("no database of any kind\n" * 100)


def a_folder(path: Path) -> None:
    path.mkdir()


def of_a_newer_version(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()


@pytest.mark.parametrize("make", [a_text_file, a_folder, of_a_newer_version])
async def test_a_file_that_is_no_journal_sends_nothing(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "tracks.db"
    make(path)
    async with emulated(journal=path) as (emulator, client):
        for key in ("k", None):
            with pytest.raises(JournalError, match=r"tracks\.db"):
                await client.generate("rain", idempotency_key=key)
        with pytest.raises(JournalError):
            await client.resume("k")
        assert not emulator.ledger


async def test_a_journal_in_a_folder_that_is_none_sends_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    async with emulated(journal=tmp_path / "file" / "tracks.db") as (emulator, client):
        with pytest.raises(JournalError):
            await client.generate("rain", idempotency_key="k")
        assert not emulator.ledger


SEED = 5
"""With a seed of its caller's, a create is committed as planned before it is sent."""


class FullStore(MemoryStore):
    """Its disk is full from the n-th commit on."""

    def __init__(self, commits: int) -> None:
        super().__init__()
        self.commits = commits

    def commit(self, changes: Sequence[Change]) -> list[Committed]:
        if self.commits == 0:
            raise JournalError("database or disk is full")
        self.commits -= 1
        return super().commit(changes)


@pytest.mark.parametrize("commits", [0, 1])
async def test_on_a_full_disk_nothing_is_sent(
    commits: int,
) -> None:
    journal = MemoryJournal(new_store=lambda: FullStore(commits))
    async with emulated(journal=journal) as (emulator, client):
        with pytest.raises(JournalError, match="full"):
            await client.generate("rain", seed=SEED, idempotency_key="k")
        assert emulator.count(method="POST") == 0


async def test_what_a_full_disk_kept_of_a_failed_call_is_deleted_later() -> None:
    store = FullStore(1)
    journal = MemoryJournal(new_store=lambda: store)
    async with emulated(journal=journal) as (emulator, client):
        for key in ("k", "again"):
            store.commits = 1
            with pytest.raises(JournalError, match="full"):
                await client.generate(key, seed=SEED, idempotency_key=key)
        assert journal.states() == {"k": "planned", "again": "planned"}
        store.commits = -1
        again = await client.generate("again", seed=SEED, idempotency_key="again")
        await anyio.sleep(10)
        await client.generate("other", idempotency_key="other")
        assert journal.states() == {"again": "completed", "other": "completed"}
        assert journal.item("again").entry.track_id == again.id
        store.commits = 1
        with pytest.raises(JournalError, match="full"):
            await client.generate("last", seed=SEED, idempotency_key="last")
        store.commits = -1
    assert set(journal.states()) == {"again", "other"}  # closing deletes it as well
    assert len(emulator.ledger) == 2


async def test_a_track_that_a_full_disk_did_not_take_is_found_by_its_key() -> None:
    store = FullStore(1)
    journal = MemoryJournal(new_store=lambda: store)
    async with emulated(journal=journal) as (emulator, client):
        seen: list[str] = []
        with pytest.raises(JournalError, match="full") as caught:
            await client.generate(
                "rain",
                idempotency_key="k",
                on_submitted=lambda track: seen.append(track.id),
            )
        assert any(seen[0] in note for note in caught.value.__notes__)
        store.commits = -1
        track = await client.generate("rain", idempotency_key="k")
        assert [track.id] == seen == list(emulator.tracks)


async def test_an_end_that_cannot_be_recorded_ends_no_wait() -> None:
    journal = MemoryJournal(new_store=lambda: FullStore(2))
    async with emulated(journal=journal) as (_, client):
        track = await client.generate("rain", idempotency_key="k")
        assert track.status == "completed"
        assert journal.states() == {"k": "accepted"}


def files_of(folder: Path) -> tuple[bytes, set[int]]:
    files = list(folder.iterdir())
    content = b"".join(file.read_bytes() for file in files)
    return content, {file.stat().st_mode & 0o777 for file in files}


async def test_what_a_journal_stores_holds_no_key_and_no_query(tmp_path: Path) -> None:
    async with emulated(journal=tmp_path / "tracks.db") as (emulator, client):
        await client.generate(
            "rain",
            webhook="https://me:pass@example.com/hook?token=s3cret#part",
            idempotency_key="k",
        )
        entry = await client.journal.get("k")
        assert entry is not None
        assert entry.generation is not None
        stored, modes = files_of(tmp_path)
        for secret in (emulator.api_key, "s3cret", "me:pass", "#part"):
            assert secret.encode() not in stored
        assert b"example.com/hook" in stored
        assert modes == {0o600}
