"""The stored API key: in the OS keyring, else in a file that only its user can read.

Service, account and file have the names that the vendor's program uses. Only
``finetuning auth login`` writes it.
"""

from __future__ import annotations

import logging
import os
import stat
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from finetuning_async._credentials._folder import config_folder
from finetuning_async._errors import FinetuningError
from finetuning_async._secrets import ApiKey

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

logger = logging.getLogger("finetuning_async")

SERVICE: Final = "finetuning"
ACCOUNT: Final = "default"
KEYRING: Final = "OS keyring"

MAX_BYTES: Final = 4096
"""The most that is read of a key; a key has 40 bytes."""

_OTHERS_ACCESS: Final = stat.S_IRWXG | stat.S_IRWXO


def stored_key() -> str | None:
    """The API key that ``finetuning auth login`` stored; `None` if there is none.

    It is read from the system's keyring if the extra ``keyring`` is installed, else
    from a file that only this user can read. `AsyncClient` takes it only where it is
    asked to, so that a program on a server does not run with the key of whoever has
    logged in there.

    Raises:
        FinetuningError: Others can read or change the file, or it cannot be read.

    Example:
        client = AsyncClient(api_key=stored_key())
    """
    found = read_stored_key()
    return None if found is None else found[0].reveal()


def read_stored_key(
    on_problem: Callable[[str], object] = logger.debug,
) -> tuple[ApiKey, str] | None:
    """The stored key, and where it is.

    Args:
        on_problem: Called with a message if a keyring does not work.

    Raises:
        FinetuningError: Others can read or change the file, or it cannot be read.
    """
    text = _read_keyring(on_problem)
    if text:
        return ApiKey(text.strip()), KEYRING
    text = _read_file(key_file())
    return (ApiKey(text), str(key_file())) if text else None


def key_file() -> Path:
    """The key file; it need not exist."""
    return config_folder() / "credentials"


def key_places() -> str:
    """Where a stored key may be, in words."""
    ring = f"the {KEYRING} or " if find_spec("keyring") is not None else ""
    return f"{ring}{key_file()}"


def _read_keyring(on_problem: Callable[[str], object]) -> str | None:
    """The key in the keyring; `None` if there is none, or no keyring that works."""
    if find_spec("keyring") is None:
        return None
    try:
        ring: Any = import_module("keyring")
        found: str | None = ring.get_password(SERVICE, ACCOUNT)
    except Exception as problem:  # each backend raises errors of its own
        on_problem(f"keyring not used: {type(problem).__name__}: {problem}")
        return None
    return found


def _read_file(file: Path) -> str:
    """The key in a file; empty if there is none.

    Raises:
        FinetuningError: Others can read or write it, or it cannot be read.
    """
    try:
        # Mode and owner are checked on the open descriptor: a check by path could see
        # another file than the one that is read. Without O_NONBLOCK, opening a named
        # pipe would block until a writer comes.
        opened = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as problem:
        raise FinetuningError(f"cannot read the stored key: {problem}") from None
    try:
        _check_private(file, os.fstat(opened))
        return os.read(opened, MAX_BYTES).decode("utf-8-sig", "replace").strip()
    finally:
        os.close(opened)


def _check_private(file: Path, facts: os.stat_result) -> None:
    """Check that only this user can read or change the file, as ssh does.

    Raises:
        FinetuningError: Others can.
    """
    if not stat.S_ISREG(facts.st_mode):
        raise FinetuningError(
            f"{file} is not a regular file, so no key is read from it.\n"
            "To replace it: finetuning auth login"
        )
    if not hasattr(os, "geteuid"):  # Windows: no owners, and the mode means nothing
        return
    # Root's file is fine: root can replace any file of this user's anyway.
    if facts.st_uid not in (os.geteuid(), 0):  # noqa: TID251 - checked above
        raise FinetuningError(f"{file} belongs to another user, so its key is not used")
    if facts.st_mode & _OTHERS_ACCESS:
        raise FinetuningError(
            f"other users can access {file}, so its key is not used.\n"
            f"If no one else has read it: chmod 600 {file}"
        )
