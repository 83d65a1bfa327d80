"""Where ``auth login`` keeps the key: the OS keyring, else a file.

The keyring needs the extra ``keyring``, and a desktop or a daemon that holds it; where
there is none, the file ``credentials`` in the folder of the settings takes its place:
plain text, mode 0600. Service, account and file are those of the vendor's program.
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
from finetuning_async.cli._error_exit import Refused
from finetuning_async.cli._interruption import clearing
from finetuning_async.cli._output import say

if TYPE_CHECKING:
    from collections.abc import Callable

    from finetuning_async.cli._options import Common

T = TypeVar("T")

SERVICE: Final = "finetuning"
ACCOUNT: Final = "default"
KEYRING: Final = "OS keyring"
LONGEST: Final = 4096
"""Bytes of a key file; a key has 40."""

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


def key_file() -> Path:
    """The file; it need not exist."""
    return config_folder() / "credentials"


def load(common: Common) -> tuple[ApiKey, str] | None:
    """The stored key and where it was found.

    Raises:
        Refused: The file is open to others, or cannot be read.
    """
    text = _try(common, lambda ring: ring.get_password(SERVICE, ACCOUNT))
    if text:
        return ApiKey(text.strip()), KEYRING
    text = _read_file()
    return (ApiKey(text), str(key_file())) if text else None


def save(common: Common, key: ApiKey) -> str:
    """Store a key in place of an older one; gives the name of the place.

    Raises:
        click.ClickException: It cannot be written.
    """
    if _try(common, lambda ring: _put(ring, key)):
        _remove_file()
        return KEYRING
    # An older key would be found before the file.
    _try(common, _drop)
    _write_file(key)
    return str(key_file())


def clear(common: Common) -> list[str]:
    """Forget the key; gives the names of the places that held one.

    Raises:
        click.ClickException: The file cannot be removed.
    """
    places = [KEYRING] if _try(common, _drop) else []
    return [*places, str(key_file())] if _remove_file() else places


def _try(common: Common, use: Callable[[Any], T]) -> T | None:
    """Use the keyring; `None` if there is none that works, which is no error."""
    if find_spec("keyring") is None:
        return None
    try:
        return use(import_module("keyring"))
    except Exception as problem:  # each backend has errors of its own
        if common.verbose:
            say(f"keyring not used: {type(problem).__name__}: {problem}")
        return None


def _put(ring: Any, key: ApiKey) -> bool:
    """Whether it is in; the null backend takes everything and keeps nothing."""
    ring.set_password(SERVICE, ACCOUNT, key.reveal())
    return bool(ring.get_password(SERVICE, ACCOUNT) == key.reveal())


def _drop(ring: Any) -> bool:
    if ring.get_password(SERVICE, ACCOUNT) is None:
        return False
    ring.delete_password(SERVICE, ACCOUNT)
    return True


def _read_file() -> str:
    """The key in the file; empty if there is none.

    Raises:
        Refused: Others may read or write it, or it cannot be read.
    """
    file = key_file()
    try:
        # Checked once it is open, so that nobody can change it in between; without
        # O_NONBLOCK a named pipe would hold the program up.
        opened = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as problem:
        raise Refused(f"the stored key cannot be read: {problem}") from None
    try:
        _check_private(file, os.fstat(opened))
        return os.read(opened, LONGEST).decode("utf-8-sig", "replace").strip()
    finally:
        os.close(opened)


def _check_private(file: Path, facts: os.stat_result) -> None:
    if not stat.S_ISREG(facts.st_mode):
        raise Refused(f"{file} is not a file; `finetuning auth login` makes a new one")
    if not hasattr(os, "geteuid"):  # where there are no owners, modes say nothing
        return
    if facts.st_uid not in (os.geteuid(), 0):  # noqa: TID251 - it is there
        raise Refused(f"{file} belongs to somebody else; it is not used")
    if facts.st_mode & _OTHERS:
        raise Refused(
            f"{file} is open to others; it is not used.\n"
            f"If nobody has read it: chmod 600 {file}"
        )


def _write_file(key: ApiKey) -> None:
    """Write it whole or not at all; a link in its place is replaced, not followed."""
    file = key_file()
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_folder(file.parent)
        with clearing():  # no part of it is to stay behind
            _replace(file, key)
    except OSError as problem:
        raise click.ClickException(f"the key cannot be stored: {problem}") from None


def _check_folder(folder: Path) -> None:
    """See that nobody else can put a file there.

    Raises:
        Refused: Somebody can.
    """
    if os.name == "posix" and folder.stat().st_mode & _OTHERS_WRITE:
        raise Refused(
            f"others can write to {folder}, so the key is not stored there.\n"
            f"To change that: chmod 700 {folder}"
        )


def _replace(file: Path, key: ApiKey) -> None:
    opened, name = tempfile.mkstemp(dir=file.parent, prefix=".credentials-")  # 0600
    try:
        with os.fdopen(opened, "w") as stream:
            stream.write(key.reveal() + "\n")
            stream.flush()
            os.fsync(opened)
        Path(name).replace(file)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise


def _remove_file() -> bool:
    """Whether there was one."""
    try:
        key_file().unlink()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as problem:
        raise click.ClickException(f"the key cannot be removed: {problem}") from None
    return True
