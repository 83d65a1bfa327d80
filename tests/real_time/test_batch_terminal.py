"""``finetuning batch run`` on a terminal of 80 columns: what it shows, and when."""

from __future__ import annotations

import json
import os
import pty
import re
import struct
import sys
import termios
from fcntl import ioctl
from typing import TYPE_CHECKING

import anyio
import pytest

from finetuning_async.emulator import Emulator, serve

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from anyio.abc import Process

pytestmark = pytest.mark.usefixtures("warm_programs")

COLUMNS = 80
STOPPING = "Stopping after the items in progress. Press Ctrl-C again to quit now."


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # uvicorn runs on asyncio only


class Screen:
    """As much of a terminal as rich's tables use."""

    def __init__(self) -> None:
        self.lines = [""]
        self._row = 0
        self._column = 0

    def feed(self, text: str) -> None:
        for part in re.findall(r"\x1b\[\??[0-9;]*[A-Za-z]|[^\x1b]|\x1b", text):
            if part == "\r":
                self._column = 0
            elif part == "\n":
                self._row += 1
                self.lines += [""] * (self._row + 1 - len(self.lines))
            elif part.startswith("\x1b"):
                self._control(part)
            else:
                line = self.lines[self._row].ljust(self._column)
                self.lines[self._row] = (
                    line[: self._column] + part + line[self._column + 1 :]
                )
                self._column += 1

    def _control(self, code: str) -> None:
        if code.endswith("A"):
            self._row -= int(code[2:-1] or 1)
        elif code.endswith("K"):
            self.lines[self._row] = ""


class Terminal:
    """The program's terminal, and what it shows."""

    process: Process

    def __init__(self) -> None:
        self.number, self.side = pty.openpty()
        ioctl(self.side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
        self.screen = Screen()

    async def until(self, word: str) -> list[str]:
        """The lines on the screen, once it shows a word."""
        with anyio.fail_after(15):
            while not any(word in line for line in self.screen.lines):
                await self.look()
        return [line.rstrip() for line in self.screen.lines]

    async def look(self) -> None:
        await anyio.wait_readable(self.number)
        self.screen.feed(os.read(self.number, 65536).decode())

    async def look_for(self, seconds: float) -> list[str]:
        with anyio.move_on_after(seconds):
            while True:
                await self.look()
        return [line.rstrip() for line in self.screen.lines]


@pytest.fixture
async def terminal(tmp_path: Path) -> AsyncGenerator[Terminal]:
    rows = ({"tags": f"song {n}", "custom_id": f"s{n}"} for n in range(6))
    songs = tmp_path / "songs.jsonl"
    songs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    emulator = Emulator(queue_size=2, audio=b"ID3", generation_time=(60, 60))
    terminal = Terminal()
    words = ["batch", "run", str(songs), "--out", str(tmp_path / "album")]
    async with emulator, serve(emulator) as url:
        async with await anyio.open_process(
            [sys.executable, "-m", "finetuning_async", *words],
            stdin=terminal.side,
            stdout=terminal.side,
            stderr=terminal.side,
            start_new_session=True,
            env={
                **os.environ,
                "TERM": "xterm",
                "FINETUNING_BASE_URL": url,
                "FINETUNING_API_KEY": emulator.api_key,
            },
        ) as process:
            terminal.process = process
            try:
                yield terminal
            finally:
                process.kill()


async def test_the_table_fits_and_says_what_it_waits_for(terminal: Terminal) -> None:
    lines = await terminal.until("when a track ends")
    assert "done    running  queued  failed  in doubt  credits" in lines
    assert max(map(len, lines)) <= COLUMNS
    assert not any("…" in line or "in 0.0 s" in line for line in lines)


async def test_a_signal_is_acknowledged_at_once_and_the_message_stays(
    terminal: Terminal,
) -> None:
    await terminal.until("when a track ends")
    terminal.process.terminate()
    assert STOPPING in await terminal.look_for(1)
    lines = await terminal.look_for(1)
    assert STOPPING in lines
    assert sum(line.startswith("done ") for line in lines) == 1
