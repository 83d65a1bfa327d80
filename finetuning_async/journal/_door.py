"""What one kind of program decides about the items that the engine processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from finetuning_async.journal._state_machine import Saved

if TYPE_CHECKING:
    from collections.abc import Sequence

    from finetuning_async._errors import FinetuningError
    from finetuning_async._pacing import CreditLimit
    from finetuning_async._submission import Submission
    from finetuning_async.journal._create import Pause, Retry
    from finetuning_async.journal._records import Item
    from finetuning_async.journal._state_machine import Rejected


class Door(Protocol):
    """What one kind of program decides about an item that the engine processes.

    All methods may raise: the error is raised by `Engine.process_item`.
    """

    @property
    def timeout(self) -> float | None:
        """Seconds for one create, waiting for its permit included; `None` for any."""
        return None

    @property
    def limits(self) -> Sequence[CreditLimit]:
        """What budgets allow: a create that one does not allow is not sent."""
        return ()

    async def before_create(self, item: Item) -> Item | float:
        """Get ready to send an item's create.

        Returns:
            The item as it is now, with its lease; or seconds to pause instead.
        """
        return item

    def new_submission(self, item: Item, **callbacks: Any) -> Submission:
        """The create of an item, which carries the seed of its entry, if it has one.

        Args:
            item: The item.
            callbacks: `on_submitted`, `before_wait` and `before_send` of the
                submission. A door that has its own calls these first.
        """

    async def on_recorded(self, item: Item) -> None:
        """An item has changed. Raise after `Sending`, and it is not sent."""
        del item

    async def on_refused(
        self, item: Item, error: FinetuningError, refusals: int
    ) -> Retry | Pause | Rejected:
        """What follows a create that was not accepted; the item is planned again.

        Args:
            item: The item.
            error: Why.
            refusals: How many there were in a row, this one included.
        """

    async def on_lost(self, item: Item, error: FinetuningError) -> None:
        """The outcome of a create that was just sent is not known: it is in doubt."""
        del item, error  # a batch looks it up

    async def on_in_doubt(self, item: Item) -> float | None:
        """A look has left an item in doubt.

        Returns:
            Seconds to pause; `None` for the engine's `look_every`.
        """
        return None

    def facts(self, track: Any) -> str | None:
        """The facts that the journal keeps of an accepted or ended track, as JSON."""
        return None

    async def save(self, item: Item) -> Saved | float:
        """Save a completed item.

        Returns:
            The event to record; or seconds to pause if that failed.
        """
        return Saved()
