"""One account, programs on many machines: one budget, kept in PostgreSQL.

    import os

    from finetuning_async.postgres import PostgresRateLimiter

    limiter = PostgresRateLimiter(os.environ.get("DATABASE_URL", ""))
    async with AsyncClient(rate_limiter=limiter) as client:
        print(client.rate_limit_status().creates.available)

All programs that use the same database keep the account's limits together, first come,
first served, and one of them polls for all. While the database is unavailable or does
not respond, each continues with its share. It runs on asyncio and trio; it needs
psycopg (``pip install 'finetuning-async[postgres]'``).

    _limiter             PostgresRateLimiter: which database; the rest is
                         `_coordination`'s
    _store               the states of an account in rows, one process at a time
    _journal             PostgresJournal: a client's journal in a database
    _journal_store       PostgresStore: a journal in tables, for workers on many
                         machines
    _spending            what counts in its budgets
    _leases_and_notes    which holders of its leases live; its notes
    _journal_connection  one connection to its database for all threads
    _journal_schema      its tables, and those of earlier versions
    _runner_lock         one runner of a batch at a time
"""

from __future__ import annotations

try:
    import psycopg as _psycopg  # noqa: F401 - only to see that it is there
except ImportError as _missing:
    # Without libpq psycopg raises an ImportError that names nothing.
    _HINT = (
        f"finetuning_async.postgres needs {_missing.name or 'psycopg[binary]'}:"
        " pip install 'finetuning-async[postgres]'"
    )
    raise ImportError(_HINT, name=_missing.name) from _missing

from typing import TYPE_CHECKING

from finetuning_async._lazy import lazy_exports

if TYPE_CHECKING:
    from finetuning_async.postgres._journal import PostgresJournal as PostgresJournal
    from finetuning_async.postgres._journal_store import PostgresStore as PostgresStore
    from finetuning_async.postgres._limiter import (
        PostgresRateLimiter as PostgresRateLimiter,
        check_conninfo as check_conninfo,
    )
    from finetuning_async.postgres._runner_lock import RunnerLock as RunnerLock
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "._journal": ("PostgresJournal",),
            "._journal_store": ("PostgresStore",),
            "._limiter": ("PostgresRateLimiter", "check_conninfo"),
            "._runner_lock": ("RunnerLock",),
        },
    )

__all__ = ["PostgresJournal", "PostgresRateLimiter"]
