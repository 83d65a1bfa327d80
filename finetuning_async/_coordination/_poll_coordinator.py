"""One sync with the ledger of shared polling, which a store keeps as text.

apply_sync             from one text to the next; pure
StorePollCoordinator   does so in a store, for one process
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import attrs

from finetuning_async._coordination._poll_ledger import PollCursor, PollLedger

if TYPE_CHECKING:
    import random

    from finetuning_async._coordination._poll_messages import PollReport, PollUpdate
    from finetuning_async._coordination._store_protocol import StateStore

logger = logging.getLogger("finetuning_async")

NAME: Final = "polling"
"""The name of the ledger among the states of an account."""

UNREADABLE: Final = (LookupError, TypeError, ValueError, AttributeError, RecursionError)
"""What a text that is not a ledger raises."""


def apply_sync(
    text: str | None, cursor: PollCursor, report: PollReport, now: float
) -> tuple[str, tuple[PollCursor, PollUpdate]]:
    """Apply one sync to the text of a ledger.

    Args:
        text: What was written last; `None` if nothing was. A text that cannot be read
            counts as none: each process then declares again what it waits for.
        cursor: Where the process stands.
        report: What it sends.
        now: Seconds, of a clock that all processes share.

    Returns:
        The text to keep, and what `PollLedger.sync` returns.
    """
    if text is not None:
        try:
            ledger = PollLedger.from_state(text)
            # Within the `try`: the tracks are parsed only once they are needed.
            result = ledger.sync(cursor, report, now)
            return ledger.to_state(), result
        except UNREADABLE as error:
            logger.warning(
                "the stored state of shared polling could not be read (%s); starting"
                " with an empty one",
                type(error).__name__,
            )
    ledger = PollLedger()
    result = ledger.sync(cursor, report, now)
    return ledger.to_state(), result


class StorePollCoordinator:
    """A `PollCoordinator` over the states of an account.

    Args:
        states: Where the ledger is kept.
        rng: Where the id of the process comes from.

    Attributes:
        processes: How many share their polling, this one included, as of the last sync.
    """

    def __init__(self, states: StateStore, rng: random.Random) -> None:
        self._states = states
        self._cursor = PollCursor(process=f"{rng.getrandbits(80):020x}")
        self.processes: int = 1

    async def sync(self, report: PollReport) -> PollUpdate:
        """As `PollCoordinator.sync`.

        Raises:
            Exception: Any; see `StateStore.update`.
        """
        # Counted up before the result is known: if this sync fails, it may still have
        # been applied, and the next report differs and must not pass for the same one.
        number = self._cursor.report_number + 1
        self._cursor = cursor = attrs.evolve(self._cursor, report_number=number)

        def step(
            text: str | None, now: float
        ) -> tuple[str, tuple[PollCursor, PollUpdate]]:
            return apply_sync(text, cursor, report, now)

        self._cursor, update = await self._states.update(NAME, step)
        self.processes = update.processes
        return update
