"""A batch whose files go to an object store: whole or not at all, and never twice."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import anyio
import obstore
import pytest
from obstore.store import S3Store

from finetuning_async import GenerationRequest, InvalidRequestError
from finetuning_async.batch import (
    Batch,
    BatchError,
    BatchJournal,
    BatchLockedError,
    Worker,
    into,
    read_summary,
    retry_failed,
)
from finetuning_async.emulator import Emulator, Fault
from tests._emulated_client import emulated
from tests._s3_server import BUCKET, S3Server, s3_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from finetuning_async import AsyncClient
    from finetuning_async.batch import BatchItem

pytestmark = pytest.mark.sampled(2)

URL = f"s3://{BUCKET}/album/"
SONG = b"ID3" + bytes(5000)
REQUESTS = [GenerationRequest(f"song {n}", duration=30) for n in range(3)]


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[S3Server]:
    with s3_server() as server:
        for name, value in server.env.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
        yield server


def objects(s3: S3Server, prefix: str = "album") -> dict[str, bytes]:
    """Everything under a prefix, by its name."""
    store = S3Store(BUCKET, prefix=prefix, config=_config(s3))
    names = [row["path"] for rows in obstore.list(store) for row in rows]
    return {name: bytes(obstore.get(store, name).bytes()) for name in names}


def put(s3: S3Server, name: str, body: bytes) -> None:
    obstore.put(S3Store(BUCKET, prefix="album", config=_config(s3)), name, body)


def _config(s3: S3Server) -> Any:
    return {name.lower(): value for name, value in s3.env.items()}


def files_in(folder: Path, pattern: str) -> int:
    return len(list(folder.rglob(pattern)))


def lines(raw: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in raw.decode().splitlines()]


async def run(
    client: AsyncClient, requests: list[Any] = REQUESTS, **options: Any
) -> list[BatchItem]:
    async with Batch(client, URL, **options) as batch:
        await batch.add(requests)
        return [item async for item in batch.run()]


def songs() -> Emulator:
    return Emulator(generation_time=(20, 30), audio=SONG, failure_rate=0)


async def test_files_and_results_are_in_the_store_and_the_journal_is_here(
    s3: S3Server, tmp_path: Path
) -> None:
    async with emulated(songs()) as (emulator, client):
        items = await run(client)
        assert [item.state for item in items] == ["downloaded"] * 3
        assert {item.path for item in items} == {None}
        found = objects(s3)
        assert {found[item.file] for item in items} == {SONG}
        rows = lines(found["results.jsonl"])
        assert {row["file"] for row in rows} == {item.file for item in items}
        assert found["errors.jsonl"] == b""
        assert len(emulator.ledger) == 3
        assert read_summary(URL).states["downloaded"] == 3
        assert files_in(tmp_path, "journal.db") == 1
        assert files_in(tmp_path, "*.mp3") == 0


async def test_the_same_command_resumes_and_pays_nothing_twice(s3: S3Server) -> None:
    async with emulated(songs()) as (emulator, client):
        async with Batch(client, URL) as batch:
            await batch.add(REQUESTS)
            async for _ in batch.run():
                break
        items = await run(client)
        assert len(emulator.ledger) == 3
        assert {item.state for item in items} <= {"downloaded"}
        assert sorted(set(s3.puts)) == sorted(s3.puts)
        assert len(s3.puts) == 3
        assert await run(client) == []
        assert len(s3.puts) == 3


async def test_an_object_that_was_deleted_is_written_again_for_nothing(
    s3: S3Server,
) -> None:
    async with emulated(songs()) as (emulator, client):
        first, *_ = await run(client)
        store = S3Store(BUCKET, prefix="album", config=_config(s3))
        obstore.delete(store, first.file)
        (again,) = await run(client)
        assert again.file == first.file
        assert objects(s3)[first.file] == SONG
        assert len(emulator.ledger) == 3


@pytest.mark.parametrize("tags", [False, True])
async def test_an_object_of_another_is_never_replaced(s3: S3Server, tags: bool) -> None:
    async with emulated(songs()) as (_, client):
        async with Batch(client, URL, tags=tags) as batch:
            await batch.add(REQUESTS[:1])
            ((name, _),) = [(item.file, item) async for item in _names(batch)]
            put(s3, name, b"a diary")
            (item,) = [item async for item in batch.run()]
        found = objects(s3)
        assert found[name] == b"a diary"
        assert item.file != name
        assert found[item.file].endswith(SONG[10:])
        assert lines(found["results.jsonl"])[0]["file"] == item.file


async def _names(batch: Batch) -> Any:
    for item in batch._store.rows():
        yield item


@pytest.mark.sampled(2)
@pytest.mark.parametrize("earlier_tags", [False, True])
async def test_what_a_killed_run_has_uploaded_is_taken_for_its_own(
    s3: S3Server, earlier_tags: bool, tmp_path: Path
) -> None:
    """It was stored, but the journal does not have it."""
    async with emulated(songs()) as (emulator, client):
        (first,) = await run(
            client, REQUESTS[:1], tags=earlier_tags, journal=tmp_path / "a"
        )
        whole = objects(s3)[first.file]
        async with Batch(client, URL, tags=True, journal=tmp_path / "a") as batch:
            (row,) = batch._store.rows()
            completed = {"state": "completed"}
            batch._store.record(row, _evolved(row.entry, completed))
            (item,) = [item async for item in batch.run()]
        assert item.file == first.file
        assert len(emulator.ledger) == 1
        assert objects(s3)[item.file] == whole if earlier_tags else True
        assert objects(s3)[item.file].startswith(b"ID3")
        assert [n for n in objects(s3) if n.endswith(".mp3")] == [first.file]


def _evolved(entry: Any, changes: dict[str, Any]) -> Any:
    import attrs

    return attrs.evolve(entry, **changes)


async def test_a_store_that_is_slow_or_refuses_is_tried_again(s3: S3Server) -> None:
    s3.broken, s3.before = 6, 0.05
    async with emulated(songs()) as (emulator, client):
        items = await run(client)
        assert [item.state for item in items] == ["downloaded"] * 3
        assert len(emulator.ledger) == 3
        assert sorted(s3.puts) == sorted(item.file for item in items)


async def test_failed_items_are_in_the_errors_there(s3: S3Server) -> None:
    async with emulated(songs()) as (emulator, client):
        emulator.add_fault(Fault("fail", "/v1/generations", method="POST"))
        items = await run(client, REQUESTS[:1])
        assert [item.state for item in items] == ["failed"]
        (row,) = lines(objects(s3)["errors.jsonl"])
        assert row["state"] == "failed"
        assert retry_failed(URL) == 1
        assert [item.state for item in await run(client)] == ["downloaded"] * 3
        assert objects(s3)["errors.jsonl"] == b""


async def test_results_show_while_a_run_goes_on(s3: S3Server) -> None:
    many = [GenerationRequest(f"song {n}") for n in range(14)]
    async with emulated(songs()) as (_, client):
        async with Batch(client, URL) as batch:
            await batch.add(many)
            done = 0
            async for _ in batch.run():
                done += 1
                if done == 12:
                    break
            assert 10 <= len(lines(objects(s3)["results.jsonl"])) < 14


async def test_another_journal_does_not_make_them_again(
    s3: S3Server, tmp_path: Path
) -> None:
    async with emulated(songs()) as (emulator, client):
        await run(client, journal=tmp_path / "one")
        with pytest.raises(BatchError, match=r"whose journal is at .*one.*--adopt"):
            await run(client, journal=tmp_path / "two")
        assert len(emulator.ledger) == 3
        assert await run(client, journal=tmp_path / "two", existing="adopt") == []
        assert len(emulator.ledger) == 3
        with pytest.raises(BatchError, match=r"whose journal is at .*two"):
            await run(client, journal=tmp_path / "one")


async def test_a_batch_to_which_nothing_was_added_can_be_opened_again(
    s3: S3Server, tmp_path: Path
) -> None:
    """As after a run whose rows were invalid: its journal is named in the store."""
    async with emulated(songs()) as (emulator, client):
        async with Batch(client, URL, journal=tmp_path / "one"):
            pass
        assert len(await run(client, journal=tmp_path / "one")) == 3
        with pytest.raises(BatchError, match="whose journal is at"):
            await run(client, journal=tmp_path / "two")
        assert not (tmp_path / "two" / "batch-journal").exists()
        assert len(emulator.ledger) == 3


async def test_a_lost_journal_is_noticed_by_the_results(
    s3: S3Server, tmp_path: Path
) -> None:
    async with emulated(songs()) as (emulator, client):
        await run(client, journal=tmp_path / "one")
        store = S3Store(BUCKET, prefix="album", config=_config(s3))
        obstore.delete(store, "batch-journal.json")
        with pytest.raises(BatchError, match="holds results of 3 of these rows"):
            await run(client, journal=tmp_path / "two")
        assert len(emulator.ledger) == 3


async def test_an_output_of_another_is_kept_under_another_name(s3: S3Server) -> None:
    put(s3, "results.jsonl", b"my own notes\n")
    put(s3, "results-1.jsonl", b"older ones\n")
    async with emulated(songs()) as (_, client):
        await run(client)
        found = objects(s3)
        assert found["results-1.jsonl"] == b"older ones\n"
        assert found["results-2.jsonl"] == b"my own notes\n"
        assert len(lines(found["results.jsonl"])) == 3


async def test_workers_save_there_too(
    s3: S3Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with emulated(songs()) as (emulator, client):
        journal = BatchJournal(tmp_path / "tracks.db")
        numbers = await journal.add("night", REQUESTS)
        worker = Worker(client, journal, save=into(URL))
        put(s3, (await journal.items("night"))[0].file, b"a diary")
        for number in numbers:
            while (await worker.process_item(number)).again_in is not None:  # noqa: ASYNC110 - as a job queue does
                await anyio.sleep(10)
        await journal.aclose()
        found = objects(s3)
        assert len(found) == 4
        assert sorted(found.values()) == [SONG, SONG, SONG, b"a diary"]
        assert all(name.startswith("night/") for name in found)
        assert "does not belong to this batch" in caplog.text
        assert len(emulator.ledger) == 3


async def test_one_runner_at_a_time(s3: S3Server) -> None:
    async with emulated(songs()) as (_, client):
        async with Batch(client, URL):
            with pytest.raises(BatchLockedError):
                async with Batch(client, URL):
                    pass


async def test_a_store_that_cannot_be_used_is_reported_before_anything_is_sent(
    s3: S3Server,
) -> None:
    async with emulated(songs()) as (emulator, client):
        for url in ("s3://no-such-bucket/album/", "s3://no-such-bucket"):
            with pytest.raises(BatchError, match=r"no-such-bucket.* cannot be listed"):
                async with Batch(client, url):
                    pass
        assert emulator.requests == []


@pytest.mark.parametrize(
    "url",
    ["ftp://host/a", "s3://", "s3://user:secret@bucket/a", "s3://bucket/a?k=secret"],
)
async def test_what_is_no_location_is_refused(url: str) -> None:
    async with emulated(songs()) as (_, client):
        with pytest.raises(InvalidRequestError, match="folder must be") as caught:
            Batch(client, url)
        assert "secret" not in str(caught.value)


async def test_a_journal_beside_a_folder_is_refused(tmp_path: Path) -> None:
    async with emulated(songs()) as (_, client):
        with pytest.raises(InvalidRequestError, match="object store only"):
            Batch(client, tmp_path, journal="elsewhere")


async def test_the_password_of_a_journal_that_cannot_be_parsed_is_not_shown(
    s3: S3Server,
) -> None:
    async with emulated(songs()) as (_, client):
        with pytest.raises(InvalidRequestError, match=r"^journal must be") as caught:
            async with Batch(client, URL, journal="postgresql://me:s%cret@db/music"):
                pass
        assert "s%cret" not in str(caught.value)


async def test_a_journal_in_postgresql_is_shared_by_machines(
    s3: S3Server, postgres: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    facts = dict(pair.split("=") for pair in postgres.split())
    place = f"{facts['host']}:{facts['port']}/{facts['dbname']}"
    journal = f"postgresql://{facts['user']}@{place}"
    async with emulated(songs()) as (emulator, client):
        async with Batch(client, URL, journal=journal) as batch:
            await batch.add(REQUESTS)
            async for _ in batch.run():
                break
            monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other machine"))
            with pytest.raises(BatchLockedError, match="another runner"):
                async with Batch(client, URL, journal=journal):
                    pass
        items = await run(client, journal=journal)
        assert {item.state for item in items} <= {"downloaded"}
        assert len(emulator.ledger) == 3
        assert len(s3.puts) == 3
        assert len(lines(objects(s3)["results.jsonl"])) == 3
        assert read_summary(URL, journal=journal).states["downloaded"] == 3
        assert files_in(tmp_path, "journal.db") == 0
