"""What `AsyncClient(journal=...)` was given: a path, a URL or a journal."""

from __future__ import annotations

import os
import re
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from finetuning_async._constants import POSTGRES_SCHEMES
from finetuning_async._errors import InvalidRequestError
from finetuning_async._runtime import LoopHandle

if TYPE_CHECKING:
    from finetuning_async._session._open_journal import OpenJournal
    from finetuning_async.journal import JournalBackend

ALLOWED: Final = "a path, a postgresql:// URL, or a journal such as SQLiteJournal(path)"
CONNINFO: Final = re.compile(r"(host|hostaddr|dbname|user|port|service)\s*=")
"""How libpq's other form begins; as a path it would make a file of that name."""


class JournalSource:
    """The journal of a client and its views; nothing is opened before its first use.

    Args:
        backend: The journal, if the caller made it.
        address: Else its absolute path, or its URL.

    Attributes:
        address: As given; a secret if it is a URL.
        is_owned: Whether the client made the journal, and so closes it.
    """

    def __init__(
        self, backend: JournalBackend | None = None, address: str | None = None
    ) -> None:
        self._backend = backend
        self.address: str | None = address
        self.is_owned: bool = backend is None

    def __repr__(self) -> str:  # the URL may hold a password
        return f"<JournalSource {'owned' if self.is_owned else 'given'}>"

    def is_same(self, other: JournalSource | None) -> bool:
        """Whether another one was given the same journal."""
        if other is None:
            return False
        if self.address is not None:
            return self.address == other.address
        return other.address is None and self.load() is other.load()

    def load(self) -> JournalBackend:
        """Make the journal, if it was not given; it is opened later.

        Raises:
            ImportError: It is in PostgreSQL, and psycopg is not installed.
            InvalidRequestError: The URL cannot be parsed.
        """
        problem = ""
        if self._backend is None:
            try:
                self._backend = self._make()
            except InvalidRequestError as error:
                problem = error.allowed
        if self._backend is None:
            # Not the error itself: a frame of its traceback has the URL.
            raise InvalidRequestError.hidden("journal", problem)
        return self._backend

    def _make(self) -> JournalBackend:
        made: JournalBackend
        if str(self.address).startswith(POSTGRES_SCHEMES):
            # By name, because `postgres` is a layer above this one and needs an extra.
            postgres = import_module("finetuning_async.postgres")
            made = postgres.PostgresJournal(self.address)
        else:
            # Loads sqlite3, which a client without a journal need not.
            made = import_module("finetuning_async.journal").SQLiteJournal(self.address)
        return made

    def opened(self) -> dict[str, OpenJournal]:
        """What is open of it in the running loop, by account; it ends with the loop."""
        kept: dict[JournalSource, dict[str, OpenJournal]]
        kept = LoopHandle.current().storage.setdefault("journals", {})
        return kept.setdefault(self, {})

    async def aclose(self) -> None:
        """Give up all leases of this loop; close the journal if the client made it."""
        opened = self.opened()
        while opened:
            await opened.popitem()[1].leave()
        if self.is_owned and self._backend is not None:
            await self._backend.aclose()


def no_journal_error(key: str | None = None) -> InvalidRequestError:
    """The error for what needs a journal, on a client without one.

    Args:
        key: The idempotency key that was given, if that is what needs it.
    """
    how = "give it one: AsyncClient(journal='tracks.db')"
    if key is None:
        return InvalidRequestError("journal", None, f"set on the AsyncClient; {how}")
    allowed = f"used with a client that has a journal; {how}"
    return InvalidRequestError("idempotency_key", key, allowed)


def read_journal(given: Any) -> tuple[JournalSource | None, str]:
    """The journal to use, or what is wrong with what was given.

    It does not raise: a traceback may show the locals of each frame, and a URL may hold
    a password.
    """
    if given is None or isinstance(given, JournalSource):
        return given, ""
    if isinstance(given, str | os.PathLike):
        return _of_address(os.fspath(given))
    methods = (getattr(given, name, None) for name in ("open", "aclose"))
    if isinstance(given, type) or not all(map(callable, methods)):
        return None, f"{ALLOWED}, got a value of type {type(given).__name__}"
    return JournalSource(given), ""


def _of_address(address: str | bytes) -> tuple[JournalSource | None, str]:
    if not isinstance(address, str) or not address or "\0" in address:
        return None, f"{ALLOWED}, got an empty path or one that is not a string"
    if address == ":memory:":
        return None, f"{ALLOWED}, got ':memory:', which would not survive the program"
    if CONNINFO.match(address):
        return None, (
            f"{ALLOWED}, got a connection string of another form; give it to"
            " finetuning_async.postgres.PostgresJournal"
        )
    if address.startswith(POSTGRES_SCHEMES):
        return JournalSource(address=address), ""
    if "://" in address:
        return None, f"{ALLOWED}, got a URL of another kind"
    return JournalSource(address=os.path.abspath(address)), ""  # noqa: PTH100 - not resolved
