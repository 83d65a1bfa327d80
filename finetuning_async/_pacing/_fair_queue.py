"""Requests that wait, in the order in which a dealer deals them their turns. Pure.

FairQueue       all that wait in one place
ShareLine       those of one priority and one share: first come, first served
QueuedItem      what the queue needs of a request

Finding the next request costs the logarithm of the number of shares, however many
requests wait; where one share waits, as in most programs, it costs nothing.
"""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappop, heappush, heapreplace
from itertools import chain, count
from typing import TYPE_CHECKING, Final, Generic, Protocol, Self, TypeVar

from finetuning_async._api import PRIORITIES
from finetuning_async._pacing._dealer import MAX_SKIPPED, Dealer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

MOST_GONE: Final = 32
"""Requests that left from the middle of a line and are still kept in it, beyond as many
as wait there; taking out each at once would cost the length of the line."""


class QueuedItem(Protocol):
    """What the queue needs of a request.

    Attributes:
        rank: Of its priority; see `RANKS`.
        share: For whom it is; `None` is a share as well.
        is_repetition: Whether it was sent before, so that it goes before others of its
            priority and share.
        arrival: Its place among all requests that ever waited.
        is_queued: Whether it waits; only the queue sets it.
    """

    rank: int
    share: str | None
    is_repetition: bool
    arrival: int
    is_queued: bool


T = TypeVar("T", bound=QueuedItem)


class ShareLine(Generic[T]):
    """The requests of one priority and one share."""

    __slots__ = ("_newcomers", "_repetitions", "entry", "share", "waiting")

    def __init__(self, share: str | None) -> None:
        self.share = share
        self.waiting = 0
        self.entry: tuple[int, int, Self] | None = None  # in the heap of its class
        self._repetitions: deque[T] | None = None  # most lines never have any
        self._newcomers: deque[T] = deque()

    def add(self, item: T) -> None:
        """Let a request join."""
        if not item.is_repetition:
            self._newcomers.append(item)
        elif self._repetitions is None:
            self._repetitions = deque([item])
        else:
            self._repetitions.append(item)
        self.waiting += 1

    def discard(self, item: T) -> None:
        """Let a request leave; it is marked already."""
        self.waiting -= 1
        kept = len(self._newcomers) + len(self._repetitions or ())
        if kept > 2 * self.waiting + MOST_GONE:
            self._newcomers = deque(i for i in self._newcomers if i.is_queued)
            self._repetitions = deque(i for i in self._repetitions or () if i.is_queued)

    def head(self) -> T:
        """Return the first request; one must wait."""
        for items in (self._repetitions, self._newcomers):
            while items:
                if items[0].is_queued:
                    return items[0]
                items.popleft()
        raise LookupError("nothing waits in this line")

    def __iter__(self) -> Iterator[T]:
        items = chain(self._repetitions or (), self._newcomers)
        return (item for item in items if item.is_queued)


