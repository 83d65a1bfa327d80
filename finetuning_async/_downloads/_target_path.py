"""What is at a target path, and where its part file is made. Blocks: for threads.

Symbolic links stay: the file that they point to is the target. Directories and sockets
cannot be targets.
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
"""Bytes of a target's name in the name of its part file; a whole name has at most
255."""

_NUMBER: Final = re.compile("[0-9]+")
_DISK_ERRORS: Final = {errno.ENOSPC, errno.EIO, getattr(errno, "EDQUOT", None)}


@attrs.frozen(kw_only=True)
class TargetPath:
    """Where a file is to go.

    Attributes:
        path: As the caller gave it.
        real: The same with all symbolic links resolved.
        existing: The `stat` of what is there; `None` if nothing is.
        descriptor: The open descriptor of this process that it names, such as 1 for
            ``/dev/stdout``; `None` if it names none.
        written_in_place: Whether it is written into and never replaced: a pipe, a
            device, a descriptor, or a file that its name does not reach.
    """

    path: Path
    real: Path
    existing: os.stat_result | None
    descriptor: int | None = None
    written_in_place: bool = False


def inspect_target(path: Path) -> TargetPath:
    """Find out what is at a path.

    Raises:
        InvalidRequestError: No file can be written there.
    """
    try:
        descriptor = _own_descriptor(path)
        existing = stat_or_none(path) if descriptor is None else os.fstat(descriptor)
        real = Path(os.path.realpath(path))
        reason = None if existing is None else _refusal(path, descriptor, existing)
    except (OSError, ValueError, OverflowError) as error:
        raise _unwritable(path, error) from None
    if reason is not None:
        raise _unwritable(path, reason)
    return TargetPath(
        path=path,
        real=real,
        existing=existing,
        descriptor=descriptor,
        written_in_place=descriptor is not None or not _can_be_replaced(real, existing),
    )


def _own_descriptor(path: Path) -> int | None:
    """The number in ``/dev/stdout``, ``/dev/fd/3`` or ``/proc/self/fd/3``.

    Such a path is written through the descriptor and never opened. To open it again
    would start at the beginning of a regular file that the shell redirected to, over
    what is already there, and is refused where the descriptor was opened by another
    user, as after `sudo`.
    """
    folders = {os.path.realpath("/dev/fd"), os.path.realpath("/proc/self/fd")}
    # Links are followed one at a time: a whole `realpath` would resolve the last link
    # too, and with it the number.
    for _ in range(8):
        folder = os.path.realpath(path.parent)
        if folder in folders and _NUMBER.fullmatch(path.name):
            return int(path.name)
        path = Path(folder, path.name)
        if not path.is_symlink():
            return None
        path = path.parent / path.readlink()
    return None


def stat_or_none(path: Path) -> os.stat_result | None:
    """The `stat` of a path, symbolic links followed; `None` if nothing is there."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _refusal(
    path: Path, descriptor: int | None, existing: os.stat_result
) -> str | None:
    """Why the target can neither be replaced nor written into; `None` if it can.

    Raises:
        OSError: The system's own reason.
    """
    if stat.S_ISDIR(existing.st_mode):
        return "it is a directory"
    if descriptor is not None:
        os.write(descriptor, b"")  # raises if it is open for reading only
        return None
    if stat.S_ISSOCK(existing.st_mode):
        return "it is a socket"
    return None if os.access(path, os.W_OK) else os.strerror(errno.EACCES)


def _can_be_replaced(real: Path, existing: os.stat_result | None) -> bool:
    """Whether a rename to this name replaces what the caller meant.

    Nothing is there, or a regular file that this name reaches. A link in ``/proc`` may
    point to a file that has lost its name: `realpath` then names nothing, or another
    file.
    """
    if existing is None:
        return True
    there = stat_or_none(real) if stat.S_ISREG(existing.st_mode) else None
    return there is not None and os.path.samestat(there, existing)


def _unwritable(path: Path, why: Exception | str) -> InvalidRequestError:
    reason: Any = getattr(why, "strerror", None) or why
    if isinstance(why, FileExistsError | NotADirectoryError):
        reason = "a part of the path is a file"
    return InvalidRequestError(
        "path", str(path), f"a file that can be written ({reason})"
    )


def create_part_file(target: TargetPath) -> tuple[Path, BinaryIO]:
    """Create the part file: beside the target, unless that would be of no use.

    Only a file on the same file system can be renamed to the target in one step.

    Raises:
        InvalidRequestError: None can be created.
    """
    if target.written_in_place:
        return _create_temporary()
    try:
        return create_beside(target)
    except (OSError, ValueError) as error:
        is_forbidden = isinstance(error, OSError) and not is_disk_error(error)
        if target.existing is not None and is_forbidden:
            # The folder cannot be written, but the file in it may be: it is then
            # overwritten in place.
            return _create_temporary()
        raise _unwritable(target.path, error) from None


def is_disk_error(error: OSError) -> bool:
    """Whether a disk is full or broken. Then an old file stays as it is.

    To overwrite it in place would fail as well, and leave neither the old file nor the
    new one.
    """
    return error.errno in _DISK_ERRORS


def create_beside(target: TargetPath) -> tuple[Path, BinaryIO]:
    """Create a file in the folder of a target; the folder is made if it is missing.

    Raises:
        OSError: None can be created.
    """
    folder, name = target.real.parent, os.fsencode(target.real.name)[:LONGEST_STEM]
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{name.decode(errors='ignore')}.{secrets.token_hex(4)}.part"
    # O_EXCL: the file is new, and a symbolic link planted under this name
    # is not followed.
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    # The system subtracts the umask itself. It cannot be read without setting it, which
    # would affect all threads. Beside an old file the mode is 0600 until it is copied,
    # so that a user who may not read the old file cannot read this one either.
    descriptor = os.open(part, flags, 0o666 if target.existing is None else 0o600)
    return part, os.fdopen(descriptor, "wb", buffering=0)


def _create_temporary() -> tuple[Path, BinaryIO]:
    descriptor, name = tempfile.mkstemp(suffix=".part")
    return Path(name), os.fdopen(descriptor, "wb", buffering=0)
