"""The folder of a batch: its lock, its places, and what file system it is on."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Final

from finetuning_async.journal import BatchError, BatchLockedError

try:
    from filelock import FileLock, Timeout
except ImportError as _missing:
    _HINT = (
        f"finetuning_async.batch needs {_missing.name}:"
        " pip install 'finetuning-async[batch]'"
    )
    raise ImportError(_HINT, name=_missing.name) from _missing

HOME: Final = "batch-journal"
"""The folder inside the batch's that holds journal, lock and unfinished files. It is no
hidden one, and one: whoever moves what there is to be seen, moves all of it."""

FORMER: Final = ".batch"
"""Where version 0.1.0 kept it."""

JOURNAL: Final = "journal.db"

LEAST: Final = 1_000_000
"""Bytes that must be free to begin: room for the journal, which says by itself no more
than "disk I/O error"."""

NETWORK: Final = frozenset(
    {
        *("9p", "afs", "ceph", "cifs", "davfs", "glusterfs", "lustre", "ncpfs", "nfs"),
        *("nfs4", "smb3", "smbfs"),
        *("fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs"),
    }
)
"""File systems on which locks and SQLite's shared memory cannot be relied on
(sqlite.org, "Write-Ahead Logging", section 1; proc(5))."""


class Folder:
    """The places of a batch.

    Args:
        path: Its folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.results = path / "results.jsonl"
        self.errors = path / "errors.jsonl"
        self.unfinished = path / HOME / "unfinished"
        self._lock = FileLock(path / HOME / "lock", thread_local=False)
        self._is_new = False

    @property
    def journal(self) -> Path:
        """The journal's file; `open` moves one of an older version to its new place."""
        old, new = (self.path / home / JOURNAL for home in (FORMER, HOME))
        return old if old.exists() and not new.exists() else new

    @property
    def is_batch(self) -> bool:
        """Whether a batch was begun there."""
        return self.journal.exists()

    def open(self) -> None:
        """Make the folder and take its lock; the kernel frees it if we are killed.

        Raises:
            BatchLockedError: Another runner works there.
            BatchError: It cannot be made or written.
        """
        try:
            self._move_former()
            self._is_new = not self.journal.parent.exists()
            self.journal.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
            shutil.rmtree(self.unfinished, ignore_errors=True)
            self.unfinished.mkdir()
            self._check_room()
        except Timeout:
            raise BatchLockedError(
                f"another runner works in {self.path}; wait for it, or stop it"
            ) from None
        except OSError as error:
            self.leave_no_trace()
            self.close()
            what = "it is a file" if self.path.is_file() else error.strerror or error
            raise BatchError(f"{self.path} cannot be used: {what}") from error

    def _check_room(self) -> None:
        """Check that at least the journal can be written.

        Raises:
            OSError: It cannot.
        """
        free = self.free_bytes()
        if free < LEAST:
            raise OSError(
                errno.ENOSPC,
                f"only {free // 1000} kB are free on its disk; nothing was sent",
            )

    def _move_former(self) -> None:
        """Move the folder of an older version, its lock with it, to where it is seen.

        Raises:
            Timeout: An older version works there.
            BatchError: There is a journal in the new place, too.
        """
        old, new = self.path / FORMER, self.path / HOME
        if not (old / JOURNAL).exists():
            return
        if (new / JOURNAL).exists():
            raise BatchError(
                f"{self.path} holds two journals, in {HOME} and in {FORMER}: an older"
                " version has worked there since. Move the one away that is out of date"
            )
        with FileLock(old / "lock", timeout=0):
            pass
        old.replace(new)

    def leave_no_trace(self) -> None:
        """Remove a journal that was begun now, and into which nothing was taken."""
        if self._is_new:
            shutil.rmtree(self.path / HOME, ignore_errors=True)

    def close(self) -> None:
        """Give the lock back."""
        self._lock.release()

    def network_file_system(self) -> str | None:
        """The kind of network file system it is on; `None` if it is on none."""
        return network_kind(self.path.absolute(), _mounts())

    def free_bytes(self) -> int:
        """What can still be written there."""
        return shutil.disk_usage(self.path).free

    def sizes(self) -> dict[str, int]:
        """The files there by name, in bytes."""
        with os.scandir(self.path) as entries:
            return {e.name: e.stat().st_size for e in entries if e.is_file()}

    def keeps_nothing(self, name: str) -> bool:
        """Whether it is a pipe or a device, in which no file is to be found again."""
        path = self.path / name
        return path.is_fifo() or path.is_char_device() or path.is_block_device()


def network_kind(path: Path, mounts: str) -> str | None:
    """The kind of network file system a path is on.

    Args:
        path: Absolute.
        mounts: The text of ``/proc/mounts``: device, place, kind, and more a line.
    """
    best, kind = "", ""
    for line in mounts.splitlines():
        place, name = line.split(" ")[1:3]
        place = place.replace("\\040", " ")
        if len(place) >= len(best) and path.is_relative_to(place):
            best, kind = place, name
    return kind if kind in NETWORK else None


def _mounts() -> str:
    try:
        return Path("/proc/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux: nothing is known
        return ""
