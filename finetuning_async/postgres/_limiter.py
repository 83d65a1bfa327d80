"""`PostgresRateLimiter`: the turns of an account for all programs with one database."""

from __future__ import annotations

import hashlib
import random
from typing import Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

from finetuning_async._coordination import TIMEOUT, StoreLimiter
from finetuning_async._errors import InvalidRequestError
from finetuning_async.postgres._store import PostgresStore

READABLE: Final = (
    "as libpq takes it: postgresql://host/database or host=... dbname=...; empty for"
    " PGHOST and so on"
)


class PostgresRateLimiter(StoreLimiter):
    """The turns of an account for all programs that use one database.

    Give it to every client of the account. A table of its own is made there. When the
    database cannot be used, or does not answer within a second, a program goes on with
    its share of the limits, and the log says so.

    Example:
        from finetuning_async.postgres import PostgresRateLimiter

        limiter = PostgresRateLimiter(account="studio")
        async with AsyncClient(rate_limiter=limiter) as client:
            print(client.rate_limit_status().creates.available)

    Args:
        conninfo: How to connect, as libpq takes it: a URL or ``host=...``; empty for
            the environment's ``PGHOST`` and so on.
        account: What its row is named after, hashed; by default the base URL and the
            key of the first client. Two keys of one account share a budget by the same
            name.
        timeout: Seconds after which a request of a program that died is taken as over;
            longer than any request takes.

    Raises:
        InvalidRequestError: `conninfo` cannot be read; it is not shown.
    """

    def __init__(
        self,
        conninfo: str = "",
        *,
        account: str | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        check_conninfo(conninfo)
        rng = random.SystemRandom()

        def connect(name: str) -> PostgresStore:
            digest = hashlib.sha256(name.encode()).hexdigest()[:32]
            return PostgresStore(conninfo, digest)

        super().__init__(connect, account=account, timeout=timeout, rng=rng)


def check_conninfo(conninfo: str) -> None:
    """Check how to connect, before an error of the database quotes the password in it.

    Raises:
        InvalidRequestError: It cannot be read; it is not shown.
    """
    if not _is_readable(conninfo):
        raise InvalidRequestError.hidden("conninfo", READABLE)


def _is_readable(conninfo: str) -> bool:
    try:
        conninfo_to_dict(conninfo)
    except (psycopg.Error, AttributeError):  # the latter for what is no text
        return False
    return True
