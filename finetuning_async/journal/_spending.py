"""What the entries of a journal have cost, as a budget counts it. Pure, and SQL texts.

A store checks a budget in the transaction that commits what may cost a credit, so that
of two processes only one gets the last one. What counts:

    reserved   planned entries whose holder lives
    spent      tracks that were accepted, and entries in doubt; sound effects cost none
    bookings   the same for what the journal has no entries of: the creates of batches,
               which keep journals of their own, and entries that were forgotten

Within a period a credit counts from the last moment at which it may have been taken:
when its track was accepted; when its create was given up, and `LATE` more, for as long
as a service may take to accept it. What is being sent counts whenever that began.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import attrs

from finetuning_async.journal._records import costs_credits
from finetuning_async.journal._state_machine import IN_DOUBT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from finetuning_async._errors import BudgetExceededError
    from finetuning_async._pacing import CreditLimit
    from finetuning_async.journal._records import Item
    from finetuning_async.journal._state_machine import Entry

LATE: Final = 300.0
"""Seconds after it was given up for which a service may still accept a create."""


LONGEST_LEASE: Final = 60.0
"""Seconds that a lease may last; see `JournalStore.beat`."""


@attrs.frozen(kw_only=True)
class Booking:
    """Credits that a journal counts without an entry.

    Attributes:
        name: Unique in the journal.
        share: For whom they are.
        holder: Who has reserved them, while it lives; `None` once they are spent.
        delay: Seconds from now until when they may be taken.
        credits: How many.
    """

    name: str
    share: str | None
    holder: str | None = None
    delay: float = 0.0
    credits: int = 1


@attrs.frozen
class Usage:
    """What counts in a budget.

    Attributes:
        spent: Credits spent.
        reserved: Credits reserved.
        spent_at: When those of the period were spent, and how many, the oldest first;
            empty where they are not needed.
    """

    spent: int
    reserved: int
    spent_at: tuple[tuple[float, int], ...] = ()

    def refusal(self, limit: CreditLimit, now: float) -> BudgetExceededError | None:
        """The error for one more credit; `None` if the limit allows it."""
        if limit.allows(self.spent + self.reserved):
            return None
        return limit.refusal(self.spent, self.reserved, self.spent_at, now)


def first_refusal(
    limits: Iterable[CreditLimit],
    usage: Callable[[CreditLimit], Usage],
    now: float,
    *,
    reserved: bool,
) -> BudgetExceededError | None:
    """The error of the first limit that allows no credit more.

    Args:
        limits: The limits.
        usage: What counts of one.
        now: The time of the store, in seconds since 1970.
        reserved: Whether what is reserved counts as well as what is spent.
    """
    for limit in limits:
        used = usage(limit)
        counted = used if reserved else attrs.evolve(used, reserved=0)
        if error := counted.refusal(limit, now):
            return error
    return None


def cost_of(item: Item) -> int:
    """The credits that an item has cost, or may have."""
    entry = item.entry
    return entry.accepts + (entry.state in IN_DOUBT) if costs_credits(item) else 0


def charge_delay(before: Entry, after: Entry) -> float | None:
    """Seconds from a change on in which its item's last credit may be taken.

    `None` for a change that takes none.
    """
    if after.accepts > before.accepts:
        return 0.0
    is_given_up = before.state == "sending" and after.state == "unknown"
    return LATE if is_given_up else None


def booking_of(item: Item, now: float) -> tuple[Booking, float] | None:
    """What is left of an item that is forgotten, and when it was spent.

    `None` if it has cost nothing.
    """
    cost = cost_of(item)
    if not cost:
        return None
    known = item.updated_at if item.spent_at is None else item.spent_at
    at = now + LATE if item.entry.state == "sending" else known
    booking = Booking(name=f"forgotten {item.seq}", share=item.share, credits=cost)
    return booking, at


def usage_of(
    items: Iterable[Item],
    bookings: Iterable[tuple[Booking, float]],
    limit: CreditLimit,
    now: float,
    is_alive: Callable[[str], bool],
) -> Usage:
    """What counts of items and bookings in memory: the same as `USAGE`."""
    spent, reserved, spent_at = 0, 0, []
    since = limit.since(now)
    for item in items:
        if limit.share not in (None, item.share) or not costs_credits(item):
            continue
        entry, at = item.entry, item.spent_at
        at = item.updated_at if at is None else at
        is_sending = entry.state == "sending"
        if at > since:
            spent_at.append((at, cost_of(item) - is_sending))
        spent += is_sending
        holder = entry.holder if entry.state == "planned" else None
        reserved += holder is not None and is_alive(holder)
    for booking, at in bookings:
        if limit.share not in (None, booking.share):
            continue
        if booking.holder is not None:
            reserved += booking.credits * is_alive(booking.holder)
        elif at > since:
            spent_at.append((at, booking.credits))
    spent += sum(count for _, count in spent_at)
    return Usage(spent, reserved, tuple(sorted(spent_at)))


_ALIVE: Final = (
    "SELECT name FROM $holder WHERE journal = @journal AND until > @now"
    " AND until <= @latest"
)
_OF_ITEM: Final = (
    "journal = @journal AND kind <> 'sound_effect' AND seq <> @seq"
    " AND (CAST(@share AS text) IS NULL OR share = @share)"
)
_OF_BOOKING: Final = (
    "journal = @journal AND name <> @name"
    " AND (CAST(@share AS text) IS NULL OR share = @share)"
)
_AT: Final = "coalesce(spent_at, updated_at)"
_COST: Final = (
    "accepts + CASE WHEN state = 'unknown' OR state = 'held' THEN 1 ELSE 0 END"
)

USAGE: Final = f"""
SELECT coalesce(sum(spent), 0), coalesce(sum(reserved), 0) FROM (
    SELECT CASE WHEN {_AT} > @since THEN {_COST} ELSE 0 END
        + CASE WHEN state = 'sending' THEN 1 ELSE 0 END AS spent,
        CASE WHEN state = 'planned' AND holder IN ({_ALIVE})
            THEN 1 ELSE 0 END AS reserved
    FROM $item WHERE {_OF_ITEM}
    UNION ALL
    SELECT CASE WHEN holder IS NULL AND at > @since THEN credits ELSE 0 END,
        CASE WHEN holder IN ({_ALIVE}) THEN credits ELSE 0 END
    FROM $booking WHERE {_OF_BOOKING}
) AS used
"""  # noqa: S608 - texts of ours
"""Credits spent and reserved, without those of one item (`seq`) or booking (`name`)."""

SPENT_AT: Final = f"""
SELECT {_AT} AS at, {_COST} FROM $item WHERE {_OF_ITEM}
    AND {_AT} > @since AND {_COST} > 0
