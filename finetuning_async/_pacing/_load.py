"""How much waits and is in progress in one account, for those who listen."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING
from weakref import WeakSet

import anyio

from finetuning_async._api import PRIORITIES
from finetuning_async._events import LoadChanged
from finetuning_async._logging import log_exceptions

if TYPE_CHECKING:
    from collections.abc import Generator

    from finetuning_async._event_hook import Hook
    from finetuning_async._pacing._in_flight import InFlight
    from finetuning_async._pacing._protocols import RateLimiter


class Load:
    """What one account has waiting, in progress and in doubt; reports each change.

    While no one listens, nothing but the counts is kept.

    Args:
        inflight: The account's register; from now on it reports its changes here.
        limiter: Gives the account's permits.
    """

    def __init__(self, inflight: InFlight, limiter: RateLimiter) -> None:
        self._inflight = inflight
        self._limiter = limiter
        self._waiting = [0] * len(PRIORITIES)
        self._in_doubt = 0
        self._reported = self._counts()
        # Weak, because views of a client come and go, and no one closes them.
        self._hooks: WeakSet[Hook] = WeakSet()
        inflight.on_change = self.report

    def __repr__(self) -> str:
        return f"<Load {self._waiting} waiting, {self._in_doubt} in doubt>"

    @property
    def has_listeners(self) -> bool:
        """Whether anybody gets the reports."""
        return bool(self._hooks)

    def listen(self, hook: Hook | None) -> None:
        """Report to a hook, if there is one, for as long as it exists."""
        if hook is not None:
            self._hooks.add(hook)

    @contextmanager
    def waiting(self, rank: int) -> Generator[None]:
        """Count a create of a priority as waiting, until the block ends.

        The end is reported. The begin is not, since most creates do not wait: `report`
        is called by whoever knows that this one does.
        """
        self._waiting[rank] += 1
        try:
            yield
        finally:
            self._waiting[rank] -= 1
            self.report()

    @contextmanager
    def doubted(self) -> Generator[None]:
        """Count a create as in doubt, until the block ends."""
        self._in_doubt += 1
        try:
            self.report()
            yield
        finally:
            self._in_doubt -= 1
            self.report()

    def report(self) -> None:
        """Call the hooks, if a count has changed since the last time."""
        if not self._hooks or self._reported == self._counts():
            return
        self._reported = self._counts()
        # A limiter of the caller's may fail, which must not end a create.
        with log_exceptions("reading the free permits"):
            event = self._event()
            for hook in list(self._hooks):
                hook(event)

    def _counts(self) -> tuple[int, ...]:
        return (*self._waiting, len(self._inflight.tracks), self._in_doubt)

    def _event(self) -> LoadChanged:
        high, normal, low, in_flight, in_doubt = self._counts()
        permits = self._limiter.status()
        return LoadChanged(
            at=anyio.current_time(),
            waiting_high=high,
            waiting_normal=normal,
            waiting_low=low,
            in_flight=in_flight,
            in_doubt=in_doubt,
            creates_free=permits.creates.available,
            reads_free=permits.reads.available,
        )
