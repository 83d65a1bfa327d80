"""`JournalStore`, what a journal is kept in, and one that keeps it in memory.

A store decides nothing: the state machine says what an event makes of an item, and the
store makes it durable. Every change is committed when the call returns. Its methods
block and are called one at a time, in a worker thread.
"""

from __future__ import annotations

import time
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Protocol

import attrs

from finetuning_async.journal._errors import JournalError, StaleItemError
from finetuning_async.journal._file_names import UsedNames
from finetuning_async.journal._records import Item, NewItem, Summary
from finetuning_async.journal._state_machine import STATES, Entry, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@attrs.frozen
class Added:
    """How many items of one `Batch.add` were new.

    Attributes:
        new: How many were added.
        known: How many were in the journal already.

    Example:
        from finetuning_async.batch import Batch

        async with Batch(client, "album") as batch:
            added = await batch.add([GenerationRequest("rain")])
            print(added.new, "new,", added.known, "known")
    """

    new: int
    known: int


class JournalStore(Protocol):
    """Keeps the items of a journal."""

    def add(self, items: Iterable[NewItem]) -> Added:
        """Add items, all or none; those whose key is known stay as they are.

        Each gets a file name that no file system takes for another item's.

        Raises:
            JournalError: A key is known with different content.
            Exception: What `items` raised; nothing was added.
        """

    def claim(self, after: int, limit: int) -> list[Item]:
        """Up to `limit` planned items whose `seq` is above `after`, in order."""

    def get(self, seq: int) -> Item:
        """The item with a number.

        Raises:
            JournalError: There is none.
        """

    def record(self, item: Item, entry: Entry) -> Item:
        """Replace an item's entry, unless another worker has changed it.

        Raises:
            StaleItemError: The stored item differs from `item` in its state, `lost_at`,
                `accepts` or `fence`. These fence off a worker that was suspended: if
                meanwhile the item was lost, found absent and sent again, it is back in
                the same state, but `lost_at` has changed.
            JournalError: The entry's track belongs to another item.
        """

    def pending(self) -> list[Item]:
        """The items that are not planned, downloaded or failed, in order."""

    def rows(self, *states: State) -> Iterator[Item]:
        """The items in these states, in order; by default all items."""

    def find(self, name: str) -> Item | None:
        """An item by its `custom_id`, key, track id, or the name that messages show."""

    def tracks(self) -> dict[str, int | None]:
        """Every track that was accepted for an item, and the seed it was sent with.

        Former tracks, which failed, are included without their seeds.
        """

    def summary(self) -> Summary:
        """The journal in numbers."""

    def read_note(self, name: str) -> str | None:
        """A note, as `write_note` left it; `None` if there is none."""

    def write_note(self, name: str, value: str) -> None:
        """Keep a text under a name, in place of the one before."""

    def now(self) -> float:
        """The time by the store's own clock, in seconds since 1970."""

    def close(self) -> None:
        """Release its resources; everything recorded before stays."""


