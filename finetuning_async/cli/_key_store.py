"""Where ``auth login`` stores the API key: the OS keyring, else a file.

The keyring needs the extra ``keyring``, and a desktop or a daemon that provides one.
Without it the key goes to the file ``credentials`` in the settings folder: plain text,
mode 0600. Service, account and file have the names that the vendor's program uses.
"""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from finetuning_async._secrets import ApiKey
from finetuning_async.cli._config import config_folder
from finetuning_async.cli._error_exit import InvalidInputError
from finetuning_async.cli._output import say
from finetuning_async.cli._signals import raise_on_signal

if TYPE_CHECKING:
    from collections.abc import Callable

    from finetuning_async.cli._options import CommonOptions

T = TypeVar("T")

SERVICE: Final = "finetuning"
ACCOUNT: Final = "default"
KEYRING: Final = "OS keyring"
MAX_BYTES: Final = 4096
"""The most that is read of a key; a key has 40 bytes."""

_OTHERS_ACCESS: Final = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


def key_file() -> Path:
    """The key file; it need not exist."""
    return config_folder() / "credentials"


def load(common: CommonOptions) -> tuple[ApiKey, str] | None:
    """The stored key and its place.

    Raises:
        InvalidInputError: Other users can access the file, or it cannot be read.
    """
    text = _use_keyring(common, lambda ring: ring.get_password(SERVICE, ACCOUNT))
    if text:
        return ApiKey(text.strip()), KEYRING
    text = _read_file()
    return (ApiKey(text), str(key_file())) if text else None


def save(common: CommonOptions, key: ApiKey) -> str:
    """Store a key in place of an older one, and return where it is.

    Raises:
        click.ClickException: It cannot be written.
    """
    if _use_keyring(common, lambda ring: _put_in_keyring(ring, key)):
        _remove_file()
        return KEYRING
    # `load` looks into the keyring first, so an older key there would win.
    _use_keyring(common, _delete_from_keyring)
    _write_file(key)
    return str(key_file())


def clear(common: CommonOptions) -> list[str]:
    """Delete the stored key, and return the places that had one.

    Raises:
        click.ClickException: The file cannot be removed.
    """
    places = [KEYRING] if _use_keyring(common, _delete_from_keyring) else []
    return [*places, str(key_file())] if _remove_file() else places


def _use_keyring(common: CommonOptions, use: Callable[[Any], T]) -> T | None:
    """Use the keyring; `None` if there is none that works, which is no error."""
    if find_spec("keyring") is None:
        return None
    try:
        return use(import_module("keyring"))
    except Exception as problem:  # each backend raises errors of its own
        if common.verbose:
            say(f"keyring not used: {type(problem).__name__}: {problem}")
        return None


def _put_in_keyring(ring: Any, key: ApiKey) -> bool:
    """Store the key, and return whether the keyring kept it.

    Reading it back is the only way to know: the null backend accepts every password and
    keeps none.
    """
    ring.set_password(SERVICE, ACCOUNT, key.reveal())
    return bool(ring.get_password(SERVICE, ACCOUNT) == key.reveal())


def _delete_from_keyring(ring: Any) -> bool:
    if ring.get_password(SERVICE, ACCOUNT) is None:
        return False
    ring.delete_password(SERVICE, ACCOUNT)
    return True


def _read_file() -> str:
    """The key in the file; empty if there is none.

    Raises:
        InvalidInputError: Other users can read or write it, or it cannot be read.
    """
    file = key_file()
    try:
        # Mode and owner are checked on the open descriptor: a check by path could see
        # another file than the one that is read. Without O_NONBLOCK, opening a named
        # pipe would block until a writer comes.
        opened = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as problem:
        raise InvalidInputError(f"cannot read the stored key: {problem}") from None
    try:
        _check_private(file, os.fstat(opened))
        return os.read(opened, MAX_BYTES).decode("utf-8-sig", "replace").strip()
    finally:
        os.close(opened)


def _check_private(file: Path, facts: os.stat_result) -> None:
    """Check that only this user can read or change the file, as ssh does.

    Raises:
        InvalidInputError: Others can.
    """
    if not stat.S_ISREG(facts.st_mode):
        raise InvalidInputError(
            f"{file} is not a regular file, so no key is read from it.\n"
            "To replace it: finetuning auth login"
        )
    if not hasattr(os, "geteuid"):  # Windows: no owners, and the mode means nothing
        return
    # Root's file is fine: root can replace any file of this user's anyway.
    if facts.st_uid not in (os.geteuid(), 0):  # noqa: TID251 - checked above
        raise InvalidInputError(
            f"{file} belongs to another user, so its key is not used"
        )
    if facts.st_mode & _OTHERS_ACCESS:
        raise InvalidInputError(
            f"other users can access {file}, so its key is not used.\n"
            f"If no one else has read it: chmod 600 {file}"
        )


def _write_file(key: ApiKey) -> None:
    """Write the file completely or not at all."""
    file = key_file()
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_folder(file.parent)
        with raise_on_signal():  # so that the temporary file is removed
            _replace_file(file, key)
    except OSError as problem:
        raise click.ClickException(f"cannot store the key: {problem}") from None


def _check_folder(folder: Path) -> None:
    """Check that no other user can put a file of their own in place of ours.

    Raises:
        InvalidInputError: Others can.
    """
    if os.name == "posix" and folder.stat().st_mode & _OTHERS_WRITE:
        raise InvalidInputError(
            f"other users can write to {folder}, so the key was not stored there.\n"
            f"To fix it: chmod 700 {folder}"
        )


def _replace_file(file: Path, key: ApiKey) -> None:
    # `mkstemp` creates the file with mode 0600, so that the key is never readable by
    # others, not even for a moment. It is in the same folder because a rename is atomic
    # only within a file system. The rename replaces a symbolic link instead of
    # following it.
    opened, name = tempfile.mkstemp(dir=file.parent, prefix=".credentials-")
    try:
        with os.fdopen(opened, "w") as stream:
            stream.write(key.reveal() + "\n")
            stream.flush()
            # Before the rename: else a power cut could leave an empty file under the
            # final name, and the older key would be lost.
            os.fsync(opened)
        Path(name).replace(file)
    except BaseException:  # a signal, too
        with suppress(OSError):
            Path(name).unlink()
        raise


def _remove_file() -> bool:
    """Remove the file, and return whether there was one."""
    try:
        key_file().unlink()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as problem:
        raise click.ClickException(f"cannot remove the key: {problem}") from None
    return True
