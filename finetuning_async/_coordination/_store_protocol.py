"""What a store of an account's state can do. Plain.

A store keeps texts that it does not understand, each under a name, and replaces one of
them atomically. The rules are in `_store_book` (name ``limits``), the ledger of shared
polling beside it (name ``polling``); no store knows either.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias, TypeVar

T = TypeVar("T")

Step: TypeAlias = Callable[[str | None, float], tuple[str, T]]
"""Takes a state, `None` where there is none, and the store's clock in seconds; gives
the state to keep, and a result. It has no effects, for a store may call it more than
once: whoever loses a race begins again with what the winner wrote."""


class StateStore(Protocol):
    """The states of one account. It belongs to one event loop."""

    async def update(self, name: str, step: Step[T]) -> T:
        """Replace a state by what `step` makes of it, in one step for all who share it.

        A state that `step` gives back as it was need not be written. Calls may overlap.
        Cancelled, or with an error, it may have been done or not.

        Args:
            name: Of the state, in ASCII letters.
            step: See `Step`. It may be called in another thread, and more than once.
                The clock never goes back from one call for this name to the next.

        Returns:
            The result of the call of `step` whose state was kept.

        Raises:
            Exception: Any; the store is then taken as unavailable for a while.
        """
