"""`PostgresJournal`: a client's journal in a database, shared by many machines."""

from __future__ import annotations

from typing import Final

from finetuning_async.journal import LOOK_EVERY, SETTLE, check_seconds, close_stores
from finetuning_async.postgres._journal_store import PostgresStore
from finetuning_async.postgres._limiter import check_conninfo

PREFIX: Final = "client "
"""Begins the names of clients' journals, beside those of batches."""


class PostgresJournal:
    """A client's journal in PostgreSQL, which programs on many machines may share.

    It is opened at the first use; its tables are created if there are none. Each
    account has a part of its own in it. Needs psycopg:
    ``pip install 'finetuning-async[postgres]'``.

    Args:
        url: The database, in libpq's form: a ``postgresql://`` URL or ``host=...``;
            empty for ``PGHOST`` and so on.
        settle: Seconds after which the service accepts no create whose response was
            lost: only then it may be proved absent, and sent again. Above 0.
        look_every: Seconds between looks at the listing for creates in doubt. Above 0.

    Raises:
        InvalidRequestError: An argument is not valid; the URL is not shown.

    Example:
        import os

        from finetuning_async.postgres import PostgresJournal

        journal = PostgresJournal(os.environ.get("DATABASE_URL", ""))
        async with AsyncClient(journal=journal) as client:
            print(client.journal, journal.settle)
    """

    def __init__(
        self, url: str = "", *, settle: float = SETTLE, look_every: float = LOOK_EVERY
    ) -> None:
        check_conninfo(url)
        self._url = url
        self.settle: float = check_seconds("settle", settle)
        self.look_every: float = check_seconds("look_every", look_every)
        self._stores: dict[str, PostgresStore] = {}

    def __repr__(self) -> str:  # the URL may hold a password
        return "<PostgresJournal>"

    def open(self, account: str) -> PostgresStore:
        """As ``JournalBackend.open``: the part of one `account`."""
        store = self._stores.get(account)
        if store is None:
            made = PostgresStore(self._url, journal=PREFIX + account)
            # Not under a lock, which a forked child would find held for ever.
            store = self._stores.setdefault(account, made)
            if store is not made:  # another thread has opened it meanwhile
                made.close()
        return store

    async def aclose(self) -> None:
        """Close the connections of this process; they are made again when needed."""
        stores, self._stores = self._stores, {}
        await close_stores(stores.values())
