"""Whose priority and share count: those of the call, request, view, client."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import attrs
import pytest

from finetuning_async import (
    CreateWaiting,
    GenerationRequest,
    InstrumentalRequest,
    InvalidRequestError,
    SoundEffectRequest,
)
from finetuning_async.batch import Batch, Worker, read_rows
from finetuning_async.emulator import Emulator
from finetuning_async.journal._records import ItemFactory
from finetuning_async.journal._store import MemoryStore
from tests._client_journals import MemoryJournal, open_journal
from tests._emulated_client import SHORT, emulated

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from anyio.abc import TaskGroup

    from finetuning_async import AsyncClient


class Busy:
    """A client whose ten permits are used, so that what it creates waits."""

    def __init__(
        self, emulator: Emulator, client: AsyncClient, tasks: TaskGroup
    ) -> None:
        self.emulator = emulator
        self.client = client
        self.tasks = tasks

    async def wait_in_line(self, *prompts: str, **options: Any) -> None:
        """Let creates of normal priority wait before all that comes later."""
        for prompt in prompts:
            self.tasks.start_soon(_create, self.client, prompt, options)
        await anyio.sleep(0.5)

    async def order(self, count: int) -> list[str]:
        """The prompts of what goes out next, at most ten."""
        await anyio.sleep(70)
        tracks = sorted(self.emulator.tracks.values(), key=lambda t: t.created_at)
        return [track.prompt for track in tracks[10:]][:count]


async def _create(client: AsyncClient, prompt: str, options: dict[str, Any]) -> None:
    await client.generations.create(prompt, **options)


@asynccontextmanager
async def busy(**options: Any) -> AsyncGenerator[Busy]:
    service = Emulator(
        queue_size=1000,
        latency=(0.05, 0.05),
        audio=b"ID3" + bytes(100),
        generation_time=SHORT,
    )
    async with emulated(service, **options) as (emulator, client):
        for _ in range(10):
            await client.generations.create("before", priority="normal")
        async with anyio.create_task_group() as tasks:
            yield Busy(emulator, client, tasks)
            tasks.cancel_scope.cancel()


async def outcomes(client: AsyncClient, *requests: Any, **options: Any) -> None:
    async with client.generate_many(requests, **options) as ends:
        async for end in ends:
            assert end.error is None


async def test_the_call_counts_before_the_request_the_view_and_the_client() -> None:
    async with busy(priority="low") as at:
        await at.wait_in_line("client", "client")
        view = at.client.with_options(priority="normal")
        at.tasks.start_soon(view.generate, "view")
        urgent = GenerationRequest("request", priority="high")
        at.tasks.start_soon(outcomes, view, urgent)
        later = attrs.evolve(urgent, tags="call")

        async def of_the_call() -> None:
            await outcomes(view, later, priority="low")

        at.tasks.start_soon(of_the_call)
        order = await at.order(5)
        assert order == ["request", "view", "client", "client", "call"]


async def test_each_request_of_many_has_a_share_of_its_own() -> None:
    async with busy(share="the client") as at:
        await at.wait_in_line("client", "client")
        shared = [GenerationRequest("a", share="a"), GenerationRequest("b", share="b")]
        at.tasks.start_soon(outcomes, at.client, *shared)
        assert await at.order(4) == ["client", "a", "b", "client"]


async def test_a_high_request_among_many_low_ones_is_read_and_goes_first() -> None:
    async with busy() as at:
        low = [GenerationRequest(f"low {n}", priority="low") for n in range(12)]
        urgent = GenerationRequest("urgent", priority="high")
        at.tasks.start_soon(partial(outcomes, at.client, *low, urgent))
        assert (await at.order(3))[0] == "urgent"


@pytest.mark.parametrize("worker", [False, True])
async def test_a_row_of_a_batch_is_low_unless_it_names_another(
    worker: bool, tmp_path: Path
) -> None:
    rows = list(
        read_rows(
            ["tags,priority,share\n", "row,,\n", "urgent row,high,\n", "own,,me\n"]
        )
    )
    async with busy(max_wait=1.0) as at:
        await at.wait_in_line("normal", "normal", max_wait=1000)
        if worker:
            store = MemoryStore()
            store.add(map(ItemFactory().item, rows))
            for number in (1, 2, 3):
                process = Worker(at.client, store).process_item
                at.tasks.start_soon(process, number)
            order = await at.order(5)
        else:
            async with Batch(at.client, tmp_path) as batch:
                await batch.add_rows(rows)

                async def run() -> None:
                    async for _ in batch.run():
                        pass

                at.tasks.start_soon(run)
                order = await at.order(5)
        assert order[:3] == ["urgent row", "normal", "normal"]


async def test_a_row_with_other_terms_is_the_same_row(tmp_path: Path) -> None:
    plain = GenerationRequest("rain")
    async with emulated() as (_, client):
        async with Batch(client, tmp_path) as batch:
            await batch.add([plain])
        async with Batch(client, tmp_path) as batch:
            added = await batch.add([attrs.evolve(plain, priority="high", share="me")])
        assert (added.new, added.known) == (0, 1)


async def test_a_resumed_create_keeps_its_terms() -> None:
    journal = MemoryJournal()
    async with busy(journal=journal) as at:
        await open_journal(at.client)
        journal.leave(GenerationRequest("left", idempotency_key="k", priority="high"))
        await at.wait_in_line("normal", "normal")
        at.tasks.start_soon(at.client.resume, "k")
        assert await at.order(3) == ["left", "normal", "normal"]
        await at.client.generations.create(
            "named", idempotency_key="n", priority="low", share="me"
        )
        entry = await at.client.journal.get("n")
        assert entry is not None
        assert (entry.share, entry.request.priority) == ("me", "low")


@pytest.mark.parametrize(
    "make", [GenerationRequest, InstrumentalRequest, SoundEffectRequest]
)
def test_terms_are_neither_sent_nor_content(make: Any) -> None:
    plain, other = make("rain"), make("rain", priority="high", share="visitor")
    assert plain.content_key() == other.content_key()
    assert plain.to_body() == other.to_body()
    assert plain != other


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        *(("priority", wrong) for wrong in ("urgent", 1, "")),
        *(("share", wrong) for wrong in ("", "x" * 256, "a\0b", "\ud800", 7)),
    ],
)
async def test_a_request_with_wrong_terms_is_refused(field: str, wrong: Any) -> None:
    request = GenerationRequest("rain", **{field: wrong})
    assert [problem.field for problem in request.problems()] == [field]
    async with emulated() as (emulator, client):
        for call in ({field: wrong}, {"validate": False, field: wrong}):
            with pytest.raises(InvalidRequestError, match=field):
                await client.generate("rain", **call)
        async with client.generate_many([request], validate=False) as ends:
            (outcome,) = [end async for end in ends]
        assert isinstance(outcome.error, InvalidRequestError)
        assert emulator.count(method="POST") == 0


async def test_every_create_reports_its_wait() -> None:
    reports: list[CreateWaiting] = []
    async with busy() as at:
        for create in (
            at.client.generations.create,
            at.client.instrumentals.create,
            at.client.sound_effects.create,
        ):
            at.tasks.start_soon(partial(create, "rain", on_waiting=reports.append))
        await anyio.sleep(1)
    assert {event.kind for event in reports} == {
        "music",
        "instrumental",
        "sound_effect",
    }
