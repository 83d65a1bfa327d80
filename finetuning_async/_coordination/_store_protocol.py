"""What a store of an account's state has to do. Plain.

A store keeps texts that it does not understand, each under a name, and replaces one of
them atomically. Two texts are in use: the ledger of the limits (``limits``, see
`_shared_ledger`) and that of shared polling (``polling``, see `_poll_ledger`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias, TypeVar

T = TypeVar("T")

Step: TypeAlias = Callable[[str | None, float], tuple[str, T]]
"""Takes a state, `None` if there is none, and the store's clock in seconds; returns the
state to keep, and a result. It has no effects, because a store may call it more than
once: a process that loses a race starts again with what the winner wrote."""


class StateStore(Protocol):
    """The states of one account, as one event loop reaches them."""

    async def update(self, name: str, step: Step[T]) -> T:
        """Replace a state by what `step` makes of it, atomically for all processes.

        A state that `step` returns unchanged need not be written. Calls may overlap.
        After a cancellation or an error it may have been replaced or not.

        Args:
            name: The name of the state, in ASCII letters.
            step: See `Step`. It may be called in another thread, and more than once.
                The clock never goes back from one call for this name to the next.

        Returns:
            The result of the call of `step` whose state was kept.

        Raises:
            Exception: Any; the store then counts as unavailable for a while.
        """