UNION ALL
SELECT at, credits FROM $booking WHERE {_OF_BOOKING}
    AND holder IS NULL AND at > @since
ORDER BY 1
"""  # noqa: S608 - texts of ours
"""When they were spent, and how many."""

BOOK: Final = (
    "INSERT INTO $booking (journal, name, share, holder, credits, at)"
    " VALUES (@journal, @name, @share, @holder, @credits, @at)"
    " ON CONFLICT (journal, name) DO UPDATE SET"
    " holder = excluded.holder, credits = excluded.credits, at = excluded.at"
)

UNBOOK: Final = "DELETE FROM $booking WHERE journal = @journal AND name = @name"


def sql(text: str, tables: str, mark: str) -> str:
    """One of these texts for a database.

    Args:
        text: The text.
        tables: What the names of its tables begin with.
        mark: How it writes a named parameter, as ``":NAME"``.
    """
    text = re.sub(r"\$(\w+)", rf"{tables}\1", text)
    return re.sub(r"@(\w+)", lambda found: mark.replace("NAME", found[1]), text)


def parameters(
    limit: CreditLimit, now: float, *, but_seq: int = 0, but_name: str = ""
) -> dict[str, object]:
    """The parameters of `USAGE` and `SPENT_AT`, without the journal's name."""
    return {
        "since": limit.since(now),
        "now": now,
        "latest": now + LONGEST_LEASE,
        "share": limit.share,
        "seq": but_seq,
        "name": but_name,
    }
