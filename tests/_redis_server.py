"""Runs a Redis server for the duration of a benchmark or a test.

It is the installed one, on a free port of the loopback interface, and keeps nothing on
disk: after a kill it starts empty.
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
    """Return the path of the server program; `None` if none is installed."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class RedisServer:
    """A server that can be killed, paused and started again, on one port.

    Attributes:
        url: Its URL.
    """

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        self.url: str = f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> None:
        """Start it, empty.

        Raises:
            RuntimeError: None is installed, or it does not start.
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
        self._await_response()

    def _await_response(self) -> None:
        deadline = time.monotonic() + STARTS_WITHIN
        while time.monotonic() < deadline:
            if self._responds():
                return
            time.sleep(0.02)
        raise RuntimeError("redis-server did not respond within 10 s")

    def _responds(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._port), 1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(7) == b"+PONG\r\n"
        except OSError:
            return False

    def kill(self) -> None:
        """Kill it; its content is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Stop the process: connections stay open, but it responds to nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """End a `pause`."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


@contextlib.contextmanager
def running() -> Generator[RedisServer]:
    """Run a server.

    Raises:
        RuntimeError: None is installed, or it does not start.
    """
    server = RedisServer()
    server.start()
    try:
        yield server
    finally:
        server.kill()
