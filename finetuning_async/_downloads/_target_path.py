"""What stands where a file is to go, and where its part is made. Blocks: for threads.

Symbolic links stay, and what they point to counts. Folders and sockets take no file.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from finetuning_async._errors import InvalidRequestError

if TYPE_CHECKING:
    from typing import BinaryIO

LONGEST_STEM: Final = 100
"""Bytes of a file's name in the name of its part; a whole name has 255 at most."""

_NUMBER: Final = re.compile("[0-9]+")
_ABOUT_ROOM: Final = {errno.ENOSPC, errno.EIO, getattr(errno, "EDQUOT", None)}


@attrs.frozen(kw_only=True)
class TargetPath:
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


def look(path: Path) -> TargetPath:
    """Look what stands at a path.

    Raises:
        InvalidRequestError: No file can be written there.
    """
    try:
        number = _own_descriptor(path)
        old = what_stands(path) if number is None else os.fstat(number)
        real = Path(os.path.realpath(path))
        reason = None if old is None else _refusal(path, number, old)
    except (OSError, ValueError, OverflowError) as error:
        raise _unwritable(path, error) from None
    if reason is not None:
        raise _unwritable(path, reason)
    return TargetPath(
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
        if folder in folders and _NUMBER.fullmatch(path.name):
            return int(path.name)
        path = Path(folder, path.name)
        if not path.is_symlink():
            return None
        path = path.parent / path.readlink()
    return None


def what_stands(path: Path) -> os.stat_result | None:
    """What stands at a path, behind symbolic links; `None` for nothing."""
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
    there = what_stands(real) if stat.S_ISREG(old.st_mode) else None
    return there is not None and os.path.samestat(there, old)


def _unwritable(path: Path, why: Exception | str) -> InvalidRequestError:
    reason: Any = getattr(why, "strerror", None) or why
    if isinstance(why, FileExistsError | NotADirectoryError):
        reason = "a file is in the way"
    return InvalidRequestError(
        "path", str(path), f"a file that can be written ({reason})"
    )


def new_part(place: TargetPath) -> tuple[Path, BinaryIO]:
    """A new file that can take a place: beside it, unless that is of no use.

    Raises:
        InvalidRequestError: None can be made.
    """
    if place.is_written_into:
        return _elsewhere()
    try:
        return beside(place)
    except (OSError, ValueError) as error:
        is_forbidden = isinstance(error, OSError) and not is_about_room(error)
        if place.old is not None and is_forbidden:
            return _elsewhere()  # the file may be written all the same
        raise _unwritable(place.path, error) from None


def is_about_room(error: OSError) -> bool:
    """Whether a disk is full or broken, so that an old file had better stay."""
    return error.errno in _ABOUT_ROOM


def beside(place: TargetPath) -> tuple[Path, BinaryIO]:
    """A new file in the folder of a place, which is made if need be.

    Raises:
        OSError: None can be made.
    """
    folder, name = place.real.parent, os.fsencode(place.real.name)[:LONGEST_STEM]
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{name.decode(errors='ignore')}.{secrets.token_hex(4)}.part"
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    # The system takes away what the umask says. To read that would change it, for all
    # threads. Who may not read the old file may not read this one, either.
    number = os.open(part, flags, 0o666 if place.old is None else 0o600)
    return part, os.fdopen(number, "wb", buffering=0)


def _elsewhere() -> tuple[Path, BinaryIO]:
    number, name = tempfile.mkstemp(suffix=".part")
    return Path(name), os.fdopen(number, "wb", buffering=0)
