"""`Worker.process_item`: several workers, one journal, any queue."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import attrs
import pytest

from finetuning_async import AuthenticationError, GenerationRequest
from finetuning_async.batch import BatchItem, Options, Row, Worker, into
from finetuning_async.emulator import Emulator, Fault
from finetuning_async.journal._records import ItemFactory
from finetuning_async.journal._state_machine import Released, step
from finetuning_async.journal._store import JournalStore, MemoryStore
from tests._emulated_client import SHORT, emulated

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from finetuning_async import AsyncClient

CREATES = "/v1/generations"
NO_CREDITS_SHOWN = Fault("status", "/v1/me", status=503, skip=2, times=None)
"""The account is bound and the first reading taken, and then there is none."""


def filled(store: JournalStore, *requests: GenerationRequest) -> JournalStore:
    factory = ItemFactory()
    store.add(factory.item(Row(request=request)) for request in requests)
    return store


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def songs(count: int) -> list[GenerationRequest]:
    return [GenerationRequest(f"song {n}", duration=30) for n in range(count)]


@asynccontextmanager
async def running(
    *requests: GenerationRequest, **options: Any
) -> AsyncGenerator[tuple[Emulator, AsyncClient, JournalStore]]:
    options = {"queue_size": 20, "credits": 100} | options
    service = Emulator(
        **{
            "audio": b"ID3",
            "latency": (0.05, 0.2),
            "seed": 3,
            "generation_time": SHORT,
            **options,
        }
    )
    async with emulated(service) as (service, client):
        yield service, client, filled(MemoryStore(), *requests)


async def drive_all(worker: Worker, seqs: range) -> None:
    await drive(worker, seqs=seqs)


async def drive(*workers: Worker, seqs: range) -> list[BatchItem]:
    """The simplest queue: the workers take turns with each item."""
    ends: list[BatchItem] = []

    async def drive_one(seq: int) -> None:
        for attempt in range(1000):
            progress = await workers[(seq + attempt) % len(workers)].process_item(seq)
            if progress.again_in is None:
                ends.append(progress.item)
                return
            await anyio.sleep(progress.again_in)
        raise AssertionError(f"item {seq} has not ended")

    async with anyio.create_task_group() as tasks:
        for seq in seqs:
            tasks.start_soon(drive_one, seq)
    return ends


async def test_two_workers_make_every_item_once(tmp_path: Path) -> None:
    async with running(*songs(12)) as (service, client, store):
        workers = [Worker(client, store, save=into(tmp_path)) for _ in range(2)]
        ends = await drive(*workers, seqs=range(1, 13))
        assert [item.state for item in ends] == ["downloaded"] * 12
        assert names_in(tmp_path) == {item.file for item in ends}
        assert len(service.ledger) == 12
        assert service.count(status=429) == 0


async def test_a_foreign_file_is_not_replaced(tmp_path: Path) -> None:
    async with running(*songs(1)) as (_, client, store):
        mine = tmp_path / store.get(1).file
        mine.write_bytes(b"mine")
        await drive(Worker(client, store, save=into(tmp_path)), seqs=range(1, 2))
        assert mine.read_bytes() == b"mine"
        assert len(names_in(tmp_path)) == 2


async def test_a_file_that_a_worker_saved_before_it_died_is_replaced(
    tmp_path: Path,
) -> None:
    async with running(*songs(1)) as (_, client, store):
        worker = Worker(client, store, save=into(tmp_path))
        await drive(worker, seqs=range(1, 2))
        item = store.get(1)
        store.record(item, attrs.evolve(item.entry, state="completed"))
        await drive(worker, seqs=range(1, 2))
        assert names_in(tmp_path) == {item.file}


async def test_an_item_that_has_ended_costs_nothing_more() -> None:
    async with running(*songs(1)) as (service, client, store):
        worker = Worker(client, store)
        await drive(worker, seqs=range(1, 2))
        requests = len(service.requests)
        again = await worker.process_item(1)
        assert again.item.state == "downloaded"
        assert again.again_in is None
        assert len(service.requests) == requests


async def test_an_item_in_doubt_is_given_back_and_found_later() -> None:
    async with running(*songs(4)) as (service, client, store):
        service.add_fault(Fault("late_commit", CREATES, method="POST", seconds=120))
        worker = Worker(client, store)
        first = await worker.process_item(1)
        assert first.item.state == "unknown"
        assert first.again_in == Options().look_every
        ends = await drive(worker, seqs=range(1, 5))
        assert [item.state for item in ends] == ["downloaded"] * 4
        assert len(service.ledger) == 4


async def test_a_create_that_never_arrived_is_proved_absent_and_sent_again() -> None:
    async with running(*songs(3)) as (service, client, store):
        service.add_fault(Fault("lost_before_commit", CREATES, method="POST"))
        worker = Worker(client, store)
        assert (await worker.process_item(1)).item.state == "unknown"
        await drive(worker, seqs=range(2, 4))
        filled(store, GenerationRequest("later"))
        await anyio.sleep(Options().settle)
        ends = await drive(worker, seqs=range(1, 5))
        assert {item.state for item in ends} == {"downloaded"}
        assert len(service.ledger) == 4


async def test_an_unproved_absence_is_held_until_a_person_releases_it() -> None:
    async with running(*songs(1)) as (service, client, store):
        service.add_fault(Fault("lost_before_commit", CREATES, method="POST"))
        service.add_fault(NO_CREDITS_SHOWN)
        worker = Worker(client, store)
        (end,) = await drive(worker, seqs=range(1, 2))
        assert end.state == "held"
        service.clear_faults()
        item = store.get(1)
        store.record(item, step(item.entry, Released())[0])
        (end,) = await drive(worker, seqs=range(1, 2))
        assert end.state == "downloaded"
        assert len(service.ledger) == 1


async def test_a_lone_create_is_sent_again_after_equal_readings_of_the_credits() -> (
    None
):
    async with running(*songs(1)) as (service, client, store):
        service.add_fault(Fault("lost_before_commit", CREATES, method="POST"))
        (end,) = await drive(Worker(client, store), seqs=range(1, 2))
        assert end.state == "downloaded"
        assert len(service.ledger) == 1


async def test_resubmit_does_not_send_a_lone_create_again_without_them() -> None:
    async with running(*songs(1)) as (service, client, store):
        service.add_fault(Fault("lost_before_commit", CREATES, method="POST"))
        service.add_fault(NO_CREDITS_SHOWN)
        worker = Worker(client, store, options=Options(on_unknown="resubmit"))
        (end,) = await drive(worker, seqs=range(1, 2))
        assert end.state == "held"
        assert len(service.ledger) == 0


async def test_an_item_given_to_two_workers_at_once_is_paid_once() -> None:
    async with running(*songs(6)) as (service, client, store):
        workers = [Worker(client, store) for _ in range(2)]
        async with anyio.create_task_group() as tasks:
            for worker in workers:
                tasks.start_soon(drive_all, worker, range(1, 7))
        assert store.summary().states["downloaded"] == 6
        assert len(service.ledger) == 6


async def test_an_item_waits_for_its_lookalike_in_doubt() -> None:
    lookalikes = [GenerationRequest("lookalike", seed=7)] * 2
    async with running(*lookalikes) as (service, client, store):
        service.add_fault(Fault("late_commit", CREATES, method="POST", seconds=90))
        worker = Worker(client, store)
        assert (await worker.process_item(1)).item.state == "unknown"
        second = await worker.process_item(2)
        assert second.item.state == "planned"
        assert second.again_in == Options().look_every
        ends = await drive(worker, seqs=range(1, 3))
        assert {item.state for item in ends} == {"downloaded"}
        assert len({item.generation_id for item in ends}) == len(service.ledger) == 2


async def test_a_failed_track_ends_its_item() -> None:
    async with running(*songs(1)) as (service, client, store):
        service.add_fault(Fault("fail", CREATES, method="POST"))
        (end,) = await drive(Worker(client, store), seqs=range(1, 2))
        assert end.state == "failed"
        assert end.error


async def test_a_rejected_request_ends_as_failed() -> None:
    async with running(GenerationRequest("x" * 800)) as (service, client, store):
        (end,) = await drive(Worker(client, store), seqs=range(1, 2))
        assert end.state == "failed"
        assert service.ledger == []


async def test_an_item_without_credits_is_tried_again_later() -> None:
    async with running(*songs(1), credits=0) as (_, client, store):
        progress = await Worker(client, store).process_item(1)
        assert progress.item.state == "planned"
        assert progress.again_in == 600


async def test_all_workers_together_keep_to_max_credits() -> None:
    async with running(*songs(9)) as (service, client, store):
        options = Options(max_credits=4)
        workers = [Worker(client, store, options=options) for _ in range(3)]
        pauses: list[float | None] = []

        async def once(seq: int) -> None:
            progress = await workers[seq % 3].process_item(seq)
            pauses.append(progress.again_in)

        for _ in range(3):
            async with anyio.create_task_group() as tasks:
                for seq in range(1, 10):
                    tasks.start_soon(once, seq)
            assert len(service.ledger) <= 4
        assert len(service.ledger) == 4
        assert sorted(map(str, pauses[-9:])) == ["600.0"] * 5 + ["None"] * 4
        states = store.summary().states
        assert (states["downloaded"], states["planned"]) == (4, 5)


async def test_an_invalid_key_is_raised_to_the_queue() -> None:
    async with running(*songs(1)) as (_, client, store):
        stranger = client.with_options(api_key="ft_live_" + "0" * 32)
        with pytest.raises(AuthenticationError):
            await Worker(stranger, store).process_item(1)
        assert store.get(1).entry.state == "planned"


async def test_an_unsaved_track_is_saved_later() -> None:
    async with running(*songs(1)) as (service, client, store):
        calls: list[str] = []

        async def save(_: AsyncClient, item: BatchItem) -> None:
            calls.append(item.state)
            if len(calls) == 1:
                raise OSError("the disk is unavailable")

        worker = Worker(client, store, save=save)
        first = await worker.process_item(1)
        assert first.item.state == "completed"
        assert first.again_in is not None
        assert (await worker.process_item(1)).item.state == "downloaded"
        assert calls == ["completed"] * 2
        assert len(service.ledger) == 1


async def test_a_create_cancelled_while_waiting_has_sent_nothing() -> None:
    async with running(*songs(12)) as (service, client, store):
        worker = Worker(client, store)
        async with anyio.create_task_group() as tasks:
            for seq in range(1, 13):
                tasks.start_soon(worker.process_item, seq)
            await anyio.sleep(20)
            tasks.cancel_scope.cancel()
        assert store.summary().states["planned"] == 2
        assert store.summary().in_doubt == 0
        await drive(worker, seqs=range(1, 13))
        assert len(service.ledger) == 12
