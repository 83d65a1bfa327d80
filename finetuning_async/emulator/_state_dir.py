"""The folder in which an emulator keeps its state: a SQLite file, written in threads.

A process that is killed loses at most what happened in the last second.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from finetuning_async.emulator import _state

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from finetuning_async.emulator._service import Service
    from finetuning_async.emulator._state import Row, Saved

FILE = "emulator.sqlite3"
EVERY = 0.5
"""Seconds between looks for changes; a write takes far less than the rest."""

_TABLE = """
CREATE TABLE IF NOT EXISTS state (
    place INTEGER PRIMARY KEY, kind TEXT, id TEXT, body TEXT, UNIQUE (kind, id)
)
"""
_GET = "SELECT id, body FROM state WHERE kind = ? ORDER BY place"
_PUT = """
INSERT INTO state (kind, id, body) VALUES (?, ?, ?)
ON CONFLICT (kind, id) DO UPDATE SET body = excluded.body
"""


class StateDir:
    """The state of one emulator on disk. One process at a time has it open."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._file = Path(folder) / FILE
        self._recorder = _state.Recorder()
        self._saved: Saved | None = None
        self.run: int = 0

    def open(self) -> None:
        """Open the file, or make it, and read what an earlier run left.

        Raises:
            OSError: The folder cannot be written, or another emulator has it open.
        """
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(
            self._file, timeout=2, isolation_level=None, check_same_thread=False
        )
        try:
            self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA cache_size = -256")  # KiB; it is read once
            self._database.execute(_TABLE)
            self._saved = _state.saved(self._table)
        except sqlite3.Error as error:
            self._database.close()
            message = f"{self._file} cannot be used: {error}"
            if "locked" in str(error):
                message = f"another emulator has {self._file} open: give it another"
            raise OSError(message) from None
        self.run = self._saved.run if self._saved else 0

    def restore(self, service: Service) -> bool:
        """Fill a service that has just begun; false if no earlier run left anything."""
        if self._saved is None:
            return False
        # Not the loop's clock: an earlier process stored these times.
        _state.restore(service, self._saved, time.time())
        self._recorder.adopt(service, self._saved)
        return True

    async def keep(self, service: Callable[[], Service]) -> None:
        """Write changes until cancelled."""
        while True:
            await anyio.sleep(EVERY)
            await self.save(service())

    async def save(self, service: Service) -> None:
        """Write what has changed."""
        # Not the loop's clock: a later process reads these times.
        anew, rows, gone = self._recorder.changes(service, self.run, time.time())
        with anyio.CancelScope(shield=True):  # a change is handed out once
            await anyio.to_thread.run_sync(self._write, anew, rows, gone)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _table(self, kind: str) -> Iterator[tuple[str, str]]:
        return self._database.execute(_GET, (kind,))

    def _write(self, anew: bool, rows: list[Row], gone: list[tuple[str, str]]) -> None:
        with self._database:
            self._database.execute("BEGIN")
            if anew:
                self._database.execute("DELETE FROM state")
            self._database.executemany(
                "DELETE FROM state WHERE kind = ? AND id = ?", gone
            )
            self._database.executemany(_PUT, rows)
