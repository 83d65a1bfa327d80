"""What a program gives a client as its journal, and what it reads of it."""

from __future__ import annotations

import datetime as dt
import json
import os
import pickle
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from finetuning_async import (
    Generation,
    GenerationRequest,
    InvalidRequestError,
    SoundEffect,
    SoundEffectRequest,
)
from finetuning_async.journal import (
    STATES,
    Entry,
    Insert,
    Item,
    JournalEntry,
    JournalError,
    MemoryStore,
    NewItem,
    SQLiteJournal,
    State,
    body_of,
)
from finetuning_async.postgres import PostgresJournal

if TYPE_CHECKING:
    from finetuning_async.journal import JournalBackend, JournalStore

ACCOUNT = "https://api.example acc_1"


def insert(
    store: JournalStore, request: Any, entry: Entry, share: str | None = None
) -> Item:
    new = NewItem(
        key="order-1",
        custom_id=None,
        line=None,
        kind=request.kind,
        body=body_of(request),
        file="",
        share=share,
    )
    (item,) = store.commit([Insert(new, entry)])
    assert isinstance(item, Item)
    return item


def entry_of(request: Any, entry: Entry, share: str | None = None) -> JournalEntry:
    store = MemoryStore(clock=lambda: 1_700_000_000.5)
    return JournalEntry.of(insert(store, request, entry, share))


RAIN = GenerationRequest("rain", lyrics="drip", webhook="https://me.example/?t=s3cret")


def test_an_entry_shows_all_that_is_stored() -> None:
    raw = {"id": "t1", "status": "completed", "prompt": "rain", "duration": 30.5}
    entry = entry_of(
        RAIN,
        Entry(
            state="completed",
            seed=5,
            track_id="t1",
            accepts=1,
            result=json.dumps(raw),
        ),
        share="tenant-7",
    )
    moment = dt.datetime(2023, 11, 14, 22, 13, 20, 500_000, tzinfo=dt.UTC)
    assert (entry.key, entry.state, entry.share) == ("order-1", "completed", "tenant-7")
    assert entry.created_at == entry.updated_at == moment
    assert entry.generation_id == "t1"
    assert isinstance(entry.generation, Generation)
    assert (entry.generation.status, entry.generation.duration) == ("completed", 30.5)
    # With the key, so that creating it from here costs nothing.
    stored = attrs.evolve(RAIN, webhook="https://me.example/")
    assert entry.request == attrs.evolve(stored, idempotency_key="order-1")
    assert entry.error is None
    assert pickle.loads(pickle.dumps(entry)) == entry  # noqa: S301 - its own
    assert "s3cret" not in repr(entry)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        entry.state = "failed"  # type: ignore[misc] # it is frozen


@pytest.mark.parametrize("state", STATES)
def test_an_entry_costs_what_was_accepted_and_what_is_in_doubt(state: State) -> None:
    in_doubt = state in ("sending", "unknown", "held")
    assert entry_of(RAIN, Entry(state=state)).credits == in_doubt
    assert entry_of(RAIN, Entry(state=state, accepts=1)).credits == 1 + in_doubt
    effect = SoundEffectRequest("bang", duration=2)
    assert entry_of(effect, Entry(state=state, accepts=1)).credits == 0


def test_the_entry_of_a_sound_effect_holds_a_sound_effect() -> None:
    request = SoundEffectRequest("bang", duration=2)
    result = '{"id": "fx1", "status": "completed", "prompt": "bang"}'
    entry = entry_of(request, Entry(state="completed", track_id="fx1", result=result))
    assert isinstance(entry.generation, SoundEffect)
    assert entry.request == attrs.evolve(request, idempotency_key="order-1")


@pytest.mark.parametrize(
    "result", [None, "{}", '{"title": "Rain"}', '{"id": "other"}', "[1]", '"t1"']
)
def test_an_entry_without_the_json_of_its_track_has_no_generation(
    result: str | None,
) -> None:
    entry = entry_of(RAIN, Entry(state="accepted", track_id="t1", result=result))
    assert entry.generation is None
    assert entry.generation_id == "t1"


