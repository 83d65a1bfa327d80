"""Ctrl-C on ``finetuning batch run``, in a process of its own on a real port."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

import anyio
import pytest

from finetuning_async.batch import read_summary
from finetuning_async.emulator import Emulator, serve

if TYPE_CHECKING:
    from pathlib import Path

    from anyio.abc import Process

pytestmark = pytest.mark.usefixtures("warm_programs")

ITEMS = 12


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # uvicorn runs on asyncio only


class ProgramRun:
    """A fast emulator, and the program."""

    def __init__(self, folder: Path) -> None:
        self.album = folder / "album"
        self.input = folder / "songs.jsonl"
        rows = ({"tags": f"song {n}"} for n in range(ITEMS))
        self.input.write_text("".join(json.dumps(row) + "\n" for row in rows))
        self.emulator = Emulator(
            speed=30, queue_size=6, audio=b"ID3", generation_time=(30, 40)
        )

    async def start(self, url: str) -> Process:
        words = ["run", str(self.input), "--out", str(self.album), "--speed", "30"]
        return await anyio.open_process(
            [sys.executable, "-m", "finetuning_async", "batch", *words],
            env={
                **os.environ,
                "FINETUNING_BASE_URL": url,
                "FINETUNING_API_KEY": self.emulator.api_key,
            },
        )

    async def until_spent(self, count: int) -> None:
        while len(self.emulator.ledger) < count:  # noqa: ASYNC110 - the ledger has no event
            await anyio.sleep(0.01)


async def output(process: Process) -> str:
    assert process.stderr is not None
    assert process.stdout is not None
    return "".join([part.decode() async for part in process.stderr])


async def test_one_ctrl_c_completes_running_tracks_and_two_exit_at_once(
    tmp_path: Path,
) -> None:
    world = ProgramRun(tmp_path)
    async with world.emulator, serve(world.emulator) as url:
        async with await world.start(url) as process:
            await world.until_spent(2)
            process.send_signal(signal.SIGINT)
            printed = await output(process)
            assert await process.wait() == 130, printed
        assert "Stopping" in printed
        assert "run the same command" in printed
        summary = read_summary(world.album)
        spent = len(world.emulator.ledger)
        assert summary.states["downloaded"] == summary.accepts == spent < ITEMS
        assert summary.in_doubt == 0

        async with await world.start(url) as process:
            await world.until_spent(spent + 2)
            process.send_signal(signal.SIGINT)
            await anyio.sleep(0.1)
            process.send_signal(signal.SIGINT)
            began = time.perf_counter()
            await output(process)
            assert await process.wait() == 130
            assert time.perf_counter() - began < 5
        assert read_summary(world.album).in_doubt == 0

        async with await world.start(url) as process:
            printed = await output(process)
            assert await process.wait() == 0, printed
        assert len(world.emulator.ledger) == ITEMS
