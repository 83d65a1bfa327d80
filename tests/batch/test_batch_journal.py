"""`BatchJournal`: what other job queues add, ask and change."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import anyio
import pytest

from finetuning_async import GenerationRequest, InvalidRequestError
from finetuning_async.batch import (
    BatchError,
    BatchInputError,
    BatchJournal,
    JournalError,
    Row,
    Worker,
)
from finetuning_async.emulator import Emulator, Fault
from tests._emulated_client import emulated

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

CREATES = "/v1/generations"
NO_CREDITS_SHOWN = Fault("status", "/v1/me", status=503, skip=2, times=None)
"""The account is bound and the first reading taken, and then there is none."""


def songs(count: int) -> list[GenerationRequest]:
    return [GenerationRequest(f"song {n}", duration=30) for n in range(count)]


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncGenerator[BatchJournal]:
    journal = BatchJournal(tmp_path / "tracks.db")
    yield journal
    await journal.aclose()


async def process(worker: Worker, numbers: list[int]) -> None:
    for number in numbers:
        again_in: float | None = 0.0
        while again_in is not None:
            await anyio.sleep(again_in)
            again_in = (await worker.process_item(number)).again_in


async def test_items_have_numbers_and_are_known_again(journal: BatchJournal) -> None:
    first = await journal.add("album", songs(2))
    *again, third = await journal.add("album", songs(3))
    assert again == first
    assert await journal.add("album", songs(1)) == first[:1]
    other = await journal.add("other", [Row(request=songs(1)[0], custom_id="a")])
    assert len({*first, third, *other}) == 4
    assert await journal.unfinished() == [*first, third, *other]
    assert await journal.unfinished("other") == other
    assert await journal.unfinished("alb") == []
    assert (await journal.summary("album")).total == 3
    assert (await journal.summary()).total == 4
    assert [item.custom_id for item in await journal.items("other")] == ["a"]
    assert await journal.items("other", "held") == []


async def test_nothing_is_added_of_what_is_invalid(journal: BatchJournal) -> None:
    with pytest.raises(BatchInputError):
        await journal.add("album", [*songs(2), GenerationRequest("x", bpm=1)])
    with pytest.raises(ValueError, match="must be 1 to 100 letters"):
        await journal.add("../album", songs(1))
    one = Row(request=songs(1)[0], custom_id="a")
    await journal.add("album", [one])
    with pytest.raises(JournalError, match="different content"):
        await journal.add("album", [Row(request=songs(2)[1], custom_id="a")])
    assert (await journal.summary()).total == 1


async def test_a_worker_makes_what_was_added(journal: BatchJournal) -> None:
    async with emulated(Emulator(audio=b"ID3")) as (service, client):
        service.add_fault(Fault("fail", CREATES, method="POST"))
        worker = Worker(client, journal)
        numbers = await journal.add("album", songs(3))
        await process(worker, numbers)
        states = [item.state for item in await journal.items("album")]
        assert sorted(states) == ["downloaded", "downloaded", "failed"]
        assert await journal.unfinished() == []
        assert await journal.add("album", songs(3)) == []
        assert await journal.retry_failed() == 1
        (again,) = await journal.unfinished()
        await process(worker, [again])
        summary = await journal.summary("album")
        assert (summary.accepts, summary.fails) == (4, 1)
        assert summary.is_done


async def test_a_held_item_needs_a_job_once_it_is_released(
    journal: BatchJournal,
) -> None:
    async with emulated(Emulator(audio=b"ID3")) as (service, client):
        service.add_fault(Fault("lost_before_commit", CREATES, method="POST"))
        service.add_fault(NO_CREDITS_SHOWN)
        (number,) = await journal.add("album", songs(1))
        await process(Worker(client, journal), [number])
        (held,) = await journal.items("album", "held")
        assert await journal.unfinished() == []
        with pytest.raises(BatchError, match="no item nobody"):
            await journal.release("nobody")
        assert await journal.release(held.key) == 1
        assert await journal.unfinished() == [number]


async def test_it_is_opened_again_after_it_was_closed(journal: BatchJournal) -> None:
    await journal.add("album", songs(1))
    await journal.aclose()
    await journal.aclose()
    assert (await journal.summary()).total == 1


async def test_a_file_holds_journals_of_several_accounts(tmp_path: Path) -> None:
    mine, yours = (
        BatchJournal(tmp_path / "tracks.db", name=name) for name in ("mine", "yours")
    )
    await mine.add("album", songs(1))
    assert (await yours.summary()).total == 0
    assert repr(mine) == "<BatchJournal 'mine'>"
    await mine.aclose()
    await yours.aclose()


def test_threads_may_add_at_once_each_in_a_loop_of_its_own(tmp_path: Path) -> None:
    journal = BatchJournal(tmp_path / "tracks.db")

    def add(number: int) -> None:
        anyio.run(journal.add, f"album{number}", songs(5))

    threads = [threading.Thread(target=add, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(anyio.run(journal.unfinished))) == 30
    anyio.run(journal.aclose)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only where processes fork")
def test_a_forked_child_opens_it_anew(tmp_path: Path) -> None:
    journal = BatchJournal(tmp_path / "tracks.db")
    anyio.run(journal.add, "album", songs(1))
    child = os.fork()
    if child == 0:
        status = 1
        try:
            numbers = anyio.run(journal.add, "album", songs(2))
            status = 0 if len(numbers) == 2 else 1
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (anyio.run(journal.summary)).total == 2
    anyio.run(journal.aclose)


async def test_a_file_that_cannot_be_used_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="no-folder"):
        await BatchJournal(tmp_path / "no-folder" / "tracks.db").summary()


@pytest.mark.parametrize("url", ["postgresql://u:secret@h/db?x=y", "postgres://%%@"])
def test_a_wrong_url_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        BatchJournal(url)
    assert url not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_location_is_a_path_or_a_url() -> None:
    with pytest.raises(InvalidRequestError, match="location must be"):
        BatchJournal("")
    with pytest.raises(InvalidRequestError, match="location must be"):
        BatchJournal("redis://localhost")
