"""Runs a PostgreSQL server for the duration of a proof or a test session.

It is the installed one, in a temporary folder, on a free port of the loopback
interface, without ``fsync``: tests kill our program, not the machine. PostgreSQL
refuses to run as root; under root it runs as another user.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Generator

STARTS_WITHIN: Final = 20.0
"""Seconds."""

USERS: Final = ("postgres", "nobody")
"""The users to run it as under root: the first one that exists."""


def programs() -> Path | None:
    """Return the folder of ``initdb`` and ``postgres``; `None` if not installed."""
    if not hasattr(os, "geteuid"):  # Windows
        return None
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).parent
    debian = Path("/usr/lib/postgresql")
    versions = sorted(debian.glob("*/bin/initdb"), key=lambda p: float(p.parts[-3]))
    return versions[-1].parent if versions else None


def _user() -> str | None:
    """Return the user to run it as; `None` for the present one."""
    if os.geteuid() != 0:
        return None
    from pwd import getpwall  # there is no such module on Windows

    known = {entry.pw_name for entry in getpwall()}
    return next(name for name in USERS if name in known)


@contextlib.contextmanager
def cluster() -> Generator[str]:
    """Run a server; yields its connection string.

    Raises:
        RuntimeError: None is installed, or it does not start.
    """
    where, user = programs(), _user()
    if where is None:
        raise RuntimeError("no PostgreSQL is installed: apt-get install postgresql")
    with tempfile.TemporaryDirectory(prefix="ftpg-") as folder:
        if user is not None:
            shutil.chown(folder, user)
        data = f"{folder}/data"
        make = ["initdb", "-D", data, "-U", "tester", "-A", "trust", "--no-sync"]
        _run(where, [*make, "--no-locale", "-E", "UTF8"], user, folder)
        port = _free_port()
        conninfo = f"host=127.0.0.1 port={port} user=tester dbname=postgres"
        with _server(where, data, port, user):
            yield conninfo


def _run(where: Path, command: list[str], user: str | None, folder: str) -> None:
    done = subprocess.run(
        [str(where / command[0]), *command[1:]],
        user=user,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]}: {done.stderr}")


@contextlib.contextmanager
def _server(where: Path, data: str, port: int, user: str | None) -> Generator[None]:
    settings = {
        "fsync": "off",
        "listen_addresses": "127.0.0.1",
        "max_connections": "100",
        "port": port,
        "shared_buffers": "16MB",
        "unix_socket_directories": "",
    }
    options = [
        word for name, value in settings.items() for word in ("-c", f"{name}={value}")
    ]
    with Path(data, "log").open("w") as log:
        process = subprocess.Popen(
            [str(where / "postgres"), "-D", data, *options],
            user=user,
            cwd=data,
            stdout=log,
            stderr=log,
        )
    try:
        _await_port(process, port, Path(data, "log"))
        yield
    finally:
        process.send_signal(signal.SIGQUIT)  # at once: its content is not needed
        process.wait()


def _await_port(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + STARTS_WITHIN
    ready = "database system is ready to accept connections"
    while time.monotonic() < until and process.poll() is None:
        if ready in log.read_text():
            return
        time.sleep(0.02)
    raise RuntimeError(f"PostgreSQL does not start on {port}: {log.read_text()}")


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def new_database(conninfo: str, name: str) -> str:
    """Create a database; returns its connection string."""
    import psycopg  # here, because it belongs to an extra

    with psycopg.connect(conninfo, autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}"')
    return conninfo.replace("dbname=postgres", f"dbname={name}")


def empty_database(conninfo: str) -> None:
    """Close what is connected to a database, and remove what is in it.

    Another database for each test would take it ten times as long.
    """
    import psycopg

    with psycopg.connect(conninfo, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        admin.execute("DROP SCHEMA public CASCADE")  # waits for what they lock
        admin.execute("CREATE SCHEMA public")
