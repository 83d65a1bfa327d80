"""What only the store in PostgreSQL does."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import anyio
import psycopg
import pytest

from finetuning_async import AsyncClient
from finetuning_async.postgres import PostgresRateLimiter
from finetuning_async.postgres._store import PostgresStore

KEY = "ft_live_" + "c" * 32


def with_time(state: str | None, now: float) -> tuple[str, float]:
    return f"{state or ''}.", now


def write(store: PostgresStore) -> float:
    return anyio.run(store.update, "limits", with_time)


def test_a_database_clock_set_back_does_not_turn_back_the_states(
    postgres_cluster: str,
) -> None:
    store = PostgresStore(postgres_cluster, "set back")
    write(store)
    with psycopg.connect(postgres_cluster, autocommit=True) as db:
        query = "SELECT at, ahead FROM finetuning_states WHERE account = 'set back'"
        db.execute("UPDATE finetuning_states SET at = at + 1000")
        ((before, _),) = db.execute(query).fetchall()
        write(store)
        write(store)
        ((after, ahead),) = db.execute(query).fetchall()
    assert before < after < before + 20
    assert 980 < ahead <= 1000


def test_a_state_that_the_database_lost_is_created_again(postgres_cluster: str) -> None:
    store = PostgresStore(postgres_cluster, "lost")
    write(store)
    with psycopg.connect(postgres_cluster, autocommit=True) as db:
        db.execute("TRUNCATE finetuning_states")
        write(store)
        db.execute("DROP TABLE finetuning_states")
        with pytest.raises(psycopg.Error):
            write(store)
        write(store)
        found = db.execute("SELECT account FROM finetuning_states").fetchall()
    assert ("lost",) in found


async def test_the_table_contains_no_key(postgres_cluster: str) -> None:
    limiter = PostgresRateLimiter(postgres_cluster)
    async with AsyncClient(KEY, rate_limiter=limiter) as client:
        session = client._session()
        (await session.account.limiter.acquire("reads")).unsent()
        await limiter.flush()
    with psycopg.connect(postgres_cluster) as db:
        rows = db.execute("SELECT * FROM finetuning_states").fetchall()
    assert rows
    assert KEY not in repr(rows)
    assert "finetuning.ai" not in repr(rows)
    assert KEY not in repr(limiter)


def test_programs_that_start_together_create_one_table(postgres: str) -> None:
    def begin(_: int) -> None:
        store = PostgresStore(postgres, "at once")
        write(store)

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(begin, range(12)))
