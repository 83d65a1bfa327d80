"""An empty journal of a client in each kind of store, by a clock of the test's."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import psycopg
from psycopg.conninfo import make_conninfo

from finetuning_async.journal import JournalStore, MemoryStore, SQLiteStore
from finetuning_async.postgres._journal_store import PostgresStore

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

KeySpace: TypeAlias = "Callable[[str, Callable[[], float]], JournalStore]"
"""Opens the part of an account, given the time in seconds since 1970."""

CLOCK: Final = """
CREATE SCHEMA IF NOT EXISTS virtual;
CREATE TABLE IF NOT EXISTS virtual.clock AS SELECT 0::float8 AS now;
CREATE OR REPLACE FUNCTION virtual.clock_timestamp() RETURNS timestamptz
    LANGUAGE sql AS 'SELECT to_timestamp(now) FROM virtual.clock';
"""
"""A clock that hides PostgreSQL's own from those with this schema in their path."""

_NUMBERS = itertools.count(1)


class ClockedStore:
    """A store in a database whose clock is set before each call."""

    def __init__(
        self,
        store: PostgresStore,
        admin: psycopg.Connection,
        clock: Callable[[], float],
    ) -> None:
        self._store, self._admin, self._clock = store, admin, clock

    def __getattr__(self, name: str) -> Any:
        self._admin.execute("UPDATE virtual.clock SET now = %s", (self._clock(),))
        return getattr(self._store, name)


def new_key_space(kind: str, request: pytest.FixtureRequest) -> KeySpace:
    """A function that opens a new journal, and at each further call the same one."""
    number = next(_NUMBERS)
    if kind == "memory":
        kept: dict[str, MemoryStore] = {}
        return lambda name, clock: kept.setdefault(name, MemoryStore(clock))
    if kind == "sqlite":
        path = request.getfixturevalue("tmp_path") / f"{number}.db"
        return lambda name, clock: SQLiteStore(path, journal=name, clock=clock)
    conninfo = request.getfixturevalue("postgres_cluster")
    admin = psycopg.connect(conninfo, autocommit=True)
    request.addfinalizer(admin.close)
    admin.execute(CLOCK)
    path = make_conninfo(conninfo, options="-c search_path=virtual,pg_catalog")

    def open_store(name: str, clock: Callable[[], float]) -> JournalStore:
        admin.execute("UPDATE virtual.clock SET now = %s", (clock(),))
        store = PostgresStore(path, journal=f"{name} {number}")
        return cast("JournalStore", ClockedStore(store, admin, clock))

    return open_store
