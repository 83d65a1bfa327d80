"""Work that is carried to its end although its caller is cancelled.

``CancelScope(shield=True)`` around an await holds against anyio's own scopes only.
`asyncio.timeout`, `asyncio.wait_for`, `asyncio.TaskGroup`, `task.cancel()` and Ctrl-C
cancel the *task*, shield or not. So the work runs in a child task, parts of which are
shielded: nobody but this module knows the child, so nobody cancels it. The call owns
the child and does not end before it.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import anyio
import anyio.abc
import anyio.lowlevel
from sniffio import current_async_library

from finetuning_async._runtime._wakeup import Wakeup, running_loop, running_task

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Coroutine, Iterator
    from contextlib import AbstractContextManager
    from types import TracebackType

T = TypeVar("T")

GRACE = 5.0
"""Seconds for which guarded work may go on once its caller is cancelled."""


class ShieldedCall(Generic[T]):
    """One piece of work in a child task, parts of which outlive a cancellation.

    Args:
        work: Called with this object, in the child task. What it does inside
            ``with guarded.held():`` goes on for up to `grace` seconds after the caller
            was cancelled; the rest of it is cancelled at once.
        grace: Seconds, at least 0.
        place: Where the caller waits, if it has a place to be woken at.

    Attributes:
        is_done: Whether the work has ended.
    """

    __slots__ = (
        "_caller",
        "_cancelling",
        "_error",
        "_grace",
        "_left",
        "_part",
        "_place",
        "_result",
        "_until",
        "_whole",
        "_work",
        "is_done",
    )

    def __init__(
        self,
        work: Callable[[ShieldedCall[T]], Awaitable[T]],
        *,
        grace: float = GRACE,
        place: Wakeup | None = None,
    ) -> None:
        self._work = work
        self._grace = grace
        self._place = place or Wakeup()
        self._whole = anyio.CancelScope()
        self._part: anyio.CancelScope | None = None
        self._until = inf
        self._result: list[T] = []
        self._error: BaseException | None = None
        self._left = False
        self._caller: asyncio.Task[Any] | None = None
        self._cancelling = 0
        self.is_done = False

    @property
    def caller_cancelled(self) -> bool:
        """Whether the caller was cancelled.

        The work may take that as a word not to begin what it has not begun. It is known
        at once, even if the caller has had no step since.
        """
        if self._left or self._caller is None:
            return self._left
        return self._caller.cancelling() > self._cancelling

    async def checkpoint(self) -> None:
        """Be cancelled if the caller was; to be awaited in a part that is not held."""
        if self.caller_cancelled:
            self.cancel_after_grace()
        elif self._caller is not None:
            return  # on asyncio no scope of the caller's reaches the child
        await anyio.lowlevel.checkpoint_if_cancelled()

    def shielded(self) -> AbstractContextManager[object]:
        """Guard a part of the work. Parts may follow one another, not nest."""
        self._part = anyio.CancelScope(shield=True, deadline=self._until)
        return self._part

    @property
    def grace_expired(self) -> bool:
        """Whether the part that was held last has used up its grace."""
        return self._part is not None and self._part.cancel_called

    def release(self) -> None:
        """From here on the part that is held may be cancelled at once."""
        if self._part is not None:
            self._part.shield = False

    def hold(self) -> None:
        """From here on it is held again."""
        if self._part is not None:
            self._part.shield = True

    def run(
        self, meanwhile: Callable[[ShieldedCall[T]], Awaitable[None]] | None = None
    ) -> Coroutine[Any, Any, T]:
        """Start the work and wait for its end.

        Args:
            meanwhile: What the caller does beside the work, in its own task; called
                with this object. The call ends when both have. By default it waits.

        Returns:
            What the work returned.

        Raises:
            BaseException: What the work raised, as it is, else what `meanwhile` did;
                the caller's cancellation, once the guarded part has ended or its grace
                is over.
        """
        if current_async_library() == "asyncio":
            return self._in_a_task(meanwhile)
        return self.run_in_a_group(meanwhile)

    async def _in_a_task(
        self, meanwhile: Callable[[ShieldedCall[T]], Awaitable[None]] | None
    ) -> T:
        """Run it on asyncio, where a group would be twenty objects more, and slower.

        No scope of the caller's reaches the child: what they say comes by
        `cancel_after_grace`, and before that by the caller's count of cancellations.
        """
        child = self.begin_task()
        cancelled: BaseException | None = None
        try:
            try:
                if meanwhile is not None:
                    await meanwhile(self)
            except Exception as its_own:
                self._fail(its_own)
            while not self.is_done:
                await self._place.wait()
        except GeneratorExit:  # closed from outside, where nothing can be awaited
            raise
        except BaseException as error:
            cancelled = error
        if cancelled is None:
            return self.outcome()
        self.cancel_after_grace()
        try:
            raise await self._outlast(cancelled)
        finally:
            del cancelled, child  # or its traceback would hold itself

    def begin_task(self) -> asyncio.Task[None]:
        """Start the work in a task, on asyncio, for the caller's task."""
        deadline = anyio.current_effective_deadline()
        if deadline < inf and deadline <= anyio.current_time():
            self.cancel_after_grace()
        self._caller = running_task()
        self._cancelling = self._caller.cancelling()
        child = running_loop().create_task(self.child())
        child.add_done_callback(self._ended)
        return child

    async def _outlast(self, cancelled: BaseException) -> BaseException:
        """Wait for the end, although the caller is cancelled; what to raise then.

        Scopes are silent here, so a cancellation that comes now is the task's own. It
        goes before that of a scope, which would take both for its own.
        """
        with anyio.CancelScope(shield=True):
            while not self.is_done:
                try:
                    await self._place.wait()
                except anyio.get_cancelled_exc_class() as again:
                    cancelled = again
        self._error = None  # or its traceback would hold itself
        return cancelled

    async def run_in_a_group(
        self, meanwhile: Callable[[ShieldedCall[T]], Awaitable[None]] | None = None
    ) -> T:
        """As `run`, with a child that belongs to the caller's scopes on asyncio, too.

        A worker thread that is called in the child would end with it, otherwise.
        """
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self.child)
                try:
                    if meanwhile is not None:
                        await meanwhile(self)
                    while not self.is_done:
                        await self._place.wait()
                except Exception as its_own:  # the group would wrap it
                    self._fail(its_own)
                except BaseException:
                    self.cancel_after_grace()
                    raise
        except BaseException:
            self._error = None  # or its traceback would hold itself
            raise
        return self.outcome()

    def _fail(self, error: Exception) -> None:
        if self._error is None:  # that of the work comes first
            self._error = error
        self.cancel_after_grace()

    def outcome(self) -> T:
        """What the work returned, once it is done.

        Raises:
            BaseException: What it raised.
        """
        error, self._error = self._error, None
        if error is None and self._result:
            return self._result[0]
        if error is None:
            # asyncio only: a stranger cancelled the child before its first step.
            raise anyio.get_cancelled_exc_class()
        try:
            raise error
        finally:
            del error  # or its traceback would hold itself

    def cancel_after_grace(self, grace: float | None = None) -> None:
        """Cancel the work; what is held has no more than `grace` seconds from now.

        Args:
            grace: Instead of that which it was made with.
        """
        self._left = True
        grace = self._grace if grace is None else grace
        self._until = min(self._until, anyio.current_time() + grace)
        if self._part is not None:
            self._part.deadline = self._until
        self._whole.cancel()

    async def child(self) -> None:
        """The work, in the child task."""
        try:
            with self._whole:
                self._result.append(await self._work(self))
        except GeneratorExit:  # closed from outside, and nobody waits
            raise
        except BaseException as error:
            self._error = error
            if isinstance(error, anyio.get_cancelled_exc_class()):
                raise
        finally:
            self._ended()

    def _ended(self, _: object = None) -> None:
        """Also called of a task that a stranger cancelled before its first step."""
        if not self.is_done:
            self.is_done = True
            self._place.wake()


