"""Where a whole file goes, and how it gets there. Blocks: for threads.

A regular file is replaced by name: whoever opens it sees the old one or the new one,
whole. The new one has the mode and the owner of the old; other hard links keep the old
one. Where a name cannot be given (the folder may not be written, the owner not be kept,
the file is mounted there by itself), the file is written where it is.

What is no regular file is written into, in order: pipes and devices. Symbolic links
stay, and what they point to counts.
"""

from __future__ import annotations

import errno
import os
import secrets
import select
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from finetuning_async._errors import InvalidRequestError

if TYPE_CHECKING:
    from typing import BinaryIO

LONGEST_STEM: Final = 100
"""Bytes of a file's name in the name of its part; a whole name has 255 at most."""

PIECE: Final[int] = getattr(select, "PIPE_BUF", 4096)
"""Bytes that a pipe takes without making us wait, when it takes any (poll(2))."""

PATIENCE: Final = 50
"""Milliseconds for which a thread waits for a slow reader: the loop asks again, and may
be cancelled in between."""

NOBODY_READS: Final = 0.05
"""Seconds after which is looked again whether somebody has opened a pipe to read."""


@attrs.frozen(kw_only=True)
class Place:
    """Where a file goes.

    Attributes:
        path: As it was told.
        real: What it names, behind symbolic links.
        old: What stands there; `None` for nothing.
        number: The descriptor of this process that it names, such as 1 for
            ``/dev/stdout``; `None` for none.
        is_written_into: Whether it keeps its place: it is no regular file.
    """

    path: Path
    real: Path
    old: os.stat_result | None
    number: int | None = None
    is_written_into: bool = False


def look(path: Path) -> Place:
    """Look what stands at a path.

    Raises:
        InvalidRequestError: No file can be written there.
    """
    try:
        number = _own_descriptor(path)
        old = _old(path) if number is None else os.fstat(number)
        real = Path(os.path.realpath(path))
        reason = None if old is None else _refusal(path, number, old)
    except (OSError, ValueError) as error:
        raise unwritable(path, error) from None
    if reason is not None:
        raise unwritable(path, reason)
    return Place(
        path=path,
        real=real,
        old=old,
        number=number,
        is_written_into=number is not None or not _can_be_replaced(real, old),
    )


def _own_descriptor(path: Path) -> int | None:
    """The number in ``/dev/stdout``, ``/dev/fd/3`` or ``/proc/self/fd/3``.

    To open these anew would begin a regular file at its start, and is refused where the
    program that opened it was another user's.
    """
    folders = {os.path.realpath("/dev/fd"), os.path.realpath("/proc/self/fd")}
    for _ in range(8):  # links on the way
        folder = os.path.realpath(path.parent)
        if folder in folders and path.name.isdecimal():
            return int(path.name)
        path = Path(folder, path.name)
        if not path.is_symlink():
            return None
        path = path.parent / path.readlink()
    return None


