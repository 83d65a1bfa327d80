"""What is particular to turns in PostgreSQL."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from finetuning_async import AsyncClient
from finetuning_async._store_words import Request
from finetuning_async.postgres import PostgresRateLimiter
from finetuning_async.postgres._turns import TurnsTable
from tests.stores._shops import LIMITS

pytestmark = pytest.mark.xdist_group("postgres")
KEY = "ft_live_" + "c" * 32


def say(table: TurnsTable, number: int) -> None:
    table._exchange(Request(process="p", number=number, limits=LIMITS, timeout=20))


def test_a_clock_that_is_set_back_goes_on_from_where_it_was(
    postgres_cluster: str,
) -> None:
    table = TurnsTable(postgres_cluster, "set back", random.Random(1))
    say(table, 1)
    with psycopg.connect(postgres_cluster, autocommit=True) as db:
        query = "SELECT at, ahead FROM finetuning_turns WHERE account = 'set back'"
        db.execute("UPDATE finetuning_turns SET at = at + 1000")
        ((before, _),) = db.execute(query).fetchall()
        say(table, 2)
        say(table, 3)
        ((after, ahead),) = db.execute(query).fetchall()
    assert before < after < before + 20
    assert 980 < ahead <= 1000


def test_a_book_that_the_database_lost_is_begun_anew(postgres_cluster: str) -> None:
    table = TurnsTable(postgres_cluster, "lost", random.Random(1))
    say(table, 1)
    with psycopg.connect(postgres_cluster, autocommit=True) as db:
        db.execute("TRUNCATE finetuning_turns")
        say(table, 1)
        db.execute("DROP TABLE finetuning_turns")
        with pytest.raises(psycopg.Error):
            say(table, 2)
        say(table, 2)
        found = db.execute("SELECT account FROM finetuning_turns").fetchall()
    assert ("lost",) in found


async def test_the_key_is_nowhere_in_the_table(postgres_cluster: str) -> None:
    limiter = PostgresRateLimiter(postgres_cluster)
    async with AsyncClient(KEY, rate_limiter=limiter) as client:
        session = client._session()
        (await session.account.limiter.acquire("reads")).unsent()
        await limiter.flush()
    with psycopg.connect(postgres_cluster) as db:
        rows = db.execute("SELECT * FROM finetuning_turns").fetchall()
    assert rows
    assert KEY not in repr(rows)
    assert "finetuning.ai" not in repr(rows)
    assert KEY not in repr(limiter)


def test_programs_that_begin_at_once_make_one_table(postgres: str) -> None:
    def begin(number: int) -> None:
        table = TurnsTable(postgres, "at once", random.Random(number))
        name = f"p{number}"
        table._exchange(Request(process=name, number=1, limits=LIMITS, timeout=20))

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(begin, range(12)))
