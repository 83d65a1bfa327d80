"""`SQLiteJournal`: a client's journal in one file, and what any such journal offers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from finetuning_async._errors import InvalidRequestError
from finetuning_async._runtime import SerialThread

if TYPE_CHECKING:
    from collections.abc import Iterable

    from finetuning_async.journal._store import JournalStore

SETTLE: Final = 300.0
LOOK_EVERY: Final = 30.0


class JournalBackend(Protocol):
    """Where a client keeps its journal: `SQLiteJournal`, or one of your own.

    Attributes:
        settle: Seconds after which the service accepts no create whose response was
            lost: only then it may be proved absent, and sent again.
        look_every: Seconds between looks at the listing for creates in doubt.

    Example:
        from finetuning_async.journal import JournalBackend, SQLiteJournal

        journal: JournalBackend = SQLiteJournal("tracks.db", look_every=10.0)
        print(journal.settle)
    """

    @property
    def settle(self) -> float:
        """See above."""

    @property
    def look_every(self) -> float:
        """See above."""

    def open(self, account: str) -> JournalStore:
        """The part of one `account`; called in a worker thread, and blocks.

        Each event loop calls it once; the same store may be returned again.

        Raises:
            JournalError: It cannot be used.
        """

    async def aclose(self) -> None:
        """Close all that was opened."""


class SQLiteJournal:
    """A client's journal in one file, which many processes of a machine may share.

    It is opened at the first use. Each account has a part of its own in it.

    Args:
        path: The file; created if needed, readable by its owner only. On a disk of this
            machine: locks of network file systems are not reliable.
        settle: Seconds after which the service accepts no create whose response was
            lost: only then it may be proved absent, and sent again. Above 0.
        look_every: Seconds between looks at the listing for creates in doubt. Above 0.

    Raises:
        InvalidRequestError: An argument is not valid.

    Example:
        from finetuning_async.journal import SQLiteJournal

        async with AsyncClient(journal=SQLiteJournal("tracks.db")) as client:
            track = await client.generate("rain", idempotency_key="order-42")
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        settle: float = SETTLE,
        look_every: float = LOOK_EVERY,
    ) -> None:
        self._path = check_path(path)
        self.settle: float = check_seconds("settle", settle)
        self.look_every: float = check_seconds("look_every", look_every)
        self._stores: dict[str, JournalStore] = {}

    def __repr__(self) -> str:
        return f"<SQLiteJournal {self._path}>"

    def open(self, account: str) -> JournalStore:
        """As `JournalBackend.open`: the part of one `account`."""
        # Loads sqlite3, which a program that only configures need not.
        from finetuning_async.journal._sqlite_store import SQLiteStore

        store = self._stores.get(account)
        if store is None:
            made = SQLiteStore(self._path, journal=account)
            # Not under a lock, which a forked child would find held for ever.
            store = self._stores.setdefault(account, made)
            if store is not made:  # another thread has opened it meanwhile
                made.close()
        return store

    async def aclose(self) -> None:
        """Close the file in this process; it is opened again when needed."""
        stores, self._stores = self._stores, {}
        await close_stores(stores.values())


async def close_stores(stores: Iterable[JournalStore]) -> None:
    """Close the stores of a journal; one that does not respond is not waited for."""
    thread = SerialThread("finetuning-journal-close")
    for store in stores:
        await thread.start(store.close).linger()
    thread.close()


def check_path(path: object) -> Path:
    """Check the path of a file.

    Raises:
        InvalidRequestError: It is none.
    """
    given = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(given, str) or not given or "\0" in given:
        raise InvalidRequestError("path", path, "a path that is not empty")
    return Path(given).absolute()  # the program may change its folder meanwhile


def check_seconds(field: str, value: Any) -> float:
    """Check a time that must be above 0.

    Raises:
        InvalidRequestError: It is not.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value < float("inf"):
        raise InvalidRequestError(field, value, "a number of seconds above 0")
    return float(value)
