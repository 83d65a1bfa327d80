"""A new journal in each kind of store, for tests that must hold in all of them."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

from finetuning_async.journal._sqlite_store import SQLiteStore
from finetuning_async.journal._store import JournalStore, MemoryStore
from finetuning_async.postgres._journal_store import PostgresStore

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

STORES: Final = ("memory", "sqlite", "postgres")

_JOURNALS = itertools.count(1)


def opener(kind: str, request: pytest.FixtureRequest) -> Callable[[], JournalStore]:
    """A function that opens a new journal, and at each further call the same one."""
    if kind == "memory":
        kept = MemoryStore()
        return lambda: kept
    if kind == "sqlite":
        path = request.getfixturevalue("tmp_path") / f"{next(_JOURNALS)}.db"
        return lambda: SQLiteStore(path)
    conninfo, name = request.getfixturevalue("postgres_cluster"), f"j{next(_JOURNALS)}"
    return lambda: PostgresStore(conninfo, journal=name)


def partitions(
    kind: str, request: pytest.FixtureRequest
) -> tuple[JournalStore, JournalStore]:
    """The journals of two accounts in one new file, or in one database."""
    number = next(_JOURNALS)
    names = (f"one {number}", f"two {number}")
    if kind == "sqlite":
        path = request.getfixturevalue("tmp_path") / f"{number}.db"
        return SQLiteStore(path, names[0]), SQLiteStore(path, names[1])
    conninfo = request.getfixturevalue("postgres_cluster")
    one, two = (PostgresStore(conninfo, journal=name) for name in names)
    return one, two
