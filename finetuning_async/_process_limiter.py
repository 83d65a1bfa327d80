"""The turns of an account in one process, whichever of its event loops asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import anyio

from finetuning_async._limiter import Limiter
from finetuning_async._process_line import ProcessLine
from finetuning_async._process_memory import LOCK, enter

if TYPE_CHECKING:
    import random

    from finetuning_async._limiter import Leases
    from finetuning_async._line import Line
    from finetuning_async._process_memory import Key
    from finetuning_async._rate_limits import RateLimits
    from finetuning_async._wire import AnswerFacts, Route


class ProcessLimiter(Limiter):
    """The turns of an account in one event loop, shared with the others of the process.

    Those whose clock is not the machine's have limits of their own, as any `Limiter`.

    Args:
        limits: The limits; `None` if only the gates of 429s hold anything.
        rng: Where jitter comes from.
        key: Whose turns these are.
    """

    def __init__(
        self, limits: RateLimits | None, *, rng: random.Random, key: Key
    ) -> None:
        super().__init__(limits, rng=rng)
        self._key = key

    def _new_lines(self) -> dict[Route, Line]:
        seat = enter(self._key, self._limits, self._rng, ProcessLine)
        if seat is None:
            self._settled, self._now = {}, anyio.current_time
            return super()._new_lines()
        self._settled, self._now = seat.shared.settled, seat.loop.now
        return cast("dict[Route, Line]", seat.lines)

    def _settle(self, route: Route, leases: Leases, facts: AnswerFacts) -> None:
        """As `Limiter._settle`, in one step: none sends between a 429 and its gate."""
        with LOCK:
            super()._settle(route, leases, facts)
