"""`JournalStore`, what a journal is kept in, and one that keeps it in memory.

A store decides nothing: the state machine says what an event makes of an item, and the
store makes it durable. Every change is committed when the call returns. Its methods
block; any thread may call them, and a lock of the store's own lets one work at a time.
"""

from __future__ import annotations

import time
from collections import Counter
from itertools import islice
from threading import RLock
from typing import TYPE_CHECKING, Protocol, TypeAlias

import attrs

from finetuning_async._errors import FinetuningError
from finetuning_async._pacing import CreditLimit
from finetuning_async.journal._file_names import UsedNames
from finetuning_async.journal._outcomes import (
    check_same_content,
    not_found_error,
    stale_error,
    taken_error,
    version,
    with_free_name,
)
from finetuning_async.journal._records import (
    Added,
    Item,
    NewItem,
    Summary,
    costs_credits,
)
from finetuning_async.journal._spending import (
    Booking,
    booking_of,
    charge_delay,
    first_refusal,
    usage_of,
)
from finetuning_async.journal._state_machine import STATES, Entry, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from finetuning_async._errors import BudgetExceededError
    from finetuning_async.journal._spending import Usage


@attrs.frozen
class Insert:
    """Add an item; one whose key is known stays as it is. Results in the stored one.

    In a `BudgetExceededError` if one of the `limits` allows no credit more.
    """

    item: NewItem
    entry: Entry = attrs.field(factory=Entry)
    limits: tuple[CreditLimit, ...] = ()


@attrs.frozen
class Update:
    """Replace an item's entry, unless another worker has changed it meanwhile.

    Results in the item as it is now; in a `StaleItemError` if the stored item differs
    from `item` in its state, `lost_at`, `accepts` or `fence`, or is gone; and in a
    `JournalError` if the entry's track belongs to another item.

    These four fence off a worker that was suspended: if meanwhile the item was lost,
    found absent and sent again, it is back in the same state, but `lost_at` has
    changed.

    In a `BudgetExceededError` if one of the `limits` allows no credit more. Where the
    entry is planned, what others have reserved counts as well; where it is to be sent,
    only what is spent, since what was reserved for it may count no more.
    """

    item: Item
    entry: Entry
    limits: tuple[CreditLimit, ...] = ()


@attrs.frozen
class Delete:
    """Remove an item, unless another worker has changed it; results in `None`.

    What it has cost stays spent.

    In a `StaleItemError` if it was changed, as for `Update`.
    """

    item: Item


Change: TypeAlias = Insert | Update | Delete
Committed: TypeAlias = Item | FinetuningError | None
"""What a change has resulted in."""


class JournalStore(Protocol):
    """Keeps the items of a journal: what a `JournalBackend` opens.

    Its methods block; the client calls them in worker threads. A program needs none of
    them, unless it keeps its journal in a store of its own.

    Example:
        from finetuning_async.journal import JournalStore, SQLiteJournal

        store: JournalStore = SQLiteJournal("tracks.db").open("acc_1")
        for item in store.rows("held"):
            print(item.key, item.entry.error)
        store.close()
    """

    def commit(self, changes: Sequence[Change]) -> list[Committed]:
        """Make all `changes`, in order and in one transaction.

        One that is stale or not allowed does not undo the others.

        Returns:
            What became of each; its errors are returned, not raised.

        Raises:
            JournalError: The store cannot be written: none of them was made.
        """

    def add(self, items: Iterable[NewItem]) -> Added:
        """Add items, all or none; those whose key is known stay as they are.

        Each gets a file name that no file system takes for another item's.

        Raises:
            JournalError: A key is known with different content.
            Exception: What `items` raised; nothing was added.
        """

    def claim(self, after: int, limit: int) -> list[Item]:
        """Up to `limit` planned items whose ``seq`` is above `after`, in order."""

    def get(self, seq: int) -> Item:
        """The item with a number, `seq`.

        Raises:
            JournalError: There is none.
        """

    def record(self, item: Item, entry: Entry) -> Item:
        """Commit one ``Update``: give `item` the `entry`.

        Returns:
            The item as it is now.

        Raises:
            StaleItemError: As for ``Update``.
            JournalError: As for ``Update``, or the store cannot be written.
        """

    def pending(self) -> list[Item]:
        """The items that are not planned, downloaded or failed, in order."""

    def rows(self, *states: State) -> Iterator[Item]:
        """The items in these `states`, in order; by default all items.

        They are read some at a time, so that other calls may come between.
        """

    def page(self, after: int, limit: int, *states: State) -> list[Item]:
        """Up to `limit` items in these `states` whose ``seq`` is above `after`."""

    def newest(self, prefix: str, before: int | None, limit: int) -> list[Item]:
        """Up to `limit` items whose keys begin with `prefix`, the last added first.

        Only those whose ``seq`` is below `before`, unless it is `None`.
        """

    def find(self, name: str) -> Item | None:
        """The item that has `name` as custom id, key, track id, or name in messages."""

    def find_key(self, key: str) -> Item | None:
        """The item with a `key`."""

    def find_track(self, track_id: str) -> Item | None:
        """The item with the track `track_id`; not one whose former track it is."""

    def tracks(self) -> dict[str, int | None]:
        """Every track that was accepted for an item, and the seed it was sent with.

        Former tracks, which failed, are included without their seeds.
        """

    def summary(self) -> Summary:
        """The journal in numbers."""

    def usage(self, limit: CreditLimit) -> Usage:
        """What counts in a budget now: of one share, or of all."""

    def book(self, booking: Booking, limits: Sequence[CreditLimit] = ()) -> None:
        """Count credits without an entry, in place of what its name had before.

        Raises:
            BudgetExceededError: One of the `limits` does not allow it; as for
                ``Update``, what is reserved counts only for what is to be reserved.
        """

    def unbook(self, name: str) -> None:
        """Count the booking `name` no more."""

    def read_note(self, name: str) -> str | None:
        """The note `name`, as `write_note` left it; `None` if there is none."""

    def write_note(self, name: str, value: str) -> None:
        """Keep the text `value` under a `name`, in place of the one before."""

    def swap_note(self, name: str, old: str | None, new: str) -> bool:
        """Replace the note `name` by `new` if it is `old`; `None` is for no note.

        Returns:
            Whether it was.
        """

    def beat(self, holder: str, seconds: float) -> None:
        """Say that a `holder` lives: its leases last for `seconds` from now.

        At most 60 s. One that would last longer is over: the clock was set
        back since, and else a dead holder would keep it for as long as that.

        A power cut may undo it: then it and all others are dead anyway.
        """

    def is_alive(self, holder: str) -> bool:
        """Whether the leases of `holder` last still, by the store's clock."""

    def remove_holder(self, holder: str) -> None:
        """End all leases of a `holder` at once."""

    def now(self) -> float:
        """The time by the store's own clock, in seconds since 1970."""

    def close(self) -> None:
        """Release its resources; everything recorded before stays."""


