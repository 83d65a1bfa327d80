"""Where processes that share a store meet, so that one of them polls for all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from finetuning_async._coordination._poll_ledger import PollCursor, sync_state

if TYPE_CHECKING:
    import random

    from finetuning_async._coordination._poll_protocol import PollReport, PollUpdate
    from finetuning_async._coordination._store_protocol import StateStore

NAME: Final = "polling"
"""Of the ledger, among the states of an account."""


class StorePollCoordinator:
    """A `PollCoordinator` over the states of an account.

    Args:
        states: Where the ledger is kept.
        rng: Where the name of the process comes from.

    Attributes:
        processes: How many share their polling, this one included, as it last heard.
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
        # Counted before it is known whether it arrives: the next one says other things.
        number = self._cursor.report + 1
        self._cursor = cursor = attrs.evolve(self._cursor, report=number)

        def step(
            text: str | None, now: float
        ) -> tuple[str, tuple[PollCursor, PollUpdate]]:
            return sync_state(text, cursor, report, now)

        self._cursor, update = await self._states.update(NAME, step)
        self.processes = update.processes
        return update
