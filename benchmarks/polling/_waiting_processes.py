"""Starts processes that wait for tracks and share a store; reads their output."""

from __future__ import annotations

import signal
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import anyio
import attrs
from anyio.streams.text import TextReceiveStream

from finetuning_async.emulator import Emulator, serve

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from anyio.abc import Process

READY_WITHIN: Final = 30.0
"""Seconds; several start at once."""


@attrs.define(eq=False)
class WaitingProcess:
    """A process that waits for tracks.

    Attributes:
        ended: For each track its status, and when that was noticed, in the machine's
            time.
        reads: When it sent reads, likewise.
    """

    _process: Process
    ended: dict[str, tuple[str, float]] = attrs.field(factory=dict)
    reads: list[float] = attrs.field(factory=list)
    _ready: anyio.Event = attrs.field(factory=anyio.Event)

    async def read_output(self) -> None:
        """Read its output until it ends."""
        assert self._process.stdout is not None
        rest = ""
        async for text in TextReceiveStream(self._process.stdout):
            *lines, rest = (rest + text).split("\n")
            for line in lines:
                self._take(*line.split())

    def _take(self, word: str, *facts: str) -> None:
        if word == "ready":
            self._ready.set()
        elif word == "read":
            self.reads.append(float(facts[0]))
        else:
            self.ended[facts[0]] = facts[1], float(facts[2])

    async def send(self, word: str, track_id: str) -> None:
        """Make it ``wait`` for a track, or send it a ``hint``."""
        assert self._process.stdin is not None
        await self._process.stdin.send(f"{word} {track_id}\n".encode())

    async def until_ended(self, *track_ids: str) -> None:
        """Wait until it has noticed their ends."""
        while not self.ended.keys() >= set(track_ids):  # noqa: ASYNC110 - no event
            await anyio.sleep(0.02)

    async def until_ready(self) -> None:
        """Wait until it reads its input."""
        with anyio.fail_after(READY_WITHIN):
            await self._ready.wait()

    def kill(self) -> None:
        """Kill it, with no time to clean up."""
        self._process.kill()

    def pause(self) -> None:
        """Stop it with SIGSTOP."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Continue it after `pause`."""
        self._process.send_signal(signal.SIGCONT)

    async def end(self) -> None:
        """Kill it if it still runs, and close its pipes."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.aclose()


@asynccontextmanager
async def waiting_processes(
    emulator: Emulator, store: str, count: int, *, backend: str = "asyncio"
) -> AsyncGenerator[list[WaitingProcess]]:
    """Start `count` processes of one account, each with its own key."""
    per = str(emulator.reads_limit[1])
    processes: list[WaitingProcess] = []
    async with serve(emulator) as url:
        try:
            async with anyio.create_task_group() as group:
                for number in range(count):
                    key = f"ft_live_{number:032x}"
                    emulator.add_key(key)
                    processes.append(await _started(url, store, key, per, backend))
                    group.start_soon(processes[-1].read_output)
                for process in processes:
                    await process.until_ready()
                yield processes
                group.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                for process in processes:
                    await process.end()


async def _started(*arguments: str) -> WaitingProcess:
    module = "benchmarks.polling._waiting_process"
    command = [sys.executable, "-m", module, *arguments]
    return WaitingProcess(await anyio.open_process(command, stderr=None))
