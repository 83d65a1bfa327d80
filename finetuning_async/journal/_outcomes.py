"""What a change of a journal results in where it is not made, in every store alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from finetuning_async.journal._errors import JournalError, StaleItemError

if TYPE_CHECKING:
    from finetuning_async.journal._file_names import UsedNames
    from finetuning_async.journal._records import Item, NewItem
    from finetuning_async.journal._state_machine import Entry


def version(entry: Entry) -> tuple[object, ...]:
    """What fences off a worker that has not seen the last change; see `Update`."""
    return entry.state, entry.lost_at, entry.accepts, entry.fence


def with_free_name(item: NewItem, used: UsedNames) -> NewItem:
    """An item whose file name is no other item's."""
    return attrs.evolve(item, file=used.claim(item.file, item.key))


def stale_error(item: Item) -> StaleItemError:
    """The outcome of a change when another worker was faster."""
    return StaleItemError(
        f"{item.name} is no longer {item.entry.state}: another worker has changed it;"
        " read it again"
    )


def taken_error(item: Item, entry: Entry) -> JournalError:
    """The outcome of an `Update` whose track belongs to another item."""
    return JournalError(
        f"track {entry.track_id} already belongs to another item, so it cannot belong"
        f" to {item.name}"
    )


def not_storable_error(item: NewItem, error: Exception) -> JournalError:
    """The outcome of a change that holds what the store cannot."""
    found = JournalError(f"{item.key!r} holds what the journal cannot store: {error}")
    found.__cause__ = error
    return found


def not_found_error(seq: int) -> JournalError:
    """What `JournalStore.get` raises."""
    return JournalError(f"there is no item {seq} in the journal")


def check_same_content(known: NewItem, given: NewItem) -> None:
    """Check that a key has the same content as before.

    Raises:
        JournalError: It does not.
    """
    if (known.kind, known.content) != (given.kind, given.content):
        where = "" if given.line is None else f"line {given.line}: "
        raise JournalError(
            f"{where}{given.custom_id or given.key} is in the journal with different"
            " content; give a changed row a new custom_id, or use a new folder"
        )