class ClassQueue(Generic[T]):
    """The requests of one priority.

    Args:
        rank: Of the priority.
        dealer: Knows whose turn it is.
    """

    __slots__ = ("_heap", "count", "dealer", "lines", "rank")

    def __init__(self, rank: int, dealer: Dealer) -> None:
        self.rank = rank
        self.dealer = dealer
        self.count = 0
        self.lines: dict[str | None, ShareLine[T]] = {}
        # Of each line (turn, arrival of the head, line), once a second share waits. An
        # entry counts if it is that of its line; the others are left to sink.
        self._heap: list[tuple[int, int, ShareLine[T]]] | None = None

    def use(self, dealer: Dealer) -> None:
        self.dealer, self._heap = dealer, None

    def add(self, item: T) -> None:
        line = self.lines.get(item.share)
        if line is None:
            line = self.lines[item.share] = ShareLine(item.share)
        line.add(item)
        self.count += 1
        self._rekey(line)

    def discard(self, item: T) -> None:
        line = self.lines[item.share]
        line.discard(item)
        self.count -= 1
        if not line.waiting:
            del self.lines[item.share]
            line.entry = None
        if len(self.lines) < 2:
            self._heap = None
        elif line.waiting:
            self._rekey(line)

    def first_line(self) -> ShareLine[T]:
        """Return the line whose turn it is; one must wait."""
        if len(self.lines) == 1:
            return next(iter(self.lines.values()))
        if self._heap is None:
            self._heap = []
            for line in self.lines.values():
                line.entry = entry = self._entry_of(line)
                self._heap.append(entry)
            heapify(self._heap)
        while True:
            entry = self._heap[0]
            line = entry[2]
            if line.entry is not entry:
                heappop(self._heap)
            # Its share may have had its turn elsewhere, in another event loop.
            elif entry[0] == self.dealer.turn_of(self.rank, line.share):
                return line
            else:
                line.entry = entry = self._entry_of(line)
                heapreplace(self._heap, entry)

    def _rekey(self, line: ShareLine[T]) -> None:
        if self._heap is None:
            return
        entry = self._entry_of(line)
        if entry != line.entry:
            line.entry = entry
            heappush(self._heap, entry)

    def _entry_of(self, line: ShareLine[T]) -> tuple[int, int, ShareLine[T]]:
        turn = self.dealer.turn_of(self.rank, line.share)
        return turn, line.head().arrival, line

    def in_order(self, dealer: Dealer) -> Iterator[T]:
        """Yield all as they are dealt, if each is reported to `dealer`."""
        heap = []
        for line in self.lines.values():
            rest = iter(line)
            item = next(rest)
            turn = dealer.turn_of(self.rank, line.share)
            heap.append((turn, item.arrival, item, rest))
        heapify(heap)
        while heap:
            _, _, item, rest = heap[0]
            yield item
            following = next(rest, None)
            if following is None:
                heappop(heap)
            else:
                turn = dealer.turn_of(self.rank, following.share)
                heapreplace(heap, (turn, following.arrival, following, rest))

    def dealt(self, dealer: Dealer) -> Iterator[T]:
        """Yield all as they are dealt if no other rank waits; may change `dealer`."""
        if len(self.lines) == 1:  # first come, first served: nothing to ask
            yield from next(iter(self.lines.values()))
            return
        waiting = (self.rank,)
        for item in self.in_order(dealer):
            # Before the next one is chosen, which its turn decides.
            dealer.on_dealt(self.rank, item.share, waiting)
            yield item

    def ahead_of(self, share: str | None, joined: int = 0) -> int:
        """Return how many go before a request of a share; see `FairQueue.ahead_of`."""
        line = self.lines.get(share)
        turn = self.dealer.turn_of(self.rank, share) + (line.waiting if line else 0)
        turn += joined
        ahead = 0
        for each in self.lines.values():
            earliest = self.dealer.turn_of(self.rank, each.share)
            # One in each turn from its next one up to that of the request.
            ahead += min(each.waiting, max(turn - earliest + (each is not line), 0))
        return ahead + joined


