"""The journal's folder is visible, moves with the batch, and is not used twice."""

from __future__ import annotations

import shutil
import sqlite3
from typing import TYPE_CHECKING, Any

import anyio
import attrs
import pytest
from filelock import FileLock

from finetuning_async import GenerationRequest
from finetuning_async.batch import (
    Batch,
    BatchError,
    BatchLockedError,
    JournalError,
    read_summary,
    retry_failed,
)
from finetuning_async.batch._folder import JOURNAL_FOLDER, OLD_JOURNAL_FOLDER
from finetuning_async.emulator import Emulator
from finetuning_async.journal._sqlite_store import SQLiteStore
from tests._emulated_client import SHORT, emulated
from tests.journal._old_journals import downgrade

if TYPE_CHECKING:
    from pathlib import Path

    from finetuning_async import AsyncClient
    from finetuning_async.batch import BatchItem


def emulator(**settings: Any) -> Emulator:
    return Emulator(
        **{
            "audio": b"ID3" + bytes(99),
            "queue_size": 100,
            "generation_time": SHORT,
            **settings,
        }
    )


async def run(client: AsyncClient, folder: Path, count: int = 3) -> list[BatchItem]:
    async with Batch(client, folder) as batch:
        await batch.add(GenerationRequest(f"song {n}") for n in range(count))
        return [item async for item in batch.run()]


async def accept(client: AsyncClient, folder: Path, count: int = 3) -> None:
    async with Batch(client, folder) as batch:
        await batch.add(GenerationRequest(f"song {n}") for n in range(count))
        batch.run()
        await anyio.sleep(5)


def move_visible_files(old: Path, new: Path) -> None:
    """As a shell does for ``mv old/* new/``."""
    new.mkdir()
    for path in old.iterdir():
        if not path.name.startswith("."):
            path.rename(new / path.name)


def as_an_older_version(folder: Path) -> None:
    """Turn a folder's journal into one of version 0.1.0."""
    (folder / JOURNAL_FOLDER).rename(folder / OLD_JOURNAL_FOLDER)
    downgrade(folder / OLD_JOURNAL_FOLDER / "journal.db", 1)
    db = sqlite3.connect(folder / OLD_JOURNAL_FOLDER / "journal.db")
    db.execute("DELETE FROM note")
    db.commit()
    db.close()


