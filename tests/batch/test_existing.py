"""Files and results unknown to the journal are neither paid again nor replaced."""

from __future__ import annotations

import errno
import json
import shutil
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from finetuning_async import GenerationRequest
from finetuning_async.batch import Batch, BatchError, Row, read_summary
from finetuning_async.batch._folder import JOURNAL_FOLDER
from finetuning_async.batch._outputs import Outputs
from finetuning_async.emulator import Emulator, Fault
from tests._emulated_client import SHORT, emulated

if TYPE_CHECKING:
    from pathlib import Path

    from finetuning_async import AsyncClient
    from finetuning_async.batch import BatchItem

pytestmark = pytest.mark.sampled(2)

SONG = b"ID3" + bytes(range(250)) * 4
OTHER = "ft_live_" + 32 * "b"
MINE = b"my own recording"


def emulator(**settings: Any) -> Emulator:
    return Emulator(
        **{"audio": SONG, "queue_size": 100, "generation_time": SHORT, **settings}
    )


def songs(count: int) -> list[GenerationRequest]:
    return [GenerationRequest(f"song {number}", duration=30) for number in range(count)]


def rows(*names: str) -> list[Row]:
    return [
        Row(request=GenerationRequest(f"song {name}"), custom_id=name) for name in names
    ]


async def run(
    client: AsyncClient, folder: Path, wanted: list[Any], **options: Any
) -> list[BatchItem]:
    async with Batch(client, folder, **options) as batch:
        await batch.add(wanted)
        return [item async for item in batch.run()]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def spent(service: Emulator) -> int:
    return -sum(entry.amount for entry in service.ledger)


async def moved_without_its_journal(client: AsyncClient, folder: Path) -> Path:
    """A finished batch in a new folder, without its journal."""
    old, new = folder / "old", folder / "new"
    await run(client, old, songs(4))
    shutil.copytree(old, new, ignore=shutil.ignore_patterns(JOURNAL_FOLDER))
    shutil.rmtree(old)
    return new


async def test_rows_with_results_but_no_journal_are_refused(tmp_path: Path) -> None:
    async with emulated(emulator()) as (service, client):
        new = await moved_without_its_journal(client, tmp_path)
        before = names(new)
        with pytest.raises(BatchError) as caught:
            await run(client, new, songs(4))
        for part in (
            "4 of these rows",
            JOURNAL_FOLDER,
            "--adopt",
            "--anew",
            "nothing was sent",
        ):
            assert part in str(caught.value)
        assert names(new) == before  # so the journal can still be moved there
        assert spent(service) == 4


async def test_existing_results_can_be_adopted(tmp_path: Path) -> None:
    async with emulated(emulator()) as (service, client):
        new = await moved_without_its_journal(client, tmp_path)
        before = lines(new / "results.jsonl")
        assert await run(client, new, songs(4), existing="adopt") == []
        assert lines(new / "results.jsonl") == before
        assert read_summary(new).states["downloaded"] == 4
        assert read_summary(new).spent == 4
        assert await run(client, new, songs(5)) != []
        assert spent(service) == 5


async def test_a_missing_or_truncated_file_is_downloaded_and_not_paid_again(
    tmp_path: Path,
) -> None:
    async with emulated(emulator()) as (service, client):
        new = await moved_without_its_journal(client, tmp_path)
        files = sorted(new.glob("*.mp3"))
        files[0].unlink()
        files[1].write_bytes(SONG[:100])
        ends = await run(client, new, songs(4), existing="adopt")
        assert {item.path for item in ends} == set(files[:2])
        assert all(path.read_bytes() == SONG for path in files)
        assert spent(service) == 4


async def test_files_without_results_can_be_adopted(tmp_path: Path) -> None:
    async with emulated(emulator()) as (service, client):
        new = await moved_without_its_journal(client, tmp_path)
        (new / "results.jsonl").unlink()
        with pytest.raises(BatchError, match="4 of these rows"):
            await run(client, new, songs(4))
        assert await run(client, new, songs(4), existing="adopt") == []
        next(new.glob("*.mp3")).unlink()
        (lost,) = await run(client, new, songs(4))
        assert (lost.state, lost.code) == ("failed", "missing")
        assert spent(service) == 4


async def test_results_of_another_account_are_not_adopted(tmp_path: Path) -> None:
    async with emulated(emulator()) as (service, client):
        new = await moved_without_its_journal(client, tmp_path)
        service.add_account(OTHER)
        stranger = client.with_options(api_key=OTHER)
        with pytest.raises(BatchError, match="none of the 4 tracks"):
            await run(stranger, new, songs(4), existing="adopt")
        assert spent(service) == 4


