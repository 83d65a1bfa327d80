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

from finetuning_async._credentials import (
    ACCOUNT,
    KEYRING,
    SERVICE,
    key_file,
    read_stored_key,
)
from finetuning_async._errors import FinetuningError
from finetuning_async.cli._error_exit import InvalidInputError
from finetuning_async.cli._output import say
from finetuning_async.cli._signals import raise_on_signal

if TYPE_CHECKING:
    from collections.abc import Callable

    from finetuning_async._secrets import ApiKey
    from finetuning_async.cli._options import CommonOptions

T = TypeVar("T")

_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


def load(common: CommonOptions) -> tuple[ApiKey, str] | None:
    """The stored key and its place.

    Raises:
        InvalidInputError: Other users can access the file, or it cannot be read.
    """
    try:
        return read_stored_key(say if common.verbose else lambda _: None)
    except FinetuningError as problem:
        raise InvalidInputError(str(problem)) from None


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
