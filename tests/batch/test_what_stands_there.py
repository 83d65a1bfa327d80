"""What stands in a batch's folder under the name of a track keeps what it is."""

from __future__ import annotations

import os
import stat
import threading
from typing import TYPE_CHECKING

import anyio.to_thread
import pytest

from finetuning_async import GenerationRequest
from finetuning_async.batch import Batch, Row
from finetuning_async.emulator import Emulator
from tests._world import emulated

if TYPE_CHECKING:
    from pathlib import Path


async def run(folder: Path) -> list[str]:
    """Run a batch of one track, whose file is a.mp3; what its states are."""
    async with emulated(Emulator(generation_time=(1, 1))) as (_, client):
        async with Batch(client, folder) as batch:
            await batch.add([Row(request=GenerationRequest("rain"), custom_id="a")])
            return [item.state async for item in batch.run()]


async def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path: Path) -> None:
    folder, real = tmp_path / "album", tmp_path / "real.mp3"
    folder.mkdir()
    real.touch(0o600)
    (folder / "a.mp3").symlink_to(real)
    assert await run(folder) == ["downloaded"]
    assert (folder / "a.mp3").is_symlink()
    assert real.read_bytes().startswith(b"ID3")
    assert stat.S_IMODE(real.stat().st_mode) == 0o600


async def test_a_link_to_nothing_stays_and_leads_to_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "album"
    folder.mkdir()
    (folder / "a.mp3").symlink_to(tmp_path / "far" / "real.mp3")
    assert await run(folder) == ["downloaded"]
    assert (folder / "a.mp3").is_symlink()
    assert (tmp_path / "far" / "real.mp3").read_bytes().startswith(b"ID3")


@pytest.mark.real_time
async def test_a_pipe_is_written_into(tmp_path: Path) -> None:
    pipe, came = tmp_path / "a.mp3", bytearray()
    os.mkfifo(pipe)

    def read() -> None:
        came.extend(pipe.read_bytes())

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    assert await run(tmp_path) == ["downloaded"]
    await anyio.to_thread.run_sync(thread.join, 10)
    assert bytes(came).startswith(b"ID3")
    assert stat.S_ISFIFO(os.stat(pipe).st_mode)  # noqa: PTH116 - it is no regular file
