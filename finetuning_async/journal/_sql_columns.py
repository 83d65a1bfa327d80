"""The columns of a journal in SQL, in one order for every database."""

from __future__ import annotations

import json
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

import attrs

from finetuning_async.journal._records import FREE, Item, NewItem, Summary
from finetuning_async.journal._state_machine import STATES, Entry

if TYPE_CHECKING:
    from collections.abc import Iterable

NEW_COLUMNS: Final = tuple(field.name for field in attrs.fields(NewItem))
ENTRY_COLUMNS: Final = tuple(field.name for field in attrs.fields(Entry))
TIMES: Final = ("created_at", "updated_at", "spent_at")
ALL_COLUMNS: Final = ("seq", *TIMES, *NEW_COLUMNS, *ENTRY_COLUMNS)

# Ten times as fast as `attrs.asdict`, and there are four entries for each create.
_NEW: Final = attrgetter(*NEW_COLUMNS)
_ENTRY: Final = attrgetter(*ENTRY_COLUMNS)
_BODY: Final = NEW_COLUMNS.index("body")
_FORMER: Final = ENTRY_COLUMNS.index("former")

REVIVE_404: Final = (
    "state = 'accepted', fails = fails - 1, code = NULL, error = NULL"
    " WHERE state = 'failed' AND code = 'NOT_FOUND' AND track_id IS NOT NULL"
)
"""Repairs, once, the items that version 1 counted as failed after a single 404."""


COUNTS: Final = ", ".join(
    (
        "state, count(*)",
        *(
            f"sum(CASE kind WHEN '{FREE}' THEN 0 ELSE {name} END)"
            for name in ("accepts", "fails")
        ),
    )
)
"""What `summary_of` takes of the items of each state."""


def new_values(item: NewItem) -> tuple[object, ...]:
    """The values of `NEW_COLUMNS`."""
    found: list[Any] = list(_NEW(item))
    found[_BODY] = _storable(item.body)
    return tuple(found)


def entry_values(entry: Entry) -> tuple[object, ...]:
    """The values of `ENTRY_COLUMNS`."""
    found: list[Any] = list(_ENTRY(entry))
    found[_FORMER] = json.dumps(entry.former) if entry.former else "[]"
    return tuple(map(_storable, found))


def _storable(value: Any) -> Any:
    """A value as every database can store it.

    UTF-8 has no lone surrogates, but a text of the service may: half an emoji, where it
    cut a title. Escaped like this they are the same text again in JSON. PostgreSQL
    stores no NUL, which JSON escapes already.
    """
    if not isinstance(value, str):
        return value
    return value.encode(errors="backslashreplace").decode().replace("\0", "\\0")


def item_from(new: NewItem, seq: int, entry: Entry, now: float) -> Item:
    """The item that is made of a new one at a time."""
    known = dict(zip(NEW_COLUMNS, _NEW(new), strict=True))
    return Item(**known, seq=seq, entry=entry, created_at=now, updated_at=now)


def item_of(row: tuple[Any, ...]) -> Item:
    """The item of a row of `ALL_COLUMNS`."""
    known = dict(zip(ALL_COLUMNS, row, strict=True))
    fields = {name: known.pop(name) for name in ENTRY_COLUMNS}
    fields["former"] = tuple(json.loads(fields["former"]))
    return Item(entry=Entry(**fields), **known)


def tracks_of(rows: Iterable[tuple[Any, ...]]) -> dict[str, int | None]:
    """As `JournalStore.tracks`, from rows of ``track_id, seed, former``."""
    found: dict[str, int | None] = {}
    for track_id, seed, former in rows:
        found |= dict.fromkeys(json.loads(former))
        if track_id is not None:
            found[track_id] = seed
    return found


def summary_of(rows: Iterable[tuple[Any, ...]]) -> Summary:
    """The journal in numbers, from rows of `COUNTS`."""
    rows = list(rows)
    counts = {state: int(count) for state, count, _, _ in rows}
    return Summary(
        states={state: counts.get(state, 0) for state in STATES},
        accepts=sum(int(row[2]) for row in rows),
        fails=sum(int(row[3]) for row in rows),
    )
