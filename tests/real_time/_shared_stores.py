"""Real stores that processes share, and what can happen to them."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import psycopg
import redis

from finetuning_async.postgres import PostgresRateLimiter
from finetuning_async.redis import RedisRateLimiter
from finetuning_async.shared import SharedRateLimiter

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from finetuning_async._coordination._shared_limiter import StoreLimiter
    from tests._redis_server import RedisServer

HOLD = """
import sys, filelock
lock = filelock.FileLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""


class RealStore(Protocol):
    """A store that real processes share.

    Attributes:
        name: As `benchmarks.shared._worker` takes it.
    """

    @property
    def name(self) -> str: ...

    def limiter(self, account: str) -> StoreLimiter:
        """Return the limiter of one more process."""

    def empty(self) -> None:
        """Delete its content."""

    @contextmanager
    def hangs(self) -> Generator[None]:
        """Make it hang until the end of the block."""


class RealFile:
    """A file on this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.name: str = f"file:{folder}"

    def limiter(self, account: str) -> SharedRateLimiter:
        return SharedRateLimiter(self._folder, account=account)

    def empty(self) -> None:
        (path,) = self._folder.glob("*.db")
        with sqlite3.connect(path) as db:
            db.execute("DELETE FROM states")
        db.close()

    @contextmanager
    def hangs(self) -> Generator[None]:
        (lock,) = self._folder.glob("*.lock")
        command = [sys.executable, "-c", HOLD, str(lock)]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            yield
            holder.kill()


class RealRedis:
    """A Redis server for one test."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self.name: str = server.url

    def limiter(self, account: str) -> RedisRateLimiter:
        return RedisRateLimiter(self.name, account=account)

    def empty(self) -> None:
        with redis.Redis.from_url(self.name) as connection:
            connection.flushall()

    @contextmanager
    def hangs(self) -> Generator[None]:
        self._server.pause()
        try:
            yield
        finally:
            self._server.resume()


class RealPostgres:
    """A database in a cluster."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self.name: str = f"postgres:{conninfo}"

    def limiter(self, account: str) -> PostgresRateLimiter:
        return PostgresRateLimiter(self._conninfo, account=account)

    def empty(self) -> None:
        with psycopg.connect(self._conninfo) as admin:
            admin.execute("DELETE FROM finetuning_states")

    @contextmanager
    def hangs(self) -> Generator[None]:
        processes = self._processes()
        _signal(processes, signal.SIGSTOP)
        try:
            yield
        finally:
            _signal(processes, signal.SIGCONT)

    def _processes(self) -> list[int]:
        """Return the server's processes: the first, and one for each connection."""
        with psycopg.connect(self._conninfo) as admin:
            found = admin.execute("SELECT current_setting('data_directory')").fetchall()
            rows = admin.execute("SELECT pid FROM pg_stat_activity").fetchall()
        first = Path(found[0][0], "postmaster.pid").read_text().split()[0]
        return [int(first), *(pid for (pid,) in rows)]


def _signal(processes: Iterable[int], number: signal.Signals) -> None:
    for process in processes:
        try:
            os.kill(process, number)
        except ProcessLookupError:  # the one that answered the query has ended
            continue
