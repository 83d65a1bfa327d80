"""`Journal`: how the engines use a store: they record events and read counts.

Group commit: a commit takes as long as the disk takes to confirm it, however much is in
it. Changes that come while one is on its way to the disk wait in a queue, and the
journal's thread makes all of them in the next one.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

import attrs

from finetuning_async._errors import FinetuningError
from finetuning_async._runtime import SerialThread
from finetuning_async.journal._errors import JournalError
from finetuning_async.journal._records import Item, Summary, costs_credits
from finetuning_async.journal._state_machine import STATES, step
from finetuning_async.journal._store import Delete, Insert, Update

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from finetuning_async._pacing import CreditLimit
    from finetuning_async._runtime import Job
    from finetuning_async.journal._records import NewItem
    from finetuning_async.journal._state_machine import Action, Ended, Entry, Event
    from finetuning_async.journal._store import Change, Committed, JournalStore

P = ParamSpec("P")
T = TypeVar("T")

THREAD: Final = "finetuning-journal"


@attrs.define(eq=False)
class _Waiting:
    """A change that waits for its commit, and what it has resulted in."""

    change: Change | Callable[[], Change | None]
    result: Committed = None


class Journal:
    """Commits changes to a store, those that come at once together, in its thread.

    It is used in one event loop. A call that is cancelled waits for its commit, but at
    most for a second: a disk or a database may not respond. What it has asked for is
    committed all the same, before anything that is asked for later.

    Args:
        store: Where they are kept.
        thread: Where it is used; by default a new one.

    Attributes:
        store: As given.
        thread: As given.
    """

    def __init__(self, store: JournalStore, thread: SerialThread | None = None) -> None:
        self.store = store
        self.thread: SerialThread = thread or SerialThread(THREAD)
        self._waiting: deque[_Waiting] = deque()
        self._summary = Summary(states=dict.fromkeys(STATES, 0))

    def close(self) -> None:
        """End the thread; the store stays open. A later call starts another one."""
        self.thread.close()

    async def refresh_counts(self) -> Summary:
        """Count the items in the store; from then on `record` keeps the counts."""
        return await self.call(self._count)

    @property
    def summary(self) -> Summary:
        """The journal in numbers, without reading the store; see `refresh_counts`."""
        return self._summary

    async def record(
        self,
        item: Item,
        event: Event,
        keep: Callable[[Item], object] | None = None,
        limits: Sequence[CreditLimit] = (),
    ) -> tuple[Item, Action | None]:
        """Apply an event to an item, and commit the result.

        Args:
            item: The item.
            event: What happened.
            keep: Called with the item as it is now, also if the call is cancelled
                before it returns.
            limits: What budgets allow.

        Returns:
            The item as it is now, and what to do next.

        Raises:
            StaleItemError: Another worker has changed the item since it was read.
            BudgetExceededError: One of the `limits` does not allow it.
            JournalError: It cannot be written, or the event is not possible.
        """
        entry, action = step(item.entry, event)
        if entry == item.entry:
            return item, action
        waiting = self._add(Update(item, entry, tuple(limits)))
        try:
            return _item(await self._commit(waiting)), action
        finally:
            if keep is not None and isinstance(waiting.result, Item):
                keep(waiting.result)

    async def insert(
        self, new: NewItem, entry: Entry, limits: Sequence[CreditLimit] = ()
    ) -> Item:
        """Add an item with its entry.

        Returns:
            The new item; or the one whose key is known, as it is.

        Raises:
            BudgetExceededError: One of the `limits` does not allow it.
            JournalError: It cannot be written.
        """
        return _item(await self._commit(self._add(Insert(new, entry, tuple(limits)))))

    async def delete(self, item: Item) -> None:
        """Remove an item.

        Raises:
            StaleItemError: Another worker has changed it since it was read.
            JournalError: It cannot be written.
        """
        await self._commit(self._add(Delete(item)))

    async def end(self, track_id: str, ended: Ended) -> None:
        """Record how a track ended, if it is an item's that is still accepted.

        Raises:
            StaleItemError: Another process has just done so.
            JournalError: It cannot be written.
        """
        await self._commit(self._add(partial(self._ending, track_id, ended)))

    async def call(
        self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call a method of the store in the thread."""
        return await self.start(method, *args, **kwargs).wait()

    def start(
        self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> Job[T]:
        """The same, done in any case; wait for what is returned at once."""
        return self.thread.start(partial(method, *args, **kwargs))

    def _add(self, change: Change | Callable[[], Change | None]) -> _Waiting:
        waiting = _Waiting(change)
        self._waiting.append(waiting)
        return waiting

    async def _commit(self, waiting: _Waiting) -> Committed:
        await self.thread.start(self._commit_all).wait()
        if isinstance(waiting.result, FinetuningError):
            raise waiting.result
        return waiting.result

    # In the thread, from here on.

    def record_here(self, item: Item, event: Event) -> Item:
        """As `record`, for a function that `start` runs."""
        waiting = self._add(Update(item, step(item.entry, event)[0]))
        self._commit_all()
        if isinstance(waiting.result, FinetuningError):
            raise waiting.result
        return _item(waiting.result)

    def _ending(self, track_id: str, ended: Ended) -> Update | None:
        item = self.store.find_track(track_id)
        if item is None or item.entry.state != "accepted":
            return None
        return Update(item, step(item.entry, ended)[0])

    def _commit_all(self) -> None:
        """Commit all that waits, unless the call of another change has done so."""
        taken: list[_Waiting] = []
        while self._waiting:  # only this thread takes from it
            taken.append(self._waiting.popleft())
        if not taken:
            return
        try:
            self._make(taken)
        except FinetuningError as error:
            # An error of its own for each caller: each adds to the traceback of its.
            for one in taken:
                one.result = _copy(error)
        except BaseException as error:
            # No store should raise it. This caller gets it, and the others must not
            # believe that their changes have been made.
            for one in taken:
                one.result = JournalError(
                    f"the journal could not be written: {error!r}"
                )
            raise

    def _make(self, taken: list[_Waiting]) -> None:
        changes = [(one, _made(one.change)) for one in taken]
        real = [(one, change) for one, change in changes if change is not None]
        if not real:
            return
        results = self.store.commit([change for _, change in real])
        for (one, _), result in zip(real, results, strict=True):
            one.result = result
        self._count_changes([change for _, change in real], results)

    def _count(self) -> Summary:
        self._summary = self.store.summary()
        return self._summary

    def _count_changes(self, changes: list[Change], results: list[Committed]) -> None:
        before = self._summary
        states = dict(before.states)
        accepts, fails = before.accepts, before.fails
        for change, result in zip(changes, results, strict=True):
            if not isinstance(change, Update) or not isinstance(result, Item):
                continue
            old, new = change.item.entry, change.entry
            states[old.state] -= 1
            states[new.state] += 1
            if costs_credits(result):
                accepts += new.accepts - old.accepts
                fails += new.fails - old.fails
        # All at once, since the loop may read it at any moment.
        self._summary = Summary(states=states, accepts=accepts, fails=fails)


def _made(change: Change | Callable[[], Change | None]) -> Change | None:
    return change if isinstance(change, Insert | Update | Delete) else change()


def _item(result: Committed) -> Item:
    if isinstance(result, Item):
        return result
    raise AssertionError("unreachable: an item that is kept is what results")


def _copy(error: FinetuningError) -> JournalError:
    copy = JournalError(str(error), safe_to_retry=error.safe_to_retry)
    copy.__cause__ = error
    return copy
