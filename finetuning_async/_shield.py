"""Work that is carried to its end although its caller is cancelled.

``CancelScope(shield=True)`` around an await holds against anyio's own scopes only.
`asyncio.timeout`, `asyncio.wait_for`, `asyncio.TaskGroup`, `task.cancel()` and Ctrl-C
cancel the *task*, shield or not. So the work runs in a child task whose body is
shielded: nobody but this module knows the child, so nobody cancels it. The call owns
the child and does not end before it.
"""

from __future__ import annotations

from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING, Generic, TypeVar

import anyio

from finetuning_async._parking import Parking

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

T = TypeVar("T")

GRACE = 5.0
"""Seconds for which guarded work may go on once its caller is cancelled."""


class Guarded(Generic[T]):
    """One piece of work in a child task, parts of which outlive a cancellation.

    Args:
        work: Called with this object, in the child task. What it does inside
            ``with guarded.held():`` goes on for up to `grace` seconds after the caller
            was cancelled; the rest of it is cancelled at once.
        grace: Seconds, at least 0.

    Attributes:
        caller_left: Whether the caller was cancelled; the work may take that as a word
            not to begin what it has not begun.
        is_done: Whether the work has ended.
    """

    __slots__ = (
        "_error",
        "_grace",
        "_result",
        "_scope",
        "_until",
        "_waiting",
        "_work",
        "caller_left",
        "is_done",
    )

    def __init__(
        self, work: Callable[[Guarded[T]], Awaitable[T]], *, grace: float = GRACE
    ) -> None:
        self._work = work
        self._grace = grace
        self._scope: anyio.CancelScope | None = None
        self._until = inf
        self._result: list[T] = []
        self._error: BaseException | None = None
        self.caller_left = False
        self.is_done = False
        self._waiting = Parking()

    @contextmanager
    def held(self) -> Generator[None]:
        """Guard a part of the work. Parts may follow one another, not nest."""
        with anyio.CancelScope(shield=True, deadline=self._until) as scope:
            self._scope = scope
            try:
                yield
            finally:
                self._scope = None

    @property
    def is_over(self) -> bool:
        """Whether the part that is held has used up its grace."""
        return self._scope is not None and self._scope.cancel_called

    def release(self) -> None:
        """From here on the part that is held may be cancelled at once."""
        if self._scope is not None:
            self._scope.shield = False

    async def run(self, meanwhile: Callable[[], Awaitable[None]] | None = None) -> T:
        """Start the work and wait for its end.

        Args:
            meanwhile: What the caller does beside the work, in its own task; the call
                ends when both have. By default it waits.

        Returns:
            What the work returned.

        Raises:
            BaseException: What the work raised, as it is, else what `meanwhile` did;
                the caller's cancellation, once the guarded part has ended or its grace
                is over.
        """
        failed: Exception | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(self._child)
            try:
                if meanwhile is not None:
                    await meanwhile()
                elif not self.is_done:
                    await self._waiting.parked()
            except Exception as its_own:  # the group would wrap it
                self.hurry()
                failed = its_own
            except BaseException:
                self.hurry()
                raise
        if self._result and failed is None:
            return self._result[0]
        error, self._error = self._error or failed, None
        if error is None:
            # asyncio only: a stranger cancelled the child before its first step.
            raise anyio.get_cancelled_exc_class()
        try:
            raise error
        finally:
            del error, failed  # or its traceback would hold itself

    def hurry(self) -> None:
        """Give the guarded part no more than `grace` seconds from now."""
        self.caller_left = True
        self._until = min(self._until, anyio.current_time() + self._grace)
        if self._scope is not None:
            self._scope.deadline = self._until

    async def _child(self) -> None:
        try:
            self._result.append(await self._work(self))
        except GeneratorExit:  # its loop is gone, and nobody waits
            raise
        except BaseException as error:
            self._error = error
            if isinstance(error, anyio.get_cancelled_exc_class()):
                raise
        finally:
            self.is_done = True
            self._waiting.wake()


async def carried_to_its_end(
    work: Callable[[], Awaitable[T]],
    meanwhile: Callable[[], Awaitable[None]] | None = None,
) -> T:
    """Run `work` whole, however the caller is cancelled meanwhile.

    The cancellation goes on when the work has ended. See `Guarded.run`.
    """

    async def held(guarded: Guarded[T]) -> T:
        with guarded.held():
            return await work()
        raise AssertionError("unreachable: an endless scope is not cancelled")

    return await Guarded(held, grace=inf).run(meanwhile)
