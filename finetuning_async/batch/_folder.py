"""The folder of a batch: its lock, paths and place, and the file system it is on.

The lock is one that the kernel holds for an open file, so it ends with the process,
even by ``kill -9``, and no stale lock file is ever left to remove. Network file systems
may keep such locks on one machine only, and lose the shared memory that SQLite's WAL
needs; so a batch on one gets a warning.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from finetuning_async.journal import BatchError, BatchLockedError, SQLiteStore

try:
    from filelock import FileLock, Timeout
except ImportError as _missing:
    _HINT = (
        f"finetuning_async.batch needs {_missing.name}:"
        " pip install 'finetuning-async[batch]'"
    )
    raise ImportError(_HINT, name=_missing.name) from _missing

if TYPE_CHECKING:
    from finetuning_async.journal import JournalStore

PLACE: Final = "place"
"""The note that says where on the disk the journal is."""

JOURNAL_FOLDER: Final = "batch-journal"
"""The folder inside the batch's that holds journal, lock and unfinished files. It is
one folder and not hidden, so that moving all visible files moves all of it."""

OLD_JOURNAL_FOLDER: Final = ".batch"
"""Where version 0.1.0 kept it."""

JOURNAL_FILE: Final = "journal.db"

MIN_FREE: Final = 1_000_000
"""Bytes that must be free at the start: room for the journal. SQLite itself would say
no more than "disk I/O error"."""

NETWORK_FILE_SYSTEMS: Final = frozenset(
    {
        *("9p", "afs", "ceph", "cifs", "davfs", "glusterfs", "lustre", "ncpfs", "nfs"),
        *("nfs4", "smb3", "smbfs"),
        *("fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs"),
    }
)
"""File systems on which locks and SQLite's shared memory cannot be relied on
(sqlite.org, "Write-Ahead Logging", section 1; proc(5))."""


class Folder:
    """The paths of a batch.

    Args:
        path: Its folder.

    Attributes:
        path: The folder.
        location: Where the files go, for messages.
        audio: The folder that the files go into; `None` if they go elsewhere.
        results: The output with the items that are done.
        errors: The output with the others.
        unfinished: The folder of unfinished downloads.
    """

    def __init__(self, path: Path) -> None:
        self.path: Path = path
        self.location: str = str(path)
        self.audio: Path | None = path
        self.results: Path = path / "results.jsonl"
        self.errors: Path = path / "errors.jsonl"
        self.unfinished: Path = path / JOURNAL_FOLDER / "unfinished"
        # Taken and released in whichever worker thread comes first.
        self._lock = FileLock(path / JOURNAL_FOLDER / "lock", thread_local=False)
        self._is_new = False

    @property
    def journal(self) -> Path:
        """The journal's file; `open` moves an older version's to its new place."""
        old, new = (
            self.path / name / JOURNAL_FILE
            for name in (OLD_JOURNAL_FOLDER, JOURNAL_FOLDER)
        )
        return old if old.exists() and not new.exists() else new

    @property
    def is_batch(self) -> bool:
        """Whether the folder holds a batch."""
        return self.journal.exists()

    def open(self) -> None:
        """Create the folder and take its lock; the kernel frees it if we are killed.

        Raises:
            BatchLockedError: Another runner is working there.
            BatchError: The folder cannot be created or written.
        """
        try:
            self._move_old_journal()
            self._is_new = not self.journal.parent.exists()
            self.journal.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
            # Only under the lock: these are the downloads of a runner that was killed.
            shutil.rmtree(self.unfinished, ignore_errors=True)
            self.unfinished.mkdir()
            self._check_free_space()
        except Timeout:
            raise BatchLockedError(
                f"another runner is working in {self.path}; wait until it has ended, or"
                " stop it"
            ) from None
        except OSError as error:
            self.remove_if_new()
            self.close()
            what = "it is a file" if self.path.is_file() else error.strerror or error
            raise BatchError(
                f"{self.path} cannot be used as the folder of a batch: {what}"
            ) from error

    def open_store(self, *, take_over: bool = False) -> JournalStore:
        """Open the journal, to work on it.

        Args:
            take_over: Whether the files may be those of another journal.

        Raises:
            BatchError: It is a copy whose original is still there.
        """
        del take_over  # files here that the journal does not know are looked at later
        store = SQLiteStore(self.journal)
        try:
            claim_place(store, self.journal)
        except BaseException:
            store.close()
            raise
        return store

    def read_store(self) -> JournalStore:
        """Open the journal to read it, beside a runner that may be at work."""
        return SQLiteStore(self.journal, read_only=True)

    def location_of(self, name: str) -> str:
        """Where a file of this name goes, for messages."""
        return str(self.path / name)

    def publish(self, output: Path) -> None:
        """Make an output that was written visible where the files are: it is there."""

    def _check_free_space(self) -> None:
        """Check that at least the journal can be written.

        Raises:
            OSError: It cannot.
        """
        free = self.free_bytes()
        if free < MIN_FREE:
            raise OSError(
                errno.ENOSPC,
                f"only {free // 1000} kB are free on its disk, but"
                f" {MIN_FREE // 1000} kB are needed; nothing was sent. Free some space",
            )

    def _move_old_journal(self) -> None:
        """Move the journal's folder of an older version, with its lock.

        Raises:
            Timeout: An older version is working there.
            BatchError: There is a journal in the new place too.
        """
        old, new = self.path / OLD_JOURNAL_FOLDER, self.path / JOURNAL_FOLDER
        if not (old / JOURNAL_FILE).exists():
            return
        if (new / JOURNAL_FILE).exists():
            raise BatchError(
                f"{self.path} holds two journals, in {JOURNAL_FOLDER} and in"
                f" {OLD_JOURNAL_FOLDER}: an older version has worked there since. Move"
                " the outdated one away"
            )
        with FileLock(old / "lock", timeout=0):
            pass
        old.replace(new)

    def remove_if_new(self) -> None:
        """Remove a journal that was created by `open` and is empty."""
        if self._is_new:
            shutil.rmtree(self.path / JOURNAL_FOLDER, ignore_errors=True)

    def close(self) -> None:
        """Release the lock."""
        self._lock.release()

    def network_file_system(self) -> str | None:
        """The kind of network file system it is on; `None` if it is on none."""
        return network_kind(self.path.absolute(), _mounts())

    def free_bytes(self) -> int:
        """Free bytes on its disk."""
        return shutil.disk_usage(self.path).free

    def sizes(self) -> dict[str, int]:
        """The size in bytes of each file there, by its name."""
        with os.scandir(self.path) as entries:
            return {e.name: e.stat().st_size for e in entries if e.is_file()}

    def is_stream(self, name: str) -> bool:
        """Whether a name is a pipe or a device, from which nothing can be read back."""
        path = self.path / name
        return path.is_fifo() or path.is_char_device() or path.is_block_device()


def network_kind(path: Path, mounts: str) -> str | None:
    """The kind of network file system a path is on; `None` if it is on none.

    Args:
        path: Absolute.
        mounts: The text of ``/proc/mounts``: each line begins with the device, the
            mount point and the kind.
    """
    best, kind = "", ""
    for line in mounts.splitlines():
        mount_point, name = line.split(" ")[1:3]
        mount_point = mount_point.replace("\\040", " ")
        if len(mount_point) >= len(best) and path.is_relative_to(mount_point):
            best, kind = mount_point, name
    return kind if kind in NETWORK_FILE_SYSTEMS else None


def _mounts() -> str:
    try:
        return Path("/proc/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux: nothing is known
        return ""


def claim_place(store: JournalStore, journal: Path) -> None:
    """Note where the journal is; refuse a copy whose original is still there.

    A folder may be moved. A copy may replace an original that was deleted, and may go
    on independently once everything is made. But two journals that both know what is
    still to be made would both pay for it.

    Args:
        store: The journal.
        journal: Its file.

    Raises:
        BatchError: It is such a copy.
    """
    known, here = store.read_note(PLACE), _place(journal)
    if known == here:
        return
    if known is not None and not store.summary().is_done:
        path, *inode = json.loads(known)
        # A moved file keeps its device and inode; a copy gets another one, while the
        # original still has the one in the note.
        if inode != json.loads(here)[1:] and _is_at(Path(path), inode):
            original = Path(path).parent
            raise BatchError(
                f"{journal.parent} is a copy of {original}, which still exists: both"
                " would pay for the tracks that are left. Resume there, or remove"
                f" {original} to resume here"
            )
    store.write_note(PLACE, here)


def _place(journal: Path) -> str:
    facts = journal.stat()
    return json.dumps([str(journal.resolve()), facts.st_dev, facts.st_ino])


def _is_at(journal: Path, inode: list[int]) -> bool:
    try:
        facts = journal.stat()
    except OSError:
        return False
    return [facts.st_dev, facts.st_ino] == inode
