"""A pipe receives a complete file at its reader's pace, and blocks nothing else."""

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
"""Seconds in which a call that does not wait has ended, on a busy machine."""


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
    """Reads a pipe to its end, or at most a number of bytes.

    Attributes:
        received: The bytes that it has read.
    """

    def __init__(self, path: Path, *, most: int = 1 << 30, pause: float = 0) -> None:
        super().__init__(daemon=True)
        self._path, self._most, self._pause = path, most, pause
        self.received = b""

    def run(self) -> None:
        with self._path.open("rb", buffering=0) as file:
            while len(self.received) < self._most:
                chunk = file.read(min(50_000, self._most - len(self.received)))
                if not chunk:
                    return
                self.received += chunk
                time.sleep(self._pause)

    async def end(self) -> bytes:
        await anyio.to_thread.run_sync(self.join, 10)
        assert not self.is_alive()
        return self.received


async def longest_block(condition: Callable[[], bool]) -> float:
    """The longest time that the loop was blocked meanwhile, in seconds."""
    longest = 0.0
    while condition():
        began = anyio.current_time()
        await anyio.sleep(0.005)
        longest = max(longest, anyio.current_time() - began)
    return longest


def is_pipe(path: Path) -> bool:
    return path.is_fifo()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.sampled(2)
@pytest.mark.parametrize("pause", [0, 0.02])
@pytest.mark.parametrize("late", [0, 0.3])
async def test_a_pipe_receives_the_whole_file(
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
        assert await longest_block(reader.is_alive) < SOON
    assert await reader.end() == SONG
    assert is_pipe(pipe)
    assert names_in(pipe.parent) == ["a.mp3"]


async def test_a_link_to_a_pipe_writes_into_the_pipe(
    pipe: Path, tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(pipe)
    reader = Reader(pipe)
    reader.start()
    await save(link)
    assert await reader.end() == SONG
    assert link.is_symlink()
    assert is_pipe(pipe)


async def test_a_pipe_without_a_reader_blocks_nothing_and_can_be_cancelled(
    pipe: Path,
) -> None:
    check_target(pipe)
    stopped = anyio.Event()

    async def ticking() -> None:
        assert await longest_block(lambda: not stopped.is_set()) < SOON

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


async def test_a_stalled_reader_does_not_delay_a_cancellation(pipe: Path) -> None:
    number = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    began = anyio.current_time()
    with anyio.move_on_after(0.3):
        await save(pipe)
    assert anyio.current_time() - began < 0.3 + SOON
    os.close(number)


async def test_a_reader_that_closes_the_pipe_raises(pipe: Path) -> None:
    reader = Reader(pipe, most=100_000)
    reader.start()
    with pytest.raises(
        BrokenPipeError, match=r"its reader closed the pipe after \d+ of"
    ):
        await save(pipe)
    assert SONG.startswith(await reader.end())
    assert names_in(pipe.parent) == ["a.mp3"]


async def test_a_reader_sees_the_end_if_the_download_fails(pipe: Path) -> None:
    reader = Reader(pipe)
    reader.start()
    await anyio.sleep(0.1)
    with pytest.raises(NotFoundError):
        await save(pipe, status=404)
    assert await reader.end() == b""


async def test_a_pipe_of_this_process_receives_the_file() -> None:
    reading, writing = os.pipe()
    received: list[bytes] = []

    def read() -> None:
        while chunk := os.read(reading, 10_000):
            received.append(chunk)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        await save(f"/dev/fd/{writing}")
    finally:
        os.close(writing)
    await anyio.to_thread.run_sync(thread.join, 10)
    os.close(reading)
    assert b"".join(received) == SONG