class MemoryStore:
    """A store in memory, for tests and for batches that need not survive."""

    def __init__(self) -> None:
        self._items: dict[int, Item] = {}
        self._keys: dict[str, int] = {}
        self._notes: dict[str, str] = {}

    def add(self, items: Iterable[NewItem]) -> Added:
        """As `JournalStore.add`."""
        given = list(items)
        for item in given:
            if item.key in self._keys:
                check_same_content(self._items[self._keys[item.key]], item)
        before = len(self._items)
        used = UsedNames(item.file for item in self._items.values())
        for item in given:
            if item.key not in self._keys:
                seq = self._keys[item.key] = len(self._items) + 1
                known = attrs.asdict(with_free_name(item, used))
                self._items[seq] = Item(**known, seq=seq, entry=Entry())
        new = len(self._items) - before
        return Added(new, len(given) - new)

    def claim(self, after: int, limit: int) -> list[Item]:
        """As `JournalStore.claim`."""
        planned = (item for item in self.rows("planned") if item.seq > after)
        return list(islice(planned, limit))

    def get(self, seq: int) -> Item:
        """As `JournalStore.get`."""
        if seq not in self._items:
            raise not_found_error(seq)
        return self._items[seq]

    def record(self, item: Item, entry: Entry) -> Item:
        """As `JournalStore.record`."""
        if _version(self._items[item.seq].entry) != _version(item.entry):
            raise stale_error(item)
        self._check_track(item, entry)
        changed = attrs.evolve(item, entry=entry)
        self._items[item.seq] = changed
        return changed

    def _check_track(self, item: Item, entry: Entry) -> None:
        if entry.track_id in (None, item.entry.track_id):
            return
        for other in self._items.values():
            if other.entry.track_id == entry.track_id:
                raise JournalError(
                    f"track {entry.track_id} already belongs to item {other.name}, so"
                    f" it cannot belong to {item.name}"
                )

    def pending(self) -> list[Item]:
        """As `JournalStore.pending`."""
        return list(self.rows(*(s for s in STATES if s not in NOT_PENDING)))

    def rows(self, *states: State) -> Iterator[Item]:
        """As `JournalStore.rows`."""
        for item in list(self._items.values()):
            if not states or item.entry.state in states:
                yield item

    def find(self, name: str) -> Item | None:
        """As `JournalStore.find`."""
        for item in self._items.values():
            names = (item.custom_id, item.key, item.entry.track_id, item.name)
            if name in names:
                return item
        return None

    def tracks(self) -> dict[str, int | None]:
        """As `JournalStore.tracks`."""
        found: dict[str, int | None] = {}
        for item in self._items.values():
            found |= dict.fromkeys(item.entry.former)
            if item.entry.track_id is not None:
                found[item.entry.track_id] = item.entry.seed
        return found

    def summary(self) -> Summary:
        """As `JournalStore.summary`."""
        counts = Counter(item.entry.state for item in self._items.values())
        return Summary(
            states={state: counts[state] for state in STATES},
            accepts=sum(item.entry.accepts for item in self._items.values()),
            fails=sum(item.entry.fails for item in self._items.values()),
        )

    def read_note(self, name: str) -> str | None:
        """As `JournalStore.read_note`."""
        return self._notes.get(name)

    def write_note(self, name: str, value: str) -> None:
        """As `JournalStore.write_note`."""
        self._notes[name] = value

    def now(self) -> float:
        """As `JournalStore.now`; this machine's clock."""
        # Not the loop's clock: a later process reads what this one stored.
        return time.time()

    def close(self) -> None:
        """As `JournalStore.close`."""


NOT_PENDING = frozenset({"planned", "downloaded", "failed"})
"""States of items that a new runner need not load at once: they have ended, or are
claimed in their order."""


def _version(entry: Entry) -> tuple[object, ...]:
    return entry.state, entry.lost_at, entry.accepts, entry.fence


def with_free_name(item: NewItem, used: UsedNames) -> NewItem:
    """An item whose file name is no other item's."""
    return attrs.evolve(item, file=used.claim(item.file, item.key))


def stale_error(item: Item) -> StaleItemError:
    """What `JournalStore.record` raises when another worker was faster."""
    return StaleItemError(
        f"{item.name} is no longer {item.entry.state}: another worker has changed it;"
        " read it again"
    )


def not_found_error(seq: int) -> JournalError:
    """What `JournalStore.get` raises."""
    return JournalError(f"there is no item {seq} in the journal")


def check_same_content(known: NewItem, given: NewItem) -> None:
    """Check that a key has the same content as before.

    Raises:
        JournalError: It does not.
    """
    if (known.kind, known.body) != (given.kind, given.body):
        where = "" if given.line is None else f"line {given.line}: "
        raise JournalError(
            f"{where}{given.custom_id or given.key} is in the journal with different"
            " content; give a changed row a new custom_id, or use a new folder"
        )
