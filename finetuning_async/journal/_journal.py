"""`Journal`: how the engines use a store: they record events and read counts.

Group commit: a commit takes as long as the disk takes to confirm it, however much is in
it. Changes that come while one is on its way to the disk wait, and go into the next one
together: whoever is first when it ends commits for all that wait.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import anyio
import attrs

from finetuning_async._errors import FinetuningError
from finetuning_async._runtime import in_thread, in_thread_unshielded, run_to_completion
from finetuning_async.journal._errors import JournalError
from finetuning_async.journal._records import Item, Summary, costs_credits
from finetuning_async.journal._state_machine import STATES, step
from finetuning_async.journal._store import Delete, Insert, Update

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from finetuning_async._pacing import CreditLimit
    from finetuning_async.journal._records import NewItem
    from finetuning_async.journal._state_machine import Action, Entry, Event
    from finetuning_async.journal._store import Change, Committed, JournalStore

P = ParamSpec("P")
T = TypeVar("T")


@attrs.define(eq=False)
class _Pending:
    """A change that waits for its commit, or has been committed."""

    change: Change
    is_done: bool = False
    result: Committed = None


class Journal:
    """Commits changes to a store, those that come at once together, in worker threads.

    Args:
        store: Where they are kept.

    Attributes:
        store: As given.
    """

    def __init__(self, store: JournalStore) -> None:
        self.store = store
        self._lock = anyio.Lock()
        self._pending: list[_Pending] = []
        self._counts: Counter[str] = Counter()
        self._accepts = 0
        self._fails = 0

    async def refresh_counts(self) -> Summary:
        """Count the items in the store; from then on `record` keeps the counts."""
        summary = await self.call(self.store.summary)
        self._counts = Counter({str(k): v for k, v in summary.states.items()})
        self._accepts, self._fails = summary.accepts, summary.fails
        return summary

    @property
    def summary(self) -> Summary:
        """The journal in numbers, without reading the store; see `refresh_counts`."""
        states = {state: self._counts[state] for state in STATES}
        return Summary(states=states, accepts=self._accepts, fails=self._fails)

    async def record(
        self, item: Item, event: Event, limits: Sequence[CreditLimit] = ()
    ) -> tuple[Item, Action | None]:
        """Apply an event to an item, and commit the result.

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
        return _item(await self._commit(Update(item, entry, tuple(limits)))), action

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
        return _item(await self._commit(Insert(new, entry, tuple(limits))))

    async def delete(self, item: Item) -> None:
        """Remove an item.

        Raises:
            StaleItemError: Another worker has changed it since it was read.
            JournalError: It cannot be written.
        """
        await self._commit(Delete(item))

    async def call(
        self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call a method of the store in a worker thread, one at a time."""
        async with self._lock:
            return await in_thread(method, *args, **kwargs)

    async def _commit(self, change: Change) -> Committed:
        pending = _Pending(change)
        self._pending.append(pending)
        # A caller that is cancelled must know what is committed, and what is not. So it
        # waits for its commit, and by a scope it is cancelled only after it has seen
        # the result.
        with anyio.CancelScope(shield=True):
            await run_to_completion(lambda: self._until_done(pending))
        if isinstance(pending.result, FinetuningError):
            raise pending.result
        return pending.result

    async def _until_done(self, pending: _Pending) -> None:
        async with self._lock:
            if not pending.is_done:  # another has not taken it along
                await self._commit_all()

    async def _commit_all(self) -> None:
        """Commit all that waits."""
        taken, self._pending = self._pending, []
        changes = [one.change for one in taken]
        try:
            results = await in_thread_unshielded(self.store.commit, changes)
        except FinetuningError as error:
            # An error of its own for each caller: each adds to the traceback of its.
            results = [_copy(error) for _ in taken]
        except BaseException as error:
            # No store should raise it; or all tasks are cancelled from outside, and the
            # thread goes on. This caller gets it, and the others must not believe that
            # their changes have been made.
            for one in taken:
                one.result = JournalError(
                    f"the journal could not be written: {error!r}"
                )
                one.is_done = True
            raise
        for one, result in zip(taken, results, strict=True):
            one.result, one.is_done = result, True
            if isinstance(one.change, Update) and isinstance(result, Item):
                self._count(one.change.item, result.entry)

    def _count(self, item: Item, after: Entry) -> None:
        before = item.entry
        self._counts[before.state] -= 1
        self._counts[after.state] += 1
        if not costs_credits(item):
            return
        self._accepts += after.accepts - before.accepts
        self._fails += after.fails - before.fails


def _item(result: Committed) -> Item:
    if isinstance(result, Item):
        return result
    raise AssertionError("unreachable: an item that is kept is what results")


def _copy(error: FinetuningError) -> JournalError:
    copy = JournalError(str(error), safe_to_retry=error.safe_to_retry)
    copy.__cause__ = error
    return copy