async def test_a_deleted_track_without_its_file_is_not_adopted(tmp_path: Path) -> None:
    async with emulated(emulator()) as (service, client):
        new = await moved_without_its_journal(client, tmp_path)
        line = lines(new / "results.jsonl")[3]
        (new / line["file"]).unlink()
        await client.generations.delete([line["id"]])
        with pytest.raises(BatchError, match=line["id"]):
            await run(client, new, songs(4), existing="adopt")
        assert spent(service) == 4


async def test_anew_pays_again_and_replaces_nothing(tmp_path: Path) -> None:
    async with emulated(emulator()) as (service, client):
        new = await moved_without_its_journal(client, tmp_path)
        before = {path.name: path.stat().st_mtime_ns for path in new.glob("*.mp3")}
        old_lines = (new / "results.jsonl").read_text()
        ends = await run(client, new, songs(4), existing="anew")
        assert [item.state for item in ends] == ["downloaded"] * 4
        assert spent(service) == 8
        files = {path.name: path.stat().st_mtime_ns for path in new.glob("*.mp3")}
        assert len(files) == 8
        assert before.items() <= files.items()
        assert (new / "results-1.jsonl").read_text() == old_lines
        assert len(lines(new / "results.jsonl")) == 4
        for existing in ("refuse", "anew", "adopt"):
            assert await run(client, new, songs(4), existing=existing) == []
        assert len(lines(new / "results.jsonl")) == 4
        assert not (new / "results-2.jsonl").exists()
        assert spent(service) == 8


@pytest.mark.parametrize(("existing", "cost"), [("adopt", 0), ("anew", 4)])
async def test_rows_added_again_are_known(
    tmp_path: Path, existing: Any, cost: int
) -> None:
    async with emulated(emulator()) as (service, client):
        new = await moved_without_its_journal(client, tmp_path)
        async with Batch(client, new, existing=existing) as batch:
            assert (await batch.add(songs(4))).new == 4
            assert (await batch.add(songs(0))).new == 0
        async with Batch(client, new, existing=existing) as batch:
            for _ in range(2):
                await batch.add(rows("one"))
            added = await batch.add(songs(4))
            assert (added.new, added.known) == (0, 4)
            async for _ in batch.run():
                pass
        assert spent(service) == 4 + cost + 1


async def test_held_and_failed_rows_can_be_adopted(tmp_path: Path) -> None:
    async with emulated(emulator()) as (service, client):
        service.add_fault(
            Fault("lost_before_commit", "/v1/generations", method="POST", skip=1)
        )
        service.add_fault(Fault("fail", "/v1/generations", method="POST"))
        old, new = tmp_path / "old", tmp_path / "new"
        await run(client, old, songs(2))
        shutil.copytree(old, new, ignore=shutil.ignore_patterns(JOURNAL_FOLDER))
        before = lines(new / "errors.jsonl")
        assert {line["state"] for line in before} == {"failed", "held"}
        with pytest.raises(BatchError, match="2 of these rows"):
            await run(client, new, songs(2))
        await run(client, new, songs(2), existing="adopt")
        assert [line["state"] for line in lines(new / "errors.jsonl")] == [
            line["state"] for line in before
        ]
        assert len(service.ledger) == 1


async def test_an_outdated_journal_is_noticed(tmp_path: Path) -> None:
    album, backup = tmp_path / "album", tmp_path / "backup"
    async with emulated(emulator()) as (service, client):
        async with Batch(client, album) as batch:
            await batch.add(songs(4))
        shutil.copytree(album / JOURNAL_FOLDER, backup)
        await run(client, album, songs(4))
        shutil.rmtree(album / JOURNAL_FOLDER)
        shutil.copytree(backup, album / JOURNAL_FOLDER)
        with pytest.raises(BatchError, match="4 of these rows"):
            await run(client, album, songs(4))
        assert await run(client, album, songs(4), existing="adopt") == []
        assert len(lines(album / "results.jsonl")) == 4
        assert spent(service) == 4


@pytest.mark.parametrize("tags", [False, True])
async def test_a_truncated_file_is_downloaded_again(tmp_path: Path, tags: bool) -> None:
    async with emulated(emulator()) as (service, client):
        (item,) = await run(client, tmp_path, rows("rain"), tags=tags)
        assert item.path is not None
        whole = item.path.read_bytes()
        item.path.write_bytes(whole[:-5])
        (again,) = await run(client, tmp_path, rows("rain"), tags=tags)
        assert again.path == item.path
        assert item.path.read_bytes() == whole
        assert names(tmp_path) == [
            JOURNAL_FOLDER,
            "errors.jsonl",
            "rain.mp3",
            "results.jsonl",
        ]
        assert spent(service) == 1


