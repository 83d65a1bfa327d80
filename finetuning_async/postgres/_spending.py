"""What counts in a budget, in the tables of `_journal_schema`; see `journal`.

Each function works in the transaction that runs, under the lock of the journal: so that
of two processes only one gets the last credit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from finetuning_async.journal import (
    BOOK,
    SPENT_AT,
    UNBOOK,
    USAGE,
    Usage,
    first_refusal,
    parameters,
    sql,
)
from finetuning_async.postgres import _journal_schema as schema
from finetuning_async.postgres._journal_connection import JournalPart

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import psycopg

    from finetuning_async._errors import BudgetExceededError
    from finetuning_async._pacing import CreditLimit
    from finetuning_async.journal import Booking

_USAGE, _SPENT_AT, _BOOK, _UNBOOK = (
    sql(text, "finetuning_", "%(NAME)s") for text in (USAGE, SPENT_AT, BOOK, UNBOOK)
)


class Spending:
    """What one journal's budgets count.

    Args:
        db: The connection.
        journal: The journal's name.
        now: The time by the database's clock, in seconds since 1970.
    """

    def __init__(self, db: psycopg.Connection, journal: str, now: float) -> None:
        self.db, self.journal, self.now = db, journal, now

    def usage(self, limit: CreditLimit, **but: Any) -> Usage:
        """As `JournalStore.usage`, without one item or booking; see `parameters`."""
        values = parameters(limit, self.now, **but) | {"journal": self.journal}
        ((spent, reserved),) = self._run(_USAGE, values).fetchall()
        is_over = limit.per is not None and not limit.allows(spent + reserved)
        spent_at = self._run(_SPENT_AT, values).fetchall() if is_over else ()
        return Usage(int(spent), int(reserved), tuple(spent_at))

    def refusal(
        self, limits: Iterable[CreditLimit], *, reserved: bool, **but: Any
    ) -> BudgetExceededError | None:
        """The error of the first limit that allows no credit more."""
        return first_refusal(
            limits,
            lambda limit: self.usage(limit, **but),
            self.now,
            reserved=reserved,
        )

    def book(self, booking: Booking, at: float) -> None:
        """Write a booking, in place of what its name had before."""
        values = attrs.asdict(booking) | {"journal": self.journal, "at": at}
        self._run(_BOOK, values)

    def unbook(self, name: str) -> None:
        """Remove a booking."""
        self._run(_UNBOOK, {"journal": self.journal, "name": name})

    def _run(self, query: Any, values: dict[str, object]) -> Any:
        return self.db.execute(query, values)


class SpendingStore(JournalPart):
    """The part of a store that counts credits."""

    def _lock_journal(self) -> None:
        """Let no one else add items in this transaction: they get the next numbers."""
        # NO KEY: else others could not say that they live until it ends.
        self._rows("SELECT FROM finetuning_journal WHERE name = %s FOR NO KEY UPDATE")

    def now(self) -> float:
        """As `JournalStore.now`; the database's clock."""
        with self._connection.use() as db:
            return float(db.execute(f"SELECT {schema.NOW}").fetchall()[0][0])

    def _spending(self) -> Spending:
        """For a transaction that runs."""
        return Spending(self._connection.opened(), self._journal, self.now())

    def usage(self, limit: CreditLimit) -> Usage:
        """As `JournalStore.usage`."""
        with self._connection.use():
            return self._spending().usage(limit)

    def book(self, booking: Booking, limits: Sequence[CreditLimit] = ()) -> None:
        """As `JournalStore.book`."""
        with self._connection.transaction():
            self._lock_journal()
            spending, is_held = self._spending(), booking.holder is not None
            error = spending.refusal(limits, reserved=is_held, but_name=booking.name)
            if error is not None:
                raise error
            spending.book(booking, spending.now + booking.delay)

    def unbook(self, name: str) -> None:
        """As `JournalStore.unbook`."""
        with self._connection.use():
            self._spending().unbook(name)