async def test_moving_the_visible_files_moves_the_batch(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    async with emulated(emulator()) as (service, client):
        await accept(client, old)
        move_visible_files(old, new)
        assert list(old.iterdir()) == []
        ends = await run(client, new)
        assert {item.state for item in ends} == {"downloaded"}
        assert {item.path and item.path.parent for item in ends} == {new}
        assert len(service.ledger) == 3


async def test_a_killed_batch_can_be_moved(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    async with emulated(emulator()) as (service, client):
        async with Batch(client, old) as batch:
            await batch.add(GenerationRequest(f"song {n}") for n in range(3))
            batch.run()
            await anyio.sleep(5)
            # The disk as a kill leaves it here: part of the journal is still in the
            # file beside it.
            assert (old / JOURNAL_FOLDER / "journal.db-wal").stat().st_size
            shutil.copytree(old, tmp_path / "killed")
        shutil.rmtree(old)
        move_visible_files(tmp_path / "killed", new)
        await run(client, new)
        assert len(service.ledger) == 3


async def test_the_journal_of_an_older_version_is_moved_and_used(
    tmp_path: Path,
) -> None:
    async with emulated(emulator()) as (service, client):
        await accept(client, tmp_path)
        as_an_older_version(tmp_path)
        assert read_summary(tmp_path).states["accepted"] == 3
        assert (tmp_path / OLD_JOURNAL_FOLDER).exists()  # reading changes nothing
        ends = await run(client, tmp_path)
        assert {item.state for item in ends} == {"downloaded"}
        assert len(service.ledger) == 3
        assert not (tmp_path / OLD_JOURNAL_FOLDER).exists()
        assert (tmp_path / JOURNAL_FOLDER).is_dir()


async def test_a_running_older_version_is_not_disturbed(tmp_path: Path) -> None:
    async with emulated(emulator()) as (_, client):
        await accept(client, tmp_path)
        as_an_older_version(tmp_path)
        with FileLock(tmp_path / OLD_JOURNAL_FOLDER / "lock"):
            with pytest.raises(BatchLockedError):
                await run(client, tmp_path)
        assert (tmp_path / OLD_JOURNAL_FOLDER / "journal.db").exists()


async def test_two_journals_are_refused(tmp_path: Path) -> None:
    async with emulated(emulator()) as (_, client):
        await accept(client, tmp_path)
        shutil.copytree(tmp_path / JOURNAL_FOLDER, tmp_path / OLD_JOURNAL_FOLDER)
        with pytest.raises(BatchError, match="two journals"):
            await run(client, tmp_path)


async def test_an_item_that_an_older_version_failed_at_a_404_is_revived(
    tmp_path: Path,
) -> None:
    async with emulated(emulator()) as (service, client):
        await accept(client, tmp_path)
        store = SQLiteStore(tmp_path / JOURNAL_FOLDER / "journal.db")
        for item in list(store.rows("accepted")):
            gone = attrs.evolve(item.entry, state="failed", code="NOT_FOUND", fails=1)
            store.record(item, gone)
        store.close()
        as_an_older_version(tmp_path)
        assert retry_failed(tmp_path) == 0  # otherwise it would be paid again
        ends = await run(client, tmp_path)
        assert [item.state for item in ends] == ["downloaded"] * 3
        assert len(service.ledger) == 3


async def test_the_journal_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    async with emulated(emulator()) as (_, client):
        await accept(client, tmp_path)
        db = sqlite3.connect(tmp_path / JOURNAL_FOLDER / "journal.db")
        db.execute("PRAGMA user_version = 99")
        db.close()
        with pytest.raises(JournalError, match="newer version"):
            await run(client, tmp_path)


async def test_a_copy_is_refused_while_its_original_exists(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    async with emulated(emulator()) as (service, client):
        async with Batch(client, one) as batch:
            await batch.add(GenerationRequest(f"song {n}") for n in range(3))
        shutil.copytree(one, two)
        with pytest.raises(BatchError, match=r"is a copy of .*one"):
            await run(client, two)
        await run(client, one)
        with pytest.raises(BatchError, match=r"is a copy of .*one"):
            await run(client, two)
        assert len(service.ledger) == 3


async def test_a_copy_of_a_finished_batch_is_independent(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    async with emulated(emulator()) as (service, client):
        await run(client, one)
        shutil.copytree(one, two)
        await run(client, two, 4)
        await run(client, one, 4)
        assert len(service.ledger) == 5


async def test_a_copy_replaces_a_deleted_original(
    tmp_path: Path,
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    async with emulated(emulator()) as (service, client):
        await accept(client, one)
        shutil.copytree(one, two)
        shutil.rmtree(one)
        await run(client, two)
        await run(client, two)
        assert len(service.ledger) == 3


async def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "album"
    path.write_text("mine")
    async with emulated(emulator()) as (_, client):
        with pytest.raises(BatchError, match="it is a file"):
            await run(client, path)
    assert path.read_text() == "mine"


async def test_a_damaged_journal_is_reported_and_left_alone(tmp_path: Path) -> None:
    async with emulated(emulator()) as (service, client):
        await run(client, tmp_path)
        (tmp_path / JOURNAL_FOLDER / "journal.db").write_bytes(b"no database " * 1000)
        with pytest.raises(JournalError, match=r"is damaged.*--adopt"):
            await run(client, tmp_path)
        assert (
            (tmp_path / JOURNAL_FOLDER / "journal.db")
            .read_bytes()
            .startswith(b"no database")
        )
        (tmp_path / JOURNAL_FOLDER).rename(tmp_path / "damaged")
        async with Batch(client, tmp_path, existing="adopt") as batch:
            await batch.add(GenerationRequest(f"song {n}") for n in range(3))
            assert [item async for item in batch.run()] == []
        assert len(service.ledger) == 3
