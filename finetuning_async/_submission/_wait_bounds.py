"""`max_wait`: a create that would wait too long is refused, as soon as that is known.

bounded      bounds one wait by what is left of `max_wait`
WaitBounds   refuses creates that wait, when the forecast changes

There is no background task. One of the bounded creates that wait drives: in a task of
its own group it looks at all of them whenever the line has changed, and every few
seconds, since tracks may take longer than expected, and other processes change the line
too. When it leaves, it promotes another.
"""

from __future__ import annotations

from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING, Final, Protocol

import anyio
import anyio.lowlevel

from finetuning_async._submission import _create_events

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from contextlib import AbstractContextManager

    from anyio.abc import TaskGroup

    from finetuning_async._pacing import QueueGate
    from finetuning_async._submission._submission import Submission
    from finetuning_async._types import Kind

LOOK_EVERY: Final = 2.0
"""Seconds between two looks at the forecast if nothing has happened here."""

SHORTEST: Final = 1.0
"""Seconds that a create without tries so far may take to be let in, whatever its
`max_wait`: the forecast says that it goes at once, but a store must be asked first."""

TOLERANCE: Final = 0.1
"""A create that was let in is refused early only if it is expected to go out later than
its `max_wait` by this part of it: forecasts are not more exact."""


class Line(Protocol):
    """The line of an account's creates; see `LineView`."""

    @property
    def pause(self) -> float:
        """Seconds until it is worth asking again."""

    def places(self) -> Mapping[QueueGate, int]:
        """How many creates go before each that waits in this loop."""

    def start_of(self, place: int, kind: Kind) -> float:
        """When the create at a place is expected to go out, on the loop's clock."""

    def watched(self, on_change: Callable[[], None]) -> AbstractContextManager[None]:
        """Call a function when creates may have to wait longer."""


class WaitBound:
    """The bound of one wait.

    Args:
        submission: The create that waits.

    Attributes:
        submission: As given.
        scope: Ends the wait.
        deadline: When the wait is over, on the loop's clock; `inf` for no bound.
        expected: Seconds that the create would have waited longer, if it was refused
            before its time was over.
    """

    def __init__(self, submission: Submission) -> None:
        left = submission.max_wait - submission.waited
        if submission.attempts <= 1:
            left = max(left, SHORTEST)
        self.submission = submission
        self.deadline = anyio.current_time() + left
        self.scope = anyio.CancelScope(deadline=self.deadline)
        self.expected: float | None = None

    def refuse(self, expected: float) -> None:
        """End the wait: the create would have to wait so many seconds more."""
        self.expected = expected
        self.scope.cancel()


@contextmanager
def bounded(submission: Submission) -> Generator[WaitBound]:
    """Bound a wait by what is left of `max_wait`, and count it.

    Raises:
        CapacityError: That is over, or it is known that it will not be enough.
    """
    began, bound = anyio.current_time(), WaitBound(submission)
    try:
        with bound.scope:
            yield bound
    finally:
        submission.waited += anyio.current_time() - began
    if bound.scope.cancelled_caught:
        raise _create_events.wait_too_long(submission, bound.expected)


class WaitBounds:
    """The bounded creates of an account that wait in one event loop.

    Args:
        line: Where they wait.
    """

    def __init__(self, line: Line) -> None:
        self._line = line
        self._waiting: dict[WaitBound, TaskGroup] = {}
        self._driver: WaitBound | None = None
        self._changed = anyio.Event()

    def __repr__(self) -> str:
        return f"<WaitBounds {len(self._waiting)} waiting>"

    def notify(self) -> None:
        """Look at the forecast, since something has changed."""
        self._changed.set()

    @contextmanager
    def watching(self, bound: WaitBound, tasks: TaskGroup) -> Generator[None]:
        """Refuse a create while the block runs, once it would wait too long.

        Args:
            bound: Of the create.
            tasks: A task group around the block, which is cancelled after it.
        """
        self._waiting[bound] = tasks
        self.notify()  # others may have to wait for it
        self._promote_next()
        try:
            yield
        finally:
            del self._waiting[bound]
            if self._driver is bound:
                self._driver = None
                self._promote_next()

    def _promote_next(self) -> None:
        if self._driver is None and self._waiting:
            self._driver, tasks = next(iter(self._waiting.items()))
            tasks.start_soon(self._drive)

    async def _drive(self) -> None:
        await anyio.lowlevel.checkpoint()  # cancelled here if the permit came at once
        with self._line.watched(self.notify):
            while True:
                self._changed = anyio.Event()
                self._refuse_late()
                with anyio.move_on_after(LOOK_EVERY):
                    await self._changed.wait()
                # Whatever else happens in this moment is looked at together with it.
                await anyio.sleep(self._line.pause)

    def _refuse_late(self) -> None:
        """Refuse those that would wait too long, from the first of the line on.

        Each that is refused lets those behind it move up, so that they may stay.
        """
        places, refused, now = self._line.places(), 0, anyio.current_time()
        for place, bound in sorted(
            (
                (places.get(bound.submission.gate, inf), bound)
                for bound in self._waiting
                if bound.submission.gate is not None
            ),
            key=lambda each: each[0],
        ):
            if place == inf:  # it has its permit, or has not joined yet
                return
            submission = bound.submission
            kind = submission.request.kind
            start = self._line.start_of(int(place) - refused, kind)
            if start > bound.deadline + TOLERANCE * submission.max_wait:
                bound.refuse(start - now)
                refused += 1