async def test_an_edited_file_is_not_replaced(tmp_path: Path) -> None:
    async with emulated(emulator()) as (service, client):
        (item,) = await run(client, tmp_path, rows("rain"))
        assert item.path is not None
        item.path.write_bytes(MINE)
        (again,) = await run(client, tmp_path, rows("rain"))
        assert item.path.read_bytes() == MINE
        assert again.path != item.path
        assert again.path is not None
        assert again.path.read_bytes() == SONG
        item.path.write_bytes(SONG + b"a tag that was added")
        assert await run(client, tmp_path, rows("rain")) == []
        assert spent(service) == 1


async def test_a_file_that_appears_during_the_run_is_not_replaced(
    tmp_path: Path,
) -> None:
    async with emulated(emulator()) as (service, client):
        async with Batch(client, tmp_path) as batch:
            await batch.add(rows("rain"))
            results = batch.run()
            await anyio.sleep(1)
            (tmp_path / "rain.mp3").write_bytes(MINE)
            (item,) = [item async for item in results]
        assert (tmp_path / "rain.mp3").read_bytes() == MINE
        assert item.path is not None
        assert item.path.read_bytes() == SONG
        assert item.file == item.path.name
        (line,) = lines(tmp_path / "results.jsonl")
        assert line["file"] == item.file
        assert await run(client, tmp_path, rows("rain")) == []
        assert spent(service) == 1


async def test_a_foreign_file_is_reported_before_anything_is_paid(
    tmp_path: Path,
) -> None:
    (tmp_path / "Rain.mp3").write_bytes(MINE)
    async with emulated(emulator()) as (service, client):
        with pytest.raises(BatchError, match=r"Rain\.mp3"):
            await run(client, tmp_path, rows("rain"))
        assert service.ledger == []
        (item,) = await run(client, tmp_path, rows("rain"), existing="anew")
        assert (tmp_path / "Rain.mp3").read_bytes() == MINE
        assert item.file.casefold() != "rain.mp3"


async def test_names_that_differ_only_in_case_do_not_collide(tmp_path: Path) -> None:
    async with emulated(emulator()) as (service, client):
        await run(client, tmp_path, rows("Rain"))
        await run(client, tmp_path, rows("rain", "RAIN"))
        files = [name.casefold() for name in names(tmp_path) if name.endswith(".mp3")]
        assert len(files) == len(set(files)) == 3
        assert "rain.mp3" in files
        assert await run(client, tmp_path, rows("Rain", "rain", "RAIN")) == []
        assert spent(service) == 3


async def test_foreign_results_are_kept(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_text('{"score": 3}\n')
    (tmp_path / "errors.jsonl").write_text("see the notebook\n")
    async with emulated(emulator()) as (_, client):
        await run(client, tmp_path, songs(2))
    assert (tmp_path / "results-1.jsonl").read_text() == '{"score": 3}\n'
    assert (tmp_path / "errors-1.jsonl").read_text() == "see the notebook\n"
    assert len(lines(tmp_path / "results.jsonl")) == 2


async def test_a_folder_named_like_the_results_is_kept(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").mkdir()
    async with emulated(emulator()) as (_, client):
        await run(client, tmp_path, songs(2))
    assert (tmp_path / "results-1.jsonl").is_dir()
    assert len(lines(tmp_path / "results.jsonl")) == 2


@pytest.mark.parametrize("method", ["append", "rewrite"])
async def test_unwritable_outputs_lose_no_track(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async with emulated(emulator()) as (service, client):
        async with Batch(client, tmp_path) as batch:
            await batch.add(songs(2))
            results = batch.run()
            await anyio.sleep(5)
            with monkeypatch.context() as patch:
                patch.setattr(Outputs, method, full)
                ends = [item async for item in results]
            assert [item.state for item in ends] == ["downloaded"] * 2
            assert batch.paused is not None
            assert batch.paused[0] == "disk"
        await run(client, tmp_path, songs(2))
        assert len(lines(tmp_path / "results.jsonl")) == 2
        assert spent(service) == 2


async def test_lines_of_other_rows_are_kept(tmp_path: Path) -> None:
    async with emulated(emulator()) as (service, client):
        new = await moved_without_its_journal(client, tmp_path)
        before = (new / "results.jsonl").read_text()
        await run(client, new, songs(2), existing="adopt")
        assert (new / "results-1.jsonl").read_text() == before
        assert len(lines(new / "results.jsonl")) == 2
        assert spent(service) == 4
