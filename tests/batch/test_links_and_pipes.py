"""Links and pipes under the names of a batch's files stay what they are."""

from __future__ import annotations

import os
import stat
import threading
from typing import TYPE_CHECKING

import anyio.to_thread
import pytest

from finetuning_async import GenerationRequest
from finetuning_async.batch import Batch, Row
from tests._emulated_client import emulated, short

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


async def run(folder: Path, *, again: Callable[[], object] | None = None) -> None:
    """Run a batch of one track, a.mp3; and once more after `again`, if it is given."""
    row = Row(request=GenerationRequest("rain"), custom_id="a")
    async with emulated(short(generation_time=(1, 1))) as (_, client):
        for prepare in (lambda: None, again):
            if prepare is None:
                return
            prepare()
            async with Batch(client, folder) as batch:
                await batch.add([row])
                async for _ in batch.run():
                    pass
                assert batch.summary.states["downloaded"] == 1


async def test_a_link_stays_and_its_target_is_repaired(tmp_path: Path) -> None:
    file, real = tmp_path / "album" / "a.mp3", tmp_path / "real.mp3"

    def move_and_cut() -> None:
        real.write_bytes(file.read_bytes()[:1_000])
        real.chmod(0o600)
        file.unlink()
        file.symlink_to(real)

    await run(file.parent, again=move_and_cut)
    assert file.is_symlink()
    assert real.stat().st_size > 1_000
    assert stat.S_IMODE(real.stat().st_mode) == 0o600


async def test_a_dangling_link_stays_and_gets_its_target(tmp_path: Path) -> None:
    folder = tmp_path / "album"
    folder.mkdir()
    (folder / "a.mp3").symlink_to(tmp_path / "far" / "real.mp3")
    await run(folder)
    assert (folder / "a.mp3").is_symlink()
    assert (tmp_path / "far" / "real.mp3").read_bytes().startswith(b"ID3")


async def test_results_keep_their_mode_and_the_link_to_them(tmp_path: Path) -> None:
    results, real = tmp_path / "album" / "results.jsonl", tmp_path / "real.jsonl"

    def move() -> None:
        results.replace(real)
        real.chmod(0o600)
        results.symlink_to(real)

    await run(results.parent, again=move)
    assert results.is_symlink()
    assert b'"a.mp3"' in real.read_bytes()
    assert stat.S_IMODE(real.stat().st_mode) == 0o600


@pytest.mark.real_time
async def test_a_pipe_is_written_into(tmp_path: Path) -> None:
    pipe, came = tmp_path / "a.mp3", bytearray()
    os.mkfifo(pipe)

    def read() -> None:
        came.extend(pipe.read_bytes())

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    await run(tmp_path, again=lambda: None)  # by then nothing reads it
    await anyio.to_thread.run_sync(thread.join, 10)
    assert bytes(came).startswith(b"ID3")
    assert stat.S_ISFIFO(os.stat(pipe).st_mode)  # noqa: PTH116 - it is not a regular file