# The journals.


@pytest.mark.parametrize("path", ["", b"j.db", None, 5, "a\0b", Path("a\0b")])
def test_a_path_must_be_one(path: Any) -> None:
    with pytest.raises(InvalidRequestError, match="path must be a path that is not"):
        SQLiteJournal(path)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), "5", True])
@pytest.mark.parametrize("name", ["settle", "look_every"])
def test_times_must_be_above_0(name: str, seconds: Any) -> None:
    for journal in (SQLiteJournal, PostgresJournal):
        with pytest.raises(InvalidRequestError, match=f"{name} must be a number of se"):
            journal("x=" if journal is SQLiteJournal else "", **{name: seconds})


def test_a_url_that_cannot_be_parsed_is_not_shown() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        PostgresJournal("postgresql://me:s3cret@[host/db")
    assert "s3cret" not in repr(caught.value) + str(caught.value)
    assert "s3cret" not in repr(PostgresJournal("postgresql://me:s3cret@host/db"))


def test_a_journal_is_opened_at_its_first_use(tmp_path: Path) -> None:
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        journal: JournalBackend = SQLiteJournal("j.db")
    finally:
        os.chdir(before)  # a relative path means the folder in which it was given
    assert (journal.settle, journal.look_every) == (300.0, 30.0)
    assert list(tmp_path.iterdir()) == []
    store = journal.open(ACCOUNT)
    assert (tmp_path / "j.db").exists()
    assert journal.open(ACCOUNT) is store
    assert journal.open("another") is not store


def test_a_journal_that_cannot_be_opened_can_be_later(tmp_path: Path) -> None:
    journal = SQLiteJournal(tmp_path / "missing" / "j.db")
    with pytest.raises(JournalError, match="its folder must exist"):
        journal.open(ACCOUNT)
    (tmp_path / "missing").mkdir()
    journal.open(ACCOUNT)


async def test_a_closed_journal_is_opened_again(tmp_path: Path) -> None:
    journal = SQLiteJournal(tmp_path / "j.db", settle=10, look_every=1)
    insert(journal.open(ACCOUNT), RAIN, Entry())
    insert(journal.open("another"), RAIN, Entry())
    await journal.aclose()
    assert not (tmp_path / "j.db-wal").exists()
    assert journal.open(ACCOUNT).find_key("order-1") is not None
    await journal.aclose()
    await journal.aclose()


def test_threads_open_one_journal(tmp_path: Path) -> None:
    journal = SQLiteJournal(tmp_path / "j.db")

    def work(number: int) -> str:
        store = journal.open(f"account {number % 3}")
        return insert(store, RAIN, Entry(holder=str(number))).entry.holder or ""

    with ThreadPoolExecutor(8) as pool:
        holders = list(pool.map(work, range(30)))
    assert len(set(holders)) == 3  # one has added it, the others have found it


def test_the_webhooks_query_is_in_no_byte_of_a_journal(tmp_path: Path) -> None:
    store = SQLiteJournal(tmp_path / "j.db").open(ACCOUNT)
    insert(store, RAIN, Entry())
    for part in tmp_path.iterdir():
        assert b"s3cret" not in part.read_bytes()
    store.close()
    with closing(sqlite3.connect(tmp_path / "j.db")) as db:
        assert "drip" in "\n".join(db.iterdump())


async def test_a_client_keeps_its_journal_in_postgres(postgres: str) -> None:
    journal: JournalBackend = PostgresJournal(postgres, settle=10, look_every=1)
    item = insert(journal.open(ACCOUNT), RAIN, Entry(holder="h"))
    assert journal.open("another").find_key("order-1") is None
    await journal.aclose()
    assert journal.open(ACCOUNT).find_key("order-1") == item
    await journal.aclose()


def test_what_only_configures_a_journal_loads_no_database() -> None:
    program = (
        "import sys; from finetuning_async.journal import SQLiteJournal, JournalEntry;"
        "SQLiteJournal('j.db'); print('sqlite3' in sys.modules)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ended.stdout == "False\n"