def _old(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _refusal(path: Path, number: int | None, old: os.stat_result) -> str | None:
    """Why what stands there is neither replaced nor written into, if it is not.

    Raises:
        OSError: The same, in the system's words.
    """
    if stat.S_ISDIR(old.st_mode):
        return "it is a directory"
    if number is not None:
        os.write(number, b"")  # raises if it is open for reading only
        return None
    if stat.S_ISSOCK(old.st_mode):
        return "it is a socket"
    return None if os.access(path, os.W_OK) else os.strerror(errno.EACCES)


def _can_be_replaced(real: Path, old: os.stat_result | None) -> bool:
    """Whether it is a regular file, or none, and is really there by that name.

    What ``/proc`` links to may have lost its name.
    """
    if old is None:
        return True
    there = _old(real) if stat.S_ISREG(old.st_mode) else None
    return there is not None and os.path.samestat(there, old)


def unwritable(path: Path, why: Exception | str) -> InvalidRequestError:
    """The error that says why nothing can be written at a path."""
    reason: Any = getattr(why, "strerror", None) or why
    if isinstance(why, FileExistsError | NotADirectoryError):
        reason = "a file is in the way"
    return InvalidRequestError(
        "path", str(path), f"a file that can be written ({reason})"
    )


def new_part(place: Place) -> tuple[Path, BinaryIO]:
    """A new file that can take a place: beside it, unless that is of no use.

    Raises:
        InvalidRequestError: None can be made.
    """
    if place.is_written_into:
        return _elsewhere()
    try:
        return _beside(place)
    except (OSError, ValueError) as error:
        if place.old is not None and isinstance(error, OSError):
            return _elsewhere()  # the file may be written all the same
        raise unwritable(place.path, error) from None


def _beside(place: Place) -> tuple[Path, BinaryIO]:
    folder, name = place.real.parent, os.fsencode(place.real.name)[:LONGEST_STEM]
    folder.mkdir(parents=True, exist_ok=True)
    stem = name.decode(errors="ignore")
    part = folder / f".{stem}.{secrets.token_hex(4)}.part"
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    # The system takes away what the umask says. To read that would change it, for all
    # threads. Who may not read the old file may not read this one, either.
    number = os.open(part, flags, 0o666 if place.old is None else 0o600)
    return part, os.fdopen(number, "wb", buffering=0)


def _elsewhere() -> tuple[Path, BinaryIO]:
    number, name = tempfile.mkstemp(suffix=".part")
    return Path(name), os.fdopen(number, "wb", buffering=0)


class Delivery:
    """A whole file on its way to its place.

    Args:
        part: Where it is; gone at the end.
        place: Where it goes.
    """

    def __init__(self, part: Path, place: Place) -> None:
        self._part = part
        self._place = place
        self._number: int | None = None
        self._source: BinaryIO | None = None
        self._sent = 0

    @property
    def folder(self) -> Path:
        """Where it is in the end, behind symbolic links."""
        return self._place.real.parent

    def go_on(self) -> float | None:
        """Go on.

        Returns:
            `None` once it is there; else seconds after which to go on.

        Raises:
            OSError: It cannot be written, or nobody reads it any more.
        """
        by_name = self._number is None and not self._place.is_written_into
        if by_name and self._take_the_name():
            return None
        number = self.reach()
        if number is None:
            return NOBODY_READS
        if self._source is None:
            self._source = self._part.open("rb")
        return None if self._pour(self._source, number) else 0.0

    def reach(self) -> int | None:
        """Open what is written into; not yet, if it is a pipe that nobody reads."""
        if self._number is None:
            self._number = self._opened()
        return self._number

    def close(self) -> None:
        """Leave nothing behind. A reader that waits at a pipe is let go."""
        if self._is_pipe:
            with suppress(OSError):
                self.reach()
        if self._number is not None:
            os.close(self._number)
        if self._source is not None:
            self._source.close()
        self._part.unlink(missing_ok=True)

    def _take_the_name(self) -> bool:
        """Replace what stands there; `False` if it has to be written where it is."""
        real = self._place.real
        old = _old(real) or self._place.old
        try:
            make_alike(self._part, old)
            self._part.replace(real)
        except OSError as error:
            if error.errno == errno.EXDEV:
                self._move_beside()
                return self._take_the_name()
            if old is None:
                raise
            return False
        return True

    def _move_beside(self) -> None:
        """From another file system."""
        part, file = _beside(self._place)
        source, self._part = self._part, part
        with file, source.open("rb") as origin:
            shutil.copyfileobj(origin, file)
        source.unlink()

    def _opened(self) -> int | None:
        place = self._place
        if place.number is not None:
            return os.dup(place.number)
        if place.is_written_into:
            path, names = place.path, ("O_NONBLOCK", "O_NOCTTY")
        else:
            path, names = place.real, ("O_TRUNC", "O_BINARY")
        flags = os.O_WRONLY
        for name in names:
            flags |= getattr(os, name, 0)
        try:
            return os.open(path, flags)
        except OSError as error:
            if error.errno == errno.ENXIO and self._is_pipe:  # nobody reads it yet
                return None
            raise

    @property
    def _is_pipe(self) -> bool:
        old = self._place.old
        return old is not None and stat.S_ISFIFO(old.st_mode)

    def _pour(self, source: BinaryIO, number: int) -> bool:
        """Write for as long as it is taken; whether that was all."""
        source.seek(self._sent)
        while piece := source.read(PIECE):
            try:
                if not _is_ready(number):
                    return False
                written = os.write(number, piece)
            except BlockingIOError:
                return False
            except BrokenPipeError:
                raise self._left_alone() from None
            self._sent += written
            if written < len(piece):
                source.seek(self._sent)
        return True

    def _left_alone(self) -> BrokenPipeError:
        size = self._part.stat().st_size
        return BrokenPipeError(
            errno.EPIPE,
            f"nobody reads it any more, after {self._sent} of {size} bytes",
            str(self._place.path),
        )


def make_alike(part: Path, old: os.stat_result | None) -> None:
    """Give a file the owner and mode of another, as far as they differ.

    Raises:
        OSError: That cannot be.
    """
    if old is None:
        return
    new = part.stat()
    chown = getattr(os, "chown", None)  # Windows has none
    if chown is not None and (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        chown(part, old.st_uid, old.st_gid)  # before the mode: it may take bits away
    if stat.S_IMODE(part.stat().st_mode) != stat.S_IMODE(old.st_mode):
        part.chmod(stat.S_IMODE(old.st_mode))


def _is_ready(number: int) -> bool:
    poll = getattr(select, "poll", None)  # Windows has none, nor pipes with a name
    if poll is None:
        return True
    poller = poll()
    poller.register(number, select.POLLOUT)
    return bool(poller.poll(PATIENCE))
