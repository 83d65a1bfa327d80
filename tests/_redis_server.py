"""A Redis of one's own, for as long as a benchmark or a test lasts.

It is Debian's, on a free port of the loopback, and keeps nothing on a disk: whoever
kills it starts an empty one.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Generator

STARTS_WITHIN: Final = 10.0
"""Seconds."""

PROGRAMS: Final = ("redis-server", "valkey-server")


def program() -> str | None:
    """The server's program; `None` if there is none."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class RedisServer:
    """A server that can be killed, halted and started again, on one port.

    Attributes:
        url: How to connect to it.
    """

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        self.url: str = f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> None:
        """Start it, empty.

        Raises:
            RuntimeError: There is none, or it does not start.
        """
        found = program()
        if found is None:
            raise RuntimeError("no Redis is installed: apt-get install redis-server")
        options = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(
            [found, "--port", str(self._port), *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._until_it_answers()

    def _until_it_answers(self) -> None:
        deadline = time.monotonic() + STARTS_WITHIN
        while time.monotonic() < deadline:
            if self._answers():
                return
            time.sleep(0.02)
        raise RuntimeError("redis-server does not answer")

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._port), 1) as wire:
                wire.sendall(b"PING\r\n")
                return wire.recv(7) == b"+PONG\r\n"
        except OSError:
            return False

    def kill(self) -> None:
        """Kill it; all that it knew is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def halt(self) -> None:
        """Let it hang: connections stay, and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """End a `halt`."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


@contextlib.contextmanager
def running() -> Generator[RedisServer]:
    """Run a server.

    Raises:
        RuntimeError: There is none, or it does not start.
    """
    server = RedisServer()
    server.start()
    try:
        yield server
    finally:
        server.kill()