class MemoryStore:
    """A store in memory, for tests and for batches that need not survive.

    Args:
        clock: The time in seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        # Not the loop's clock: what a store holds is read by others, later.
        self._clock = clock
        self._lock = RLock()
        self._last = 0
        self._items: dict[int, Item] = {}
        self._keys: dict[str, int] = {}
        self._notes: dict[str, str] = {}
        self._holders: dict[str, float] = {}
        self._bookings: dict[str, tuple[Booking, float]] = {}

    def add(self, items: Iterable[NewItem]) -> Added:
        """As `JournalStore.add`."""
        with self._lock:
            given = list(items)
            for item in given:
                if item.key in self._keys:
                    check_same_content(self._items[self._keys[item.key]], item)
            before = self._last
            used = UsedNames(item.file for item in self._items.values())
            for item in given:
                if item.key not in self._keys:
                    self._insert(Insert(with_free_name(item, used)))
            new = self._last - before
            return Added(new, len(given) - new)

    def claim(self, after: int, limit: int) -> list[Item]:
        """As `JournalStore.claim`."""
        return self.page(after, limit, "planned")

    def get(self, seq: int) -> Item:
        """As `JournalStore.get`."""
        with self._lock:
            if seq not in self._items:
                raise not_found_error(seq)
            return self._items[seq]

    def commit(self, changes: Sequence[Change]) -> list[Committed]:
        """As `JournalStore.commit`."""
        with self._lock:
            return [self._apply(change) for change in changes]

    def _apply(self, change: Change) -> Committed:
        if isinstance(change, Insert):
            is_new = change.item.key not in self._keys
            refused = self._refusal(change.limits) if is_new else None
            return refused or self._insert(change)
        known = self._items.get(change.item.seq)
        if known is None or version(known.entry) != version(change.item.entry):
            return stale_error(change.item)
        if isinstance(change, Delete):
            del self._items[known.seq], self._keys[known.key]
            if kept := booking_of(known, self.now()):
                self._bookings[kept[0].name] = kept
            return None
        track_id = change.entry.track_id
        is_new = track_id is not None and track_id != known.entry.track_id
        if is_new and self.find_track(str(track_id)) is not None:
            return taken_error(known, change.entry)
        is_planned = change.entry.state == "planned"
        refused = self._refusal(change.limits, known.seq, reserved=is_planned)
        if refused is not None:
            return refused
        now = self.now()
        item = attrs.evolve(known, entry=change.entry, updated_at=now)
        delay = charge_delay(known.entry, change.entry)
        if delay is not None:
            item = attrs.evolve(item, spent_at=now + delay)
        self._items[item.seq] = item
        return item

    def _refusal(
        self,
        limits: Sequence[CreditLimit],
        seq: int = 0,
        name: str = "",
        *,
        reserved: bool = True,
    ) -> BudgetExceededError | None:
        return first_refusal(
            limits,
            lambda limit: self._usage(limit, seq, name),
            self.now(),
            reserved=reserved,
        )

    def usage(self, limit: CreditLimit) -> Usage:
        """As `JournalStore.usage`."""
        with self._lock:
            return self._usage(limit)

    def _usage(self, limit: CreditLimit, seq: int = 0, name: str = "") -> Usage:
        items = (item for item in self._items.values() if item.seq != seq)
        bookings = (kept for kept in self._bookings.values() if kept[0].name != name)
        return usage_of(items, bookings, limit, self.now(), self.is_alive)

    def book(self, booking: Booking, limits: Sequence[CreditLimit] = ()) -> None:
        """As `JournalStore.book`."""
        with self._lock:
            is_held = booking.holder is not None
            error = self._refusal(limits, name=booking.name, reserved=is_held)
            if error is not None:
                raise error
            self._bookings[booking.name] = booking, self.now() + booking.delay

    def unbook(self, name: str) -> None:
        """As `JournalStore.unbook`."""
        with self._lock:
            self._bookings.pop(name, None)

    def _insert(self, change: Insert) -> Item:
        key, now = change.item.key, self.now()
        if key in self._keys:
            return self._items[self._keys[key]]
        self._last += 1
        self._keys[key] = self._last
        item = self._items[self._last] = Item(
            **attrs.asdict(change.item),
            seq=self._last,
            entry=change.entry,
            created_at=now,
            updated_at=now,
        )
        return item

    def record(self, item: Item, entry: Entry) -> Item:
        """As `JournalStore.record`."""
        return commit_update(self, item, entry)

    def pending(self) -> list[Item]:
        """As `JournalStore.pending`."""
        return list(self.rows(*(s for s in STATES if s not in NOT_PENDING)))

    def rows(self, *states: State) -> Iterator[Item]:
        """As `JournalStore.rows`."""
        with self._lock:
            items = list(self._items.values())
        for item in items:
            if not states or item.entry.state in states:
                yield item

    def page(self, after: int, limit: int, *states: State) -> list[Item]:
        """As `JournalStore.page`."""
        rest = (item for item in self.rows(*states) if item.seq > after)
        return list(islice(rest, limit))

    def newest(self, prefix: str, before: int | None, limit: int) -> list[Item]:
        """As `JournalStore.newest`."""
        with self._lock:
            items = reversed(list(self._items.values()))
        found = (
            item
            for item in items
            if item.key.startswith(prefix) and (before is None or item.seq < before)
        )
        return list(islice(found, limit))

    def find(self, name: str) -> Item | None:
        """As `JournalStore.find`."""
        for item in self.rows():
            names = (item.custom_id, item.key, item.entry.track_id, item.name)
            if name in names:
                return item
        return None

    def find_key(self, key: str) -> Item | None:
        """As `JournalStore.find_key`."""
        with self._lock:
            return self._items[self._keys[key]] if key in self._keys else None

    def find_track(self, track_id: str) -> Item | None:
        """As `JournalStore.find_track`."""
        for item in self.rows():
            if item.entry.track_id == track_id:
                return item
        return None

    def tracks(self) -> dict[str, int | None]:
        """As `JournalStore.tracks`."""
        found: dict[str, int | None] = {}
        for item in self.rows():
            found |= dict.fromkeys(item.entry.former)
            if item.entry.track_id is not None:
                found[item.entry.track_id] = item.entry.seed
        return found

    def summary(self) -> Summary:
        """As `JournalStore.summary`."""
        items = list(self.rows())
        counts = Counter(item.entry.state for item in items)
        return Summary(
            states={state: counts[state] for state in STATES},
            accepts=sum(item.entry.accepts for item in items if costs_credits(item)),
            fails=sum(item.entry.fails for item in items if costs_credits(item)),
        )

    def read_note(self, name: str) -> str | None:
        """As `JournalStore.read_note`."""
        return self._notes.get(name)

    def write_note(self, name: str, value: str) -> None:
        """As `JournalStore.write_note`."""
        with self._lock:
            self._notes[name] = value

    def swap_note(self, name: str, old: str | None, new: str) -> bool:
        """As `JournalStore.swap_note`."""
        with self._lock:
            is_old = self._notes.get(name) == old
            if is_old:
                self._notes[name] = new
            return is_old

    def beat(self, holder: str, seconds: float) -> None:
        """As `JournalStore.beat`."""
        self._holders[holder] = self.now() + seconds

    def is_alive(self, holder: str) -> bool:
        """As `JournalStore.is_alive`."""
        now = self.now()
        return now < self._holders.get(holder, 0.0) <= now + LONGEST_LEASE

    def remove_holder(self, holder: str) -> None:
        """As `JournalStore.remove_holder`."""
        self._holders.pop(holder, None)

    def now(self) -> float:
        """As `JournalStore.now`; this machine's clock."""
        return self._clock()

    def close(self) -> None:
        """As `JournalStore.close`."""


LONGEST_LEASE = 60.0
"""Seconds that a lease may last; see `JournalStore.beat`."""

NOT_PENDING = frozenset({"planned", "downloaded", "failed"})
"""States of items that a new runner need not load at once: they have ended, or are
claimed in their order."""


def commit_update(store: JournalStore, item: Item, entry: Entry) -> Item:
    """As `JournalStore.record`, by `JournalStore.commit`."""
    (outcome,) = store.commit([Update(item, entry)])
    if isinstance(outcome, FinetuningError):
        raise outcome
    if outcome is None:
        raise AssertionError("unreachable: an update results in an item or an error")
    return outcome
