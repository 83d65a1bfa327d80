"""`Journal`: how the engines use a store: they record events and read counts."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import anyio

from finetuning_async._runtime import in_thread
from finetuning_async.journal._records import Summary
from finetuning_async.journal._state_machine import STATES, step

if TYPE_CHECKING:
    from collections.abc import Callable

    from finetuning_async.journal._records import Item
    from finetuning_async.journal._state_machine import Action, Event
    from finetuning_async.journal._store import JournalStore

P = ParamSpec("P")
T = TypeVar("T")


class Journal:
    """Records events in a store, one at a time and in a worker thread.

    Args:
        store: Where they are kept.
    """

    def __init__(self, store: JournalStore) -> None:
        self.store = store
        self._lock = anyio.Lock()
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
        """The journal in numbers, without reading the store."""
        states = {state: self._counts[state] for state in STATES}
        return Summary(states=states, accepts=self._accepts, fails=self._fails)

    async def record(self, item: Item, event: Event) -> tuple[Item, Action | None]:
        """Apply an event to an item, and commit the result.

        Returns:
            The item as it is now, and what to do next.

        Raises:
            JournalError: It cannot be written, or the event is not possible.
        """
        entry, action = step(item.entry, event)
        if entry == item.entry:
            return item, action
        # A cancelled caller must not leave a commit that the counts below do not show.
        with anyio.CancelScope(shield=True):
            after = await self.call(self.store.record, item, entry)
        self._counts[item.entry.state] -= 1
        self._counts[entry.state] += 1
        self._accepts += entry.accepts - item.entry.accepts
        self._fails += entry.fails - item.entry.fails
        return after, action

    async def call(
        self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call a method of the store in a worker thread, one at a time."""
        async with self._lock:
            return await in_thread(method, *args, **kwargs)
