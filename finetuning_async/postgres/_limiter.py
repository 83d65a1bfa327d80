"""`PostgresRateLimiter`: the permits of an account for all programs of one database."""

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
    "a connection string of libpq: postgresql://host/database or host=... dbname=...,"
    " or empty for PGHOST and so on"
)


class PostgresRateLimiter(StoreLimiter):
    """The permits of an account for all programs that use one database.

    Pass it to every client of the account. It makes a table of its own. If the database
    cannot be used or does not respond within a second, a program continues with its
    share of the limits and logs a warning.

    Example:
        from finetuning_async.postgres import PostgresRateLimiter

        limiter = PostgresRateLimiter(account="studio")
        async with AsyncClient(rate_limiter=limiter) as client:
            print(client.rate_limit_status().creates.available)

    Args:
        conninfo: How to connect, as libpq takes it: a URL or ``host=...``; empty for
            the environment's ``PGHOST`` and so on.
        account: The name whose hash names its rows; by default the base URL and the key
            of the first client. Two keys of one account share its limits if they pass
            the same name.
        timeout: Seconds after which a request of a program that died counts as ended;
            longer than any request takes.

    Raises:
        InvalidRequestError: `conninfo` cannot be parsed; it is not shown.
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
    """Check how to connect, before an error of psycopg quotes the password in it.

    Raises:
        InvalidRequestError: It cannot be parsed; it is not shown.
    """
    if not _is_readable(conninfo):
        raise InvalidRequestError.hidden("conninfo", READABLE)


def _is_readable(conninfo: str) -> bool:
    try:
        conninfo_to_dict(conninfo)
    except (psycopg.Error, AttributeError):  # the latter if it is not a string
        return False
    return True
