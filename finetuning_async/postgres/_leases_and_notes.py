"""What a journal keeps besides items and bookings, in the tables of `_journal_schema`.

The notes, and until when the holders of its leases live; see the glossary of `journal`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from finetuning_async.journal import LONGEST_LEASE
from finetuning_async.postgres import _journal_schema as schema
from finetuning_async.postgres._journal_connection import JournalPart

if TYPE_CHECKING:
    from typing import LiteralString

FORGET_AFTER: Final = 3600.0
"""Seconds after which a holder that is dead is removed from the table."""


class LeasesAndNotes(JournalPart):
    """The part of a store that keeps notes, and which holders of leases live."""

    def read_note(self, name: str) -> str | None:
        """As `JournalStore.read_note`."""
        rows = self._rows(
            "SELECT value FROM finetuning_note WHERE journal = %s AND name = %s", name
        )
        return str(rows[0][0]) if rows else None

    def write_note(self, name: str, value: str) -> None:
        """As `JournalStore.write_note`."""
        self._rows(
            "INSERT INTO finetuning_note VALUES (%s, %s, %s)"
            " ON CONFLICT (journal, name) DO UPDATE SET value = excluded.value"
            " RETURNING name",
            name,
            value,
        )

    def swap_note(self, name: str, old: str | None, new: str) -> bool:
        """As `JournalStore.swap_note`."""
        if old is None:
            query: LiteralString = (
                "INSERT INTO finetuning_note (journal, name, value) VALUES (%s, %s, %s)"
                " ON CONFLICT DO NOTHING RETURNING name"
            )
            return bool(self._rows(query, name, new))
        query = (
            "UPDATE finetuning_note SET value = %s"
            " WHERE journal = %s AND name = %s AND value = %s RETURNING name"
        )
        with self._connection.use() as db:
            values = (new, self._journal, name, old)
            return bool(db.execute(query, values).fetchall())

    def beat(self, holder: str, seconds: float) -> None:
        """As `JournalStore.beat`."""
        with self._connection.unsynced_transaction():
            self._rows(
                f"DELETE FROM finetuning_holder WHERE journal = %s"  # noqa: S608 - names of ours
                f" AND until < {schema.NOW} - %s RETURNING name",
                FORGET_AFTER,
            )
            self._rows(
                "INSERT INTO finetuning_holder (journal, name, until)"  # noqa: S608 - names of ours
                f" VALUES (%s, %s, {schema.NOW} + %s)"
                " ON CONFLICT (journal, name) DO UPDATE SET until = excluded.until"
                " RETURNING name",
                holder,
                seconds,
            )

    def is_alive(self, holder: str) -> bool:
        """As `JournalStore.is_alive`."""
        rows = self._rows(
            "SELECT name FROM finetuning_holder"  # noqa: S608 - names of ours
            f" WHERE journal = %s AND name = %s AND until > {schema.NOW}"
            f" AND until <= {schema.NOW} + %s",
            holder,
            LONGEST_LEASE,
        )
        return bool(rows)

    def remove_holder(self, holder: str) -> None:
        """As `JournalStore.remove_holder`."""
        with self._connection.unsynced_transaction():
            self._rows(
                "DELETE FROM finetuning_holder WHERE journal = %s AND name = %s"
                " RETURNING name",
                holder,
            )