class FairQueue(Generic[T]):
    """Requests that wait, by priority, in turn to the shares, first come first served.

    Args:
        dealer: Knows whose turn it is; one for all queues of one rate budget.
    """

    __slots__ = ("_classes", "_first", "_is_alone", "_seen", "dealer", "ranks")

    def __init__(self, dealer: Dealer | None = None) -> None:
        self._is_alone = dealer is None
        self.dealer: Dealer = Dealer() if dealer is None else dealer
        self.ranks: tuple[int, ...] = ()
        """The ranks at which requests wait, in ascending order."""
        self._classes: dict[int, ClassQueue[T]] = {}
        # The head, asked for several times a turn, after so many changes of the dealer.
        self._first: T | None = None
        self._seen = 0

    def use(self, dealer: Dealer) -> None:
        """Ask another dealer from now on; what waits stays."""
        self.dealer, self._first = dealer, None
        for each in self._classes.values():
            each.use(dealer)

    def __len__(self) -> int:
        return sum(each.count for each in self._classes.values())

    def __repr__(self) -> str:
        waiting = ", ".join(f"{self.count(r)} {PRIORITIES[r]}" for r in self.ranks)
        return f"<FairQueue {waiting or 'empty'}>"

    def __iter__(self) -> Iterator[T]:
        """Yield all that wait, in no particular order."""
        for each in self._classes.values():
            yield from chain.from_iterable(each.lines.values())

    def count(self, rank: int) -> int:
        """Return how many wait at a rank."""
        each = self._classes.get(rank)
        return 0 if each is None else each.count

    def count_of(self, rank: int, share: str | None) -> int:
        """Return how many wait at a rank for a share."""
        each = self._classes.get(rank)
        line = None if each is None else each.lines.get(share)
        return 0 if line is None else line.waiting

    def counts(self) -> list[int]:
        """Return how many wait at each rank."""
        return [self.count(rank) for rank in range(len(PRIORITIES))]

    def add(self, item: T) -> None:
        """Let a request join."""
        each = self._classes.get(item.rank)
        if each is None:
            each = self._classes[item.rank] = ClassQueue(item.rank, self.dealer)
            self.ranks = tuple(sorted(self._classes))
        item.is_queued = True
        self._first = None
        each.add(item)

    def discard(self, item: T) -> None:
        """Let a request leave without its turn; one that has left is ignored."""
        if not item.is_queued:
            return
        item.is_queued = False
        self._first = None
        each = self._classes[item.rank]
        each.discard(item)
        if not each.count:
            del self._classes[item.rank]
            self.ranks = tuple(sorted(self._classes))
            if self._is_alone:
                self.dealer.forget(item.rank)

    def deal(self, item: T, waiting: tuple[int, ...] | None = None) -> None:
        """Give a request its turn, and let it leave.

        Args:
            item: The request.
            waiting: The ranks at which requests wait; of all queues of the dealer, if
                there are several.
        """
        self.dealer.on_dealt(item.rank, item.share, waiting or self.ranks)
        self.discard(item)

    def head(self, rank: int | None = None) -> T | None:
        """Return the request whose turn is next, or next at a rank; `None` if empty."""
        if rank is not None:
            each = self._classes.get(rank)
            return None if each is None else each.first_line().head()
        if self._first is None or self._seen != self.dealer.changes:
            self._seen = self.dealer.changes
            self._first = (
                self.head(self.dealer.next_rank(self.ranks)) if self.ranks else None
            )
        return self._first

    def in_order(self) -> Iterator[T]:
        """Yield all that wait, in the order in which they will be dealt."""
        return (item for _, item in self.places())

    def places(self, counts: Sequence[int] | None = None) -> Iterator[tuple[int, T]]:
        """Yield all that wait in their order, each with how many are dealt before it.

        Args:
            counts: How many wait at each rank, if others wait elsewhere. Of one rank,
                those here are assumed to stand evenly between all.
        """
        own = self.counts()
        if len(self.ranks) == 1 and (counts is None or list(counts) == own):
            # As in most programs: no other priority has a turn between.
            (each,) = self._classes.values()
            yield from enumerate(each.dealt(self.dealer.copy()))
            return
        dealer = self.dealer.copy()
        rest = {rank: each.in_order(dealer) for rank, each in self._classes.items()}
        left = [max(pair) for pair in zip(own, counts or own, strict=True)]
        steps = [own[rank] / (left[rank] or 1) for rank in range(len(own))]
        due = [0.5] * len(own)  # an item of this queue, once it is 1
        for place in count():
            waiting = [rank for rank, number in enumerate(left) if number]
            if not any(own):
                return
            rank = dealer.next_rank(waiting)
            left[rank] -= 1
            due[rank] += steps[rank]
            if due[rank] < 1 or not own[rank]:
                dealer.count_skipped(rank, waiting)
                continue
            due[rank] -= 1
            own[rank] -= 1
            item = next(rest[rank])
            # Before the next item of the class is chosen, which its turn decides.
            dealer.on_dealt(rank, item.share, waiting)
            yield place, item

    def ahead_of(
        self,
        rank: int,
        share: str | None,
        joined: int = 0,
        counts: Sequence[int] | None = None,
    ) -> int:
        """Return how many are dealt before a request that joins now.

        Args:
            rank: Of its priority.
            share: For whom it is.
            joined: How many of the same priority and share join right before it.
            counts: How many wait at each rank, if others wait elsewhere; those of the
                same rank are assumed to go before it.
        """
        each = self._classes.get(rank)
        own = joined if each is None else each.ahead_of(share, joined)
        here = self.counts()
        if counts is not None:
            own += max(counts[rank] - here[rank], 0)
        return self.dealer.deals_before(rank, own, counts or here)

    def own_ahead(self, rank: int, share: str | None) -> int:
        """Return how many of a rank surely go before a request that joins now."""
        each = self._classes.get(rank)
        if each is None:
            return 0
        is_alone = len(each.lines) == 1 and share in each.lines
        return each.count if is_alone else self.count_of(rank, share)

    def surely_ahead_of(self, rank: int, share: str | None) -> int:
        """Return a lower bound of `ahead_of` that costs nothing to work out."""
        if not self.ranks:
            return 0
        return surely_ahead((self,), rank, share)


def surely_ahead(queues: Iterable[FairQueue[T]], rank: int, share: str | None) -> int:
    """Return a lower bound of how many go before a request that joins one of them.

    Args:
        queues: All that ask one dealer.
        rank: Of the request.
        share: Of the request.
    """
    own = higher = 0
    for queue in queues:
        own += queue.own_ahead(rank, share)
        higher += sum(queue.count(r) for r in queue.ranks if r < rank)
    # One of ten may go to this priority, however many higher ones wait.
    return own + min(higher, MAX_SKIPPED * own)
