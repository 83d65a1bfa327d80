"""How a whole file gets to its place. Blocks: for threads.

A regular file is replaced by name: whoever opens it sees the old one or the new one,
whole. The new one has the mode and the owner of the old; other hard links keep the old
one. Where a name cannot be given (the folder may not be written, the owner not be kept,
the file is mounted there by itself), the file is written where it is.

What is no regular file is written into, in order: pipes and devices.
"""

from __future__ import annotations

import errno
import os
import select
import shutil
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from finetuning_async._downloads._target_path import (
    beside,
    is_about_room,
    look,
    what_stands,
)
from finetuning_async._errors import InvalidRequestError

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

    from finetuning_async._downloads._target_path import TargetPath

PIECE: Final[int] = getattr(select, "PIPE_BUF", 4096)
"""Bytes that a pipe takes without making us wait, when it takes any (poll(2))."""

PATIENCE: Final = 50
"""Milliseconds for which a thread waits for a slow reader: the loop asks again, and may
be cancelled in between."""

NOBODY_READS: Final = 0.05
"""Seconds after which is looked again whether somebody has opened a pipe to read."""


class Placement:
    """A whole file on its way to its place.

    Args:
        part: Where it is; gone at the end.
        place: Where it goes.
    """

    def __init__(self, part: Path, place: TargetPath) -> None:
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
        """Leave nothing behind."""
        if self._number is not None:
            os.close(self._number)
        else:
            let_go(self._place.path)
        if self._source is not None:
            self._source.close()
        self._part.unlink(missing_ok=True)

    def _take_the_name(self) -> bool:
        """Replace what stands there; `False` if it has to be written where it is."""
        old = what_stands(self._place.real) or self._place.old
        try:
            self._replace(old)
        except OSError as error:
            if error.errno == errno.EXDEV:
                return self._move_beside(old) and self._take_the_name()
            if old is None or is_about_room(error):
                raise
            return False
        return True

    def _replace(self, old: os.stat_result | None) -> None:
        if old is None:
            self.folder.mkdir(parents=True, exist_ok=True)
        else:
            _make_alike(self._part, old)
        self._part.replace(self._place.real)

    def _move_beside(self, old: os.stat_result | None) -> bool:
        """From another file system; whether there may be a file beside it."""
        try:
            part, file = beside(self._place)
        except OSError as error:
            if old is None or is_about_room(error):
                raise
            return False
        source, self._part = self._part, part
        try:
            with file, source.open("rb") as origin:
                shutil.copyfileobj(origin, file)
        finally:
            source.unlink()
        return True

    def _opened(self) -> int | None:
        place = self._place
        if place.number is not None:
            return os.dup(place.number)
        if place.is_written_into:
            path, names = place.path, ("O_NONBLOCK", "O_NOCTTY")
        else:
            path, names = place.real, ("O_TRUNC", "O_BINARY")
        try:
            return _open(path, *names)
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


def replace(part: Path, path: Path) -> None:
    """Bring a whole file to its place now; not into a pipe that nobody empties.

    Raises:
        OSError: It cannot be put there.
    """
    try:
        delivery = Placement(part, look(path))
    except InvalidRequestError as error:
        raise OSError(str(error)) from None
    try:
        if delivery.go_on() is not None:
            raise OSError(errno.EAGAIN, "nobody reads it", str(path))
    finally:
        delivery.close()


def let_go(path: Path) -> None:
    """Let a reader that waits at a pipe see its end: nothing will come."""
    with suppress(OSError, ValueError):
        if path.is_fifo():
            os.close(_open(path, "O_NONBLOCK"))


def _open(path: Path, *names: str) -> int:
    """Open it to be written, with flags of which Windows lacks some."""
    flags = os.O_WRONLY
    for name in names:
        flags |= getattr(os, name, 0)
    return os.open(path, flags)


def _make_alike(part: Path, old: os.stat_result) -> None:
    """Give a file the owner and mode of another, as far as they differ.

    Raises:
        OSError: That cannot be.
    """
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
