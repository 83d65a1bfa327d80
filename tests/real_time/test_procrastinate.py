"""Batches on a real PostgreSQL, with real workers of procrastinate."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import procrastinate
import psycopg
import pytest

from benchmarks.proofs.workers import Harness, quick_faults
from finetuning_async import AsyncClient, GenerationRequest
from finetuning_async.batch import BatchInputError, JournalError, Row
from finetuning_async.emulator import Emulator, Fault, serve
from finetuning_async.procrastinate import Batches, into

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from finetuning_async.batch import BatchItem


pytestmark = pytest.mark.usefixtures("warm_programs")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # procrastinate runs on asyncio only


@asynccontextmanager
async def opened(
    conninfo: str, client: Any = AsyncClient, **options: Any
) -> AsyncGenerator[tuple[procrastinate.App, Batches]]:
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=conninfo))
    batches = Batches(app, conninfo, client=client, sweep_every=1, **options)
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        yield app, batches
        await batches.aclose()


def songs(count: int) -> list[GenerationRequest]:
    return [GenerationRequest(f"song {n}") for n in range(count)]


def jobs(conninfo: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(conninfo) as db:
        return db.execute(
            "SELECT args ->> 'seq', status::text, lock FROM procrastinate_jobs"
            " WHERE task_name LIKE '%process_item' ORDER BY id"
        ).fetchall()


async def test_items_and_jobs_are_committed_together(postgres: str) -> None:
    async with opened(postgres) as (_, batches):
        added = await batches.defer("album", songs(3))
        assert (added.new, added.known) == (3, 0)
        assert jobs(postgres) == [(str(n), "todo", None) for n in (1, 2, 3)]
        assert (await batches.defer("album", songs(4))).new == 1
        assert len(jobs(postgres)) == 4
        assert (await batches.defer("other", songs(4))).new == 4
        assert (await batches.summary("album")).total == 4
        assert (await batches.summary()).total == 8


async def test_a_failed_defer_leaves_no_job(postgres: str) -> None:
    async with opened(postgres) as (_, batches):
        with pytest.raises(BatchInputError):
            await batches.defer("album", [*songs(3), GenerationRequest("x", bpm=1)])
        with psycopg.connect(postgres, autocommit=True) as db:
            db.execute("ALTER TABLE procrastinate_jobs RENAME TO away")
            with pytest.raises(JournalError, match="schema --apply"):
                await batches.defer("album", songs(3))
            db.execute("ALTER TABLE away RENAME TO procrastinate_jobs")
        assert (await batches.summary()).total == 0
        assert jobs(postgres) == []
        with pytest.raises(ValueError, match="must be 1 to 100 letters"):
            await batches.defer("../album", songs(1))


async def test_a_webhook_with_a_query_is_refused(postgres: str) -> None:
    async with opened(postgres) as (_, batches):
        hooked = GenerationRequest("x", webhook="https://me.example/?token=s3cret")
        with pytest.raises(BatchInputError, match="row 2: webhook must") as caught:
            await batches.defer("album", [*songs(1), hooked])
        assert "s3cret" not in str(caught.value)
        plain = GenerationRequest("x", webhook="https://me.example/")
        assert (await batches.defer("album", [plain])).new == 1


async def test_lookalikes_share_a_lock_that_serializes_their_jobs(
    postgres: str,
) -> None:
    async with opened(postgres) as (_, batches):
        lookalikes = [GenerationRequest("song", seed=7)] * 2
        await batches.defer("album", [*lookalikes, *songs(1)])
        first, second, other = (lock for _, _, lock in jobs(postgres))
        assert first == second is not None
        assert other is None


@asynccontextmanager
async def service(**settings: Any) -> AsyncGenerator[tuple[Emulator, Any]]:
    """An emulator on a port, and a function that makes a client of it."""
    emulator = Emulator(speed=60, audio=b"ID3", credits=100, **settings)
    async with emulator, serve(emulator) as url:

        def client() -> AsyncClient:
            limits = emulator.rate_limits
            return AsyncClient(emulator.api_key, base_url=url, rate_limits=limits)

        yield emulator, client


@asynccontextmanager
async def working(app: procrastinate.App) -> AsyncGenerator[None]:
    worker = asyncio.create_task(
        app.run_worker_async(
            concurrency=5,
            fetch_job_polling_interval=0.2,
            install_signal_handlers=False,
            shutdown_graceful_timeout=0.0,
        )
    )
    yield
    worker.cancel()
    await asyncio.wait([worker])


async def ended(batches: Batches, batch: str, count: int) -> list[BatchItem]:
    with anyio.fail_after(20):
        while True:
            items = await batches.items(batch, "downloaded", "failed", "held")
            if len(items) == count:
                return items
            await anyio.sleep(0.05)


async def test_a_worker_makes_a_batch_and_retries_what_failed(
    postgres: str, tmp_path: Path
) -> None:
    async with service() as (emulator, client):
        emulator.add_fault(Fault("fail", "/v1/generations", method="POST"))
        options = {"save": into(tmp_path)}
        async with opened(postgres, client, **options) as (app, batches):
            rows = [Row(request=song, custom_id=song.prompt[-1]) for song in songs(3)]
            await batches.defer("album", rows)
            async with working(app):
                items = await ended(batches, "album", 3)
                assert [item.custom_id for item in items] == ["0", "1", "2"]
                assert [item.state for item in items].count("failed") == 1
                assert await batches.retry_failed() == 1
                items = await ended(batches, "album", 3)
            assert [item.state for item in items] == ["downloaded"] * 3
            assert len(emulator.ledger) == 4
            assert names_in(tmp_path / "album") == ["0.mp3", "1.mp3", "2.mp3"]


async def test_an_item_without_a_job_is_given_one(postgres: str) -> None:
    async with service() as (emulator, client):
        async with opened(postgres, client) as (app, batches):
            await batches.defer("album", songs(2))
            with psycopg.connect(postgres) as db:
                db.execute("DELETE FROM procrastinate_jobs")
            async with working(app):
                items = await ended(batches, "album", 2)
            assert [item.state for item in items] == ["downloaded"] * 2
            assert len(emulator.ledger) == 2


def test_another_loop_is_refused_with_a_clear_error() -> None:
    app = procrastinate.App(connector=procrastinate.PsycopgConnector())
    batches = Batches(app, client=AsyncClient)
    with pytest.raises(RuntimeError, match="asyncio only"):
        anyio.run(batches.defer, "album", songs(1), backend="trio")


async def test_items_end_once_while_workers_are_killed(
    postgres: str, tmp_path: Path
) -> None:
    harness = Harness(
        tmp_path,
        postgres,
        items=10,
        kills=2,
        every=(0.5, 1.0),
        seed=4,
        faults=quick_faults(),
    )
    tally = await harness.run()
    assert tally.failures == []
    assert tally.kills >= 1


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
