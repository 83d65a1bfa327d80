"""What keeps a journal, and one that keeps it in memory.

A store decides nothing: `_journal` says what an event makes of an item, the store makes
it last. Everything it is told is committed when the call returns. Its methods block and
are called one at a time, in a worker thread.
"""

from __future__ import annotations

import time
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Protocol

import attrs

from finetuning_async.journal._errors import JournalError, StaleItemError
from finetuning_async.journal._file_names import Taken
from finetuning_async.journal._records import Item, NewItem, Summary
from finetuning_async.journal._state_machine import STATES, Entry, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@attrs.frozen
class Added:
    """What became of the items of one `Batch.add`.

    Attributes:
        new: How many were taken in.
        known: How many were there already.

    Example:
        from finetuning_async.batch import Batch

        async with Batch(client, "album") as batch:
            added = await batch.add([GenerationRequest("rain")])
            print(added.new, "new,", added.known, "known")
    """

    new: int
    known: int


class JournalStore(Protocol):
    """A journal's keeper."""

    def add(self, items: Iterable[NewItem]) -> Added:
        """Take items in, all or none; those whose key is known stay as they are.

        The names of their files differ in more than case.

        Raises:
            JournalError: A key is known with another content.
            Exception: What `items` raised; nothing was taken in.
        """

    def claim(self, after: int, limit: int) -> list[Item]:
        """Up to `limit` planned items whose `seq` is above `after`, in order."""

    def get(self, seq: int) -> Item:
        """The item at a place.

        Raises:
            JournalError: There is none.
        """

    def record(self, item: Item, entry: Entry) -> Item:
        """Set an item's entry.

        Raises:
            StaleItemError: The item does not stand where `item` shows it: its state,
                `lost_at` or `accepts` changed. So one who slept while the item was
                lost, found absent and sent again by another is refused, too.
            JournalError: The entry's track belongs to another item.
        """

    def pending(self) -> list[Item]:
        """The items that are neither planned, downloaded nor failed, in order."""

    def rows(self, *states: State) -> Iterator[Item]:
        """The items in these states, in order; by default all."""

    def find(self, name: str) -> Item | None:
        """An item by its `custom_id`, key, track id, or the name it is shown by."""

    def tracks(self) -> dict[str, int | None]:
        """Every track that was accepted for an item, and the seed it was sent with.

        Former ones are there, too, without their seeds.
        """

    def summary(self) -> Summary:
        """The journal in numbers."""

    def read_note(self, name: str) -> str | None:
        """A note of the runner, as `write_note` left it."""

    def write_note(self, name: str, value: str) -> None:
        """Keep a note."""

    def now(self) -> float:
        """The time by the store's own clock, in seconds since 1970."""

    def close(self) -> None:
        """Let go of it. Everything told before lasts."""


class MemoryStore:
    """A store that lasts as long as the process: for tests, and batches that may go."""

    def __init__(self) -> None:
        self._items: dict[int, Item] = {}
        self._keys: dict[str, int] = {}
        self._notes: dict[str, str] = {}

    def add(self, items: Iterable[NewItem]) -> Added:
        """As `JournalStore.add`."""
        given = list(items)
        for item in given:
            if item.key in self._keys:
                check_same(self._items[self._keys[item.key]], item)
        before = len(self._items)
        taken = Taken(item.file for item in self._items.values())
        for item in given:
            if item.key not in self._keys:
                seq = self._keys[item.key] = len(self._items) + 1
                known = attrs.asdict(named(item, taken))
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
            raise not_there(seq)
        return self._items[seq]

    def record(self, item: Item, entry: Entry) -> Item:
        """As `JournalStore.record`."""
        if _stand(self._items[item.seq].entry) != _stand(item.entry):
            raise stale(item)
        self._check_track(item, entry)
        changed = attrs.evolve(item, entry=entry)
        self._items[item.seq] = changed
        return changed

    def _check_track(self, item: Item, entry: Entry) -> None:
        if entry.track_id in (None, item.entry.track_id):
            return
        for other in self._items.values():
            if other.entry.track_id == entry.track_id:
                raise JournalError(f"{entry.track_id} belongs to {other.name}")

    def pending(self) -> list[Item]:
        """As `JournalStore.pending`."""
        return list(self.rows(*(s for s in STATES if s not in SETTLED)))

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
        return time.time()

    def close(self) -> None:
        """As `JournalStore.close`."""


SETTLED = frozenset({"planned", "downloaded", "failed"})
"""States of which a runner that begins has nothing to ask, but for planned in turn."""


def _stand(entry: Entry) -> tuple[object, ...]:
    return entry.state, entry.lost_at, entry.accepts


def named(item: NewItem, taken: Taken) -> NewItem:
    """An item that shares its file's name with no other."""
    return attrs.evolve(item, file=taken.give(item.file, item.key))


def stale(item: Item) -> StaleItemError:
    """What `JournalStore.record` raises when somebody else was faster."""
    return StaleItemError(f"{item.name} is not {item.entry.state} any more")


def not_there(seq: int) -> JournalError:
    """What `JournalStore.get` raises."""
    return JournalError(f"there is no item {seq}")


def check_same(known: NewItem, given: NewItem) -> None:
    """Check that a key stands for what it stood for.

    Raises:
        JournalError: It does not.
    """
    if (known.kind, known.body) != (given.kind, given.body):
        where = "" if given.line is None else f"line {given.line}: "
        raise JournalError(
            f"{where}{given.custom_id or given.key} is in the journal with another"
            " content; give changed rows a new custom_id, or use a new folder"
        )
