"""A file goes into a pipe whole, as its reader takes it, and nobody else waits."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import httpx
import pytest

from finetuning_async import APITimeoutError, AsyncClient, NotFoundError
from finetuning_async._downloads._atomic_file import check_target

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY = "ft_live_" + "0" * 32
URL = "https://media.example/a.mp3"
SONG = bytes(range(256)) * 8_000
SOON = 0.5
"""Seconds within which what does not wait has ended, on a machine that is busy."""


async def save(path: Path | str, *, status: int = 200, timeout: float = 20) -> None:
    def host(_: httpx.Request) -> httpx.Response:
        return httpx.Response(status, content=SONG)

    http = httpx.AsyncClient(transport=httpx.MockTransport(host))
    client = AsyncClient(KEY, http_client=http)
    await client.download(URL, path, timeout=timeout)


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    path = tmp_path / "a.mp3"
    os.mkfifo(path, 0o600)
    return path


class Reader(threading.Thread):
    """Reads a pipe to its end, or so many bytes.

    Attributes:
        came: What it read.
    """

    def __init__(self, path: Path, *, most: int = 1 << 30, pause: float = 0) -> None:
        super().__init__(daemon=True)
        self._path, self._most, self._pause = path, most, pause
        self.came = b""

    def run(self) -> None:
        with self._path.open("rb", buffering=0) as file:
            while len(self.came) < self._most:
                piece = file.read(min(50_000, self._most - len(self.came)))
                if not piece:
                    return
                self.came += piece
                time.sleep(self._pause)

    async def end(self) -> bytes:
        await anyio.to_thread.run_sync(self.join, 10)
        assert not self.is_alive()
        return self.came


async def longest_pause(of: Callable[[], bool]) -> float:
    """Seconds for which the loop stood still at most, while something holds."""
    longest = 0.0
    while of():
        began = anyio.current_time()
        await anyio.sleep(0.005)
        longest = max(longest, anyio.current_time() - began)
    return longest


def is_pipe(path: Path) -> bool:
    return path.is_fifo()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("pause", [0, 0.02])
@pytest.mark.parametrize("late", [0, 0.3])
async def test_a_pipe_gets_the_whole_file(
    pipe: Path, pause: float, late: float
) -> None:
    reader = Reader(pipe, pause=pause)
    if not late:
        reader.start()
    async with anyio.create_task_group() as group:
        group.start_soon(save, pipe)
        if late:
            await anyio.sleep(late)
            reader.start()
        assert await longest_pause(reader.is_alive) < SOON
    assert await reader.end() == SONG
    assert is_pipe(pipe)
    assert names_in(pipe.parent) == ["a.mp3"]


async def test_a_link_to_a_pipe_leads_there(pipe: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(pipe)
    reader = Reader(pipe)
    reader.start()
    await save(link)
    assert await reader.end() == SONG
    assert link.is_symlink()
    assert is_pipe(pipe)


async def test_nobody_waits_for_a_pipe_that_nobody_reads(pipe: Path) -> None:
    check_target(pipe)
    stopped = anyio.Event()

    async def ticking() -> None:
        assert await longest_pause(lambda: not stopped.is_set()) < SOON

    async with anyio.create_task_group() as group:
        group.start_soon(ticking)
        began = anyio.current_time()
        with anyio.move_on_after(0.2):
            await save(pipe)
        with pytest.raises(APITimeoutError):
            await save(pipe, timeout=0.2)
        assert anyio.current_time() - began < 0.4 + SOON
        stopped.set()
    assert names_in(pipe.parent) == ["a.mp3"]


async def test_a_reader_that_stops_reading_holds_nobody_up(pipe: Path) -> None:
    number = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    began = anyio.current_time()
    with anyio.move_on_after(0.3):
        await save(pipe)
    assert anyio.current_time() - began < 0.3 + SOON
    os.close(number)


async def test_a_reader_that_goes_away_is_told(pipe: Path) -> None:
    reader = Reader(pipe, most=100_000)
    reader.start()
    with pytest.raises(
        BrokenPipeError, match=r"its reader closed the pipe after \d+ of"
    ):
        await save(pipe)
    assert SONG.startswith(await reader.end())
    assert names_in(pipe.parent) == ["a.mp3"]


async def test_a_reader_sees_the_end_of_what_is_not_there(pipe: Path) -> None:
    reader = Reader(pipe)
    reader.start()
    await anyio.sleep(0.1)
    with pytest.raises(NotFoundError):
        await save(pipe, status=404)
    assert await reader.end() == b""


async def test_the_pipe_of_this_process_s_own_is_filled() -> None:
    reading, writing = os.pipe()
    came: list[bytes] = []

    def read() -> None:
        while piece := os.read(reading, 10_000):
            came.append(piece)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        await save(f"/dev/fd/{writing}")
    finally:
        os.close(writing)
    await anyio.to_thread.run_sync(thread.join, 10)
    os.close(reading)
    assert b"".join(came) == SONG
