"""A batch belongs to the account that made it; one 404 does not end an item."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from finetuning_async import GenerationRequest, InternalServerError
from finetuning_async.batch import Batch, BatchError, Options, Row, Worker, read_summary
from finetuning_async.batch._folder import Folder
from finetuning_async.emulator import Emulator, Fault
from finetuning_async.journal._binding import ACCOUNT
from finetuning_async.journal._records import ItemFactory
from finetuning_async.journal._sqlite_store import SQLiteStore
from finetuning_async.journal._state_machine import Accepted, Sending, step
from finetuning_async.journal._store import MemoryStore
from tests._emulated_client import SHORT, emulated

if TYPE_CHECKING:
    from pathlib import Path

    from finetuning_async import AsyncClient
    from finetuning_async.batch import BatchItem

OTHER = "ft_live_" + 32 * "b"
ROTATED = "ft_live_" + 32 * "c"
CREATES = "/v1/generations"


def emulator(**settings: Any) -> Emulator:
    return Emulator(
        **{
            "audio": b"ID3" + bytes(99),
            "queue_size": 100,
            "generation_time": SHORT,
            **settings,
        }
    )


def songs(count: int) -> list[GenerationRequest]:
    return [GenerationRequest(f"song {number}", duration=30) for number in range(count)]


async def run(client: AsyncClient, folder: Path, count: int) -> list[BatchItem]:
    async with Batch(client, folder) as batch:
        await batch.add(songs(count))
        return [item async for item in batch.run()]


async def accept(client: AsyncClient, folder: Path, count: int) -> None:
    """Leave a batch after its creates were accepted."""
    async with Batch(client, folder) as batch:
        await batch.add(songs(count))
        batch.run()
        await anyio.sleep(5)


def journal(folder: Path) -> SQLiteStore:
    return SQLiteStore(Folder(folder).journal)


def states(folder: Path) -> dict[str, int]:
    return {str(k): n for k, n in read_summary(folder).states.items() if n}


def not_found(times: int) -> Fault:
    return Fault(
        "status",
        CREATES + "/*",
        method="GET",
        status=404,
        code="NOT_FOUND",
        times=times,
    )


@pytest.mark.parametrize("times", [1, 2])
async def test_one_404_ends_no_item(tmp_path: Path, times: int) -> None:
    service = emulator(generation_time=(20, 20))
    async with emulated(service) as (service, client):
        async with Batch(client, tmp_path) as batch:
            await batch.add(songs(1))
            results = batch.run()
            await anyio.sleep(12)
            fault = service.add_fault(not_found(times))
            (item,) = [item async for item in results]
        assert fault.hits
        assert item.state == "downloaded", item.error
        assert len(service.ledger) == 1


async def test_one_404_ends_no_item_of_a_worker() -> None:
    async with emulated(emulator(generation_time=(20, 20))) as (service, client):
        store = MemoryStore()
        store.add([ItemFactory().item(Row(request=songs(1)[0]))])
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Worker(client, store).process_item, 1)
            await anyio.sleep(12)
            fault = service.add_fault(not_found(1))
        assert fault.hits
        assert store.get(1).entry.state == "downloaded"
        assert len(service.ledger) == 1


async def test_a_deleted_track_ends_its_item(tmp_path: Path) -> None:
    async with emulated(emulator(generation_time=(20, 20))) as (service, client):
        await accept(client, tmp_path, 2)
        deleted = next(iter(service.tracks))
        await client.generations.delete([deleted])
        ends = await run(client, tmp_path, 2)
        assert sorted(item.state for item in ends) == ["downloaded", "failed"]
        (failed,) = (item for item in ends if item.state == "failed")
        assert (failed.generation_id, failed.code) == (deleted, "NOT_FOUND")


async def test_another_accounts_key_is_refused_and_changes_nothing(
    tmp_path: Path,
) -> None:
    async with emulated(emulator(generation_time=(20, 20))) as (service, client):
        await accept(client, tmp_path, 3)
        other = service.add_account(OTHER)
        before = list(journal(tmp_path).rows())
        stranger = client.with_options(api_key=OTHER)
        with pytest.raises(BatchError) as caught:
            await run(stranger, tmp_path, 5)
        assert service.account.id in str(caught.value)
        assert other.id in str(caught.value)
        assert list(journal(tmp_path).rows()) == before
        async with Batch(stranger, tmp_path) as batch:
            with pytest.raises(BatchError, match="was made by account"):
                [item async for item in batch.run()]
        assert list(journal(tmp_path).rows()) == before
        assert service.count(method="POST") == 3
        ends = await run(client, tmp_path, 3)
        assert {item.state for item in ends} == {"downloaded"}
        assert len(service.ledger) == 3


async def test_a_new_key_of_the_same_account_can_resume(tmp_path: Path) -> None:
    async with emulated(emulator(generation_time=(20, 20))) as (service, client):
        await accept(client, tmp_path, 3)
        service.add_key(ROTATED, service.account)
        rotated = client.with_options(api_key=ROTATED)
        ends = await run(rotated, tmp_path, 3)
        assert {item.state for item in ends} == {"downloaded"}
        assert len(service.ledger) == 3


async def test_an_account_that_cannot_be_read_stops_the_run_before_it_begins(
    tmp_path: Path,
) -> None:
    async with emulated(emulator()) as (service, client):
        await accept(client, tmp_path, 3)
        before = list(journal(tmp_path).rows())
        service.add_fault(Fault("status", "/v1/me", status=502, code=None, times=None))
        with pytest.raises(InternalServerError):
            await run(client, tmp_path, 3)
        assert list(journal(tmp_path).rows()) == before


def forget_the_account(folder: Path) -> None:
    store = journal(folder)
    with store._file.transaction() as db:
        db.execute("DELETE FROM note WHERE name = ?", (ACCOUNT,))
    store.close()


async def test_a_journal_without_an_account_is_bound_if_its_tracks_are_seen(
    tmp_path: Path,
) -> None:
    async with emulated(emulator(generation_time=(20, 20))) as (service, client):
        service.add_account(OTHER)
        await accept(client, tmp_path, 3)
        forget_the_account(tmp_path)
        with pytest.raises(BatchError, match="has none of them"):
            await run(client.with_options(api_key=OTHER), tmp_path, 3)
        assert states(tmp_path) == {"accepted": 3}
        await run(client, tmp_path, 3)
        assert states(tmp_path) == {"downloaded": 3}
        note = journal(tmp_path).read_note(ACCOUNT)
        assert note is not None
        assert json.loads(note)["id"] == service.account.id


async def test_a_worker_with_another_accounts_key_changes_nothing() -> None:
    async with emulated(emulator(generation_time=(20, 20))) as (service, client):
        service.add_account(OTHER)
        store, factory = MemoryStore(), ItemFactory()
        store.add([factory.item(Row(request=request)) for request in songs(2)])
        await Worker(client, store).process_item(1)
        item = store.get(2)
        for event in (Sending(5, 1.0), Accepted("a track of the first account")):
            item = store.record(item, step(item.entry, event)[0])
        with pytest.raises(BatchError, match="was made by account"):
            await Worker(
                client.with_options(api_key=OTHER), store, options=Options()
            ).process_item(2)
        assert store.get(2) == item


async def test_a_create_refused_with_a_404_is_tried_again(tmp_path: Path) -> None:
    async with emulated(emulator()) as (service, client):
        service.add_fault(
            Fault(
                "status", CREATES, method="POST", status=404, code="NOT_FOUND", times=2
            )
        )
        ends = await run(client, tmp_path, 2)
        assert {item.state for item in ends} == {"downloaded"}
        assert len(service.ledger) == 2