class ShieldedGroup:
    """Guarded works of one call, which goes on while they run.

    To be used with ``async with``, by one task; leaving the block waits for the end of
    all of them, without hurry unless `ShieldedCall.cancel_after_grace` was called,
    however the caller is cancelled meanwhile.

    Args:
        place: Where the caller waits; it is woken there as each ends.
    """

    def __init__(self, place: Wakeup) -> None:
        self._place = place
        self._works: dict[ShieldedCall[Any], object] = {}
        self._group: anyio.abc.TaskGroup | None = None

    async def __aenter__(self) -> Self:
        if current_async_library() != "asyncio":
            self._group = anyio.create_task_group()
            await self._group.__aenter__()
        return self

    def __iter__(self) -> Iterator[ShieldedCall[Any]]:
        return iter(self._works)

    def start(self, work: ShieldedCall[Any]) -> None:
        """Start a work whose place is the group's."""
        if self._group is None:
            self._works[work] = work.begin_task()
        else:
            self._works[work] = None
            self._group.start_soon(work.child)

    def reap(self) -> None:
        """Forget the works that have ended.

        Raises:
            BaseException: What one of them raised.
        """
        for work in [work for work in self._works if work.is_done]:
            del self._works[work]
            work.outcome()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, GeneratorExit):  # closed from outside: nothing to await
            return
        if self._group is None:
            await self._outlast()
        elif isinstance(error, Exception):  # the group would wrap it
            await self._group.__aexit__(None, None, None)
        else:
            await self._group.__aexit__(kind, error, trace)

    async def _outlast(self) -> None:
        """As `ShieldedCall._outlast`."""
        cancelled: BaseException | None = None
        with anyio.CancelScope(shield=True):
            while not all(work.is_done for work in self._works):
                try:
                    await self._place.wait()
                except anyio.get_cancelled_exc_class() as again:
                    cancelled = again
        if cancelled is not None:
            try:
                raise cancelled
            finally:
                del cancelled  # or its traceback would hold itself


async def run_to_completion(work: Callable[[], Awaitable[T]]) -> T:
    """Run `work` whole, however the caller is cancelled meanwhile.

    The cancellation goes on when the work has ended. See `ShieldedCall.run`.
    """

    async def shielded(guarded: ShieldedCall[T]) -> T:
        with guarded.shielded():
            return await work()
        raise AssertionError("unreachable: an endless scope is not cancelled")

    return await ShieldedCall(shielded, grace=inf).run_in_a_group()
