"""Calls whose work finishes although the caller is cancelled.

``CancelScope(shield=True)`` around an await stops cancellations by anyio's scopes only.
`asyncio.timeout`, `asyncio.wait_for`, `asyncio.TaskGroup`, `task.cancel()` and Ctrl-C
cancel the *task*: asyncio throws `CancelledError` into whatever it awaits, shield or
not. A create would lose the id of a track that is paid for (promise P2).

So the work runs in a *child task*. Only this module holds a reference to it, so no
native cancellation reaches it; they hit the caller's task, which waits here. Parts of
the work are shielded as well, against `cancel_after_grace`, by which this module passes
the caller's cancellation on. The call owns the child and never ends before it.

    caller's task                         child task
    -------------                         ----------
    run() -> waits on the wakeup          work(call)
      | cancelled: cancel_after_grace()     | outside shielded(): cancelled at once
      | waits on, shielded                  | inside: at most `grace` seconds more
      | re-raises the cancellation        ends -> wakes the caller
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

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
"""Seconds that shielded work may go on once its caller is cancelled: long enough for a
response that is on its way, short enough after a Ctrl-C."""


class ShieldedCall(Generic[T]):
    """Work in a child task, parts of which go on after the caller is cancelled.

    Args:
        work: Called with this object, in the child task. What runs inside
            ``with call.shielded():`` goes on for up to `grace` seconds after the caller
            is cancelled; the rest is cancelled at once.
        grace: Seconds, at least 0.
        wakeup: Where the caller waits, if it has a `Wakeup` already.

    Attributes:
        is_done: Whether the work has ended.
    """

    __slots__ = (
        "_caller",
        "_cancel_count",
        "_cancelled",
        "_error",
        "_grace",
        "_grace_deadline",
        "_result",
        "_scope",
        "_shield",
        "_wakeup",
        "_work",
        "is_done",
    )

    def __init__(
        self,
        work: Callable[[ShieldedCall[T]], Awaitable[T]],
        *,
        grace: float = GRACE,
        wakeup: Wakeup | None = None,
    ) -> None:
        self._work = work
        self._grace = grace
        self._wakeup = wakeup or Wakeup()
        self._scope = anyio.CancelScope()  # around all of the work
        self._shield: anyio.CancelScope | None = None  # around the shielded part
        self._grace_deadline = inf
        self._result: list[T] = []
        self._error: BaseException | None = None
        self._cancelled = False
        self._caller: asyncio.Task[Any] | None = None
        self._cancel_count = 0
        self.is_done = False

    @property
    def caller_cancelled(self) -> bool:
        """Whether the caller was cancelled, so that nothing new should be started.

        True as soon as `task.cancel()` was called, even if the caller's task has not
        run since: the child may be scheduled first, and must not send a create then.
        """
        if self._cancelled or self._caller is None:
            return self._cancelled
        # Only the increase counts: the caller may clean up after an earlier one.
        return self._caller.cancelling() > self._cancel_count

    async def checkpoint(self) -> None:
        """Raise the cancellation if the caller was cancelled; call it unshielded."""
        if self.caller_cancelled:
            self.cancel_after_grace()
        elif self._caller is not None:
            return  # on asyncio no scope of the caller's reaches the child
        await anyio.lowlevel.checkpoint_if_cancelled()

    def shielded(self) -> AbstractContextManager[object]:
        """Shield a part of the work. Parts may follow one another, not nest."""
        self._shield = anyio.CancelScope(shield=True, deadline=self._grace_deadline)
        return self._shield

    @property
    def grace_expired(self) -> bool:
        """Whether the last shielded part was cancelled because its grace was over."""
        return self._shield is not None and self._shield.cancel_called

    def unshield(self) -> None:
        """Let the shielded part be cancelled at once, until `reshield`.

        A create that still connects has sent nothing, so it need not be waited for.
        """
        if self._shield is not None:
            self._shield.shield = False

    def reshield(self) -> None:
        """Shield the part again."""
        if self._shield is not None:
            self._shield.shield = True

    def run(
        self, meanwhile: Callable[[ShieldedCall[T]], Awaitable[None]] | None = None
    ) -> Coroutine[Any, Any, T]:
        """Start the work and wait until it ends.

        Args:
            meanwhile: Runs beside the work, in the caller's task; called with this
                object. The call ends when both have ended. By default it only waits.

        Returns:
            What the work returned.

        Raises:
            BaseException: What the work raised, as it is, else what `meanwhile` raised;
                the caller's cancellation, once the shielded part has ended or its grace
                is over.
        """
        if current_async_library() == "asyncio":
            return self._run_in_task(meanwhile)
        return self.run_in_group(meanwhile)

    async def _run_in_task(
        self, meanwhile: Callable[[ShieldedCall[T]], Awaitable[None]] | None
    ) -> T:
        """Run the work in a bare task of asyncio; a task group is slower.

        It would be twenty objects more. The child is in none of the caller's scopes.
        It learns of the caller's cancellation by `cancel_after_grace`, and before that
        by `caller_cancelled`.
        """
        child = self.start_task()
        cancelled: BaseException | None = None
        try:
            try:
                if meanwhile is not None:
                    await meanwhile(self)
            except Exception as its_own:
                self._fail(its_own)
            while not self.is_done:
                # A cancellation of either kind lands here: thrown into the task by
                # asyncio, or by a scope of anyio's.
                await self._wakeup.wait()
        except GeneratorExit:  # closed from outside, where nothing can be awaited
            raise
        except BaseException as error:
            cancelled = error
        if cancelled is None:
            return self.result()
        self.cancel_after_grace()
        try:
            raise await self._wait_until_done(cancelled)
        finally:
            # The frame holds the error, and its traceback the frame: a cycle. `child`
            # stays alive until here: the loop keeps only weak references to tasks.
            del cancelled, child

    def start_task(self) -> asyncio.Task[None]:
        """Start the work in a new asyncio task; the running task is the caller."""
        deadline = anyio.current_effective_deadline()
        if deadline < inf and deadline <= anyio.current_time():
            # A scope is cancelled already, but reaches the task only at its next await.
            self.cancel_after_grace()
        self._caller = running_task()
        self._cancel_count = self._caller.cancelling()
        return self.start_unwatched()

    def start_unwatched(self) -> asyncio.Task[None]:
        """The same from outside the caller's task, whose cancellation is not noticed.

        Only `cancel_after_grace` cancels it then.
        """
        child = running_loop().create_task(self.run_child())
        # If something cancels the child before its first step, `run_child` never runs.
        child.add_done_callback(self._on_done)
        return child

    async def _wait_until_done(self, cancelled: BaseException) -> BaseException:
        """Wait for the end of the work in a cancelled task.

        Returns:
            The cancellation to raise then.
        """
        try:
            return await outwait(self._wakeup, lambda: self.is_done, cancelled)
        finally:
            # It is never raised, and its traceback refers to it.
            self._error = None
            del cancelled

    async def run_in_group(
        self, meanwhile: Callable[[ShieldedCall[T]], Awaitable[None]] | None = None
    ) -> T:
        """As `run`, with a child in a task group, on asyncio too.

        anyio keeps an idle worker thread until the root task of its caller ends. For a
        bare task of asyncio that may be the child: each call would start a new thread.
        """
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self.run_child)
                try:
                    if meanwhile is not None:
                        await meanwhile(self)
                    while not self.is_done:
                        await self._wakeup.wait()
                except Exception as its_own:  # the group would wrap it
                    self._fail(its_own)
                except BaseException:
                    # Now the group waits for the child, and ignores further
                    # cancellations of the task until it has ended.
                    self.cancel_after_grace()
                    raise
        except BaseException:
            self._error = None  # it is never raised, and its traceback refers to it
            raise
        return self.result()

    def _fail(self, error: Exception) -> None:
        if self._error is None:  # an error of the work takes precedence
            self._error = error
        self.cancel_after_grace()

    def result(self) -> T:
        """What the work returned; call it once the work is done.

        Raises:
            BaseException: What the work raised.
        """
        error, self._error = self._error, None
        if error is None and self._result:
            return self._result[0]
        if error is None:
            # asyncio only: the child was cancelled before its first step, as
            # `asyncio.run` cancels all tasks that are left when it ends.
            raise anyio.get_cancelled_exc_class()
        try:
            raise error
        finally:
            del error  # break the cycle of the error, its traceback and this frame

    def cancel_after_grace(self, grace: float | None = None) -> None:
        """Cancel the work; its shielded part goes on for up to `grace` seconds.

        A second call can only shorten the grace.

        Args:
            grace: Seconds from now, instead of those given to the constructor.
        """
        self._cancelled = True
        grace = self._grace if grace is None else grace
        self._grace_deadline = min(self._grace_deadline, anyio.current_time() + grace)
        if self._shield is not None:
            self._shield.deadline = self._grace_deadline
        self._scope.cancel()

    async def run_child(self) -> None:
        """Run the work; to be called in the child task."""
        try:
            with self._scope:
                self._result.append(await self._work(self))
        except GeneratorExit:  # closed from outside; no caller is waiting any more
            raise
        except BaseException as error:
            self._error = error
            # Errors are raised in the caller's task. A cancellation is re-raised here
            # as well: asyncio has to see that the task ended as cancelled.
            if isinstance(error, anyio.get_cancelled_exc_class()):
                raise
        finally:
            self._on_done()

    def _on_done(self, _: object = None) -> None:
        if not self.is_done:
            self.is_done = True
            self._wakeup.wake()


class ShieldedGroup:
    """Shielded calls of one task, which goes on while they run.

    Use it with ``async with``. Leaving the block waits for all of them, however often
    the task is cancelled meanwhile. It does not cancel them; `cancel_after_grace` does.

    Args:
        wakeup: Where the task waits; it is woken as each call ends.
    """

    def __init__(self, wakeup: Wakeup) -> None:
        self._wakeup = wakeup
        self._calls: dict[ShieldedCall[Any], object] = {}
        self._timers: list[asyncio.TimerHandle] = []
        self._group: anyio.abc.TaskGroup | None = None

    async def __aenter__(self) -> Self:
        if current_async_library() != "asyncio":
            self._group = anyio.create_task_group()
            await self._group.__aenter__()
        return self

    def __iter__(self) -> Iterator[ShieldedCall[Any]]:
        return iter(self._calls)

    def start(self, call: ShieldedCall[Any]) -> None:
        """Start a call that was made with the `wakeup` of the group."""
        if self._group is None:
            # The task is kept: the loop holds only a weak reference to it.
            self._calls[call] = call.start_task()
        else:
            self._calls[call] = None
            self._group.start_soon(call.run_child)

    def start_at(self, call: ShieldedCall[Any], moment: float) -> None:
        """Start a call that does nothing before a moment of the loop's clock.

        On asyncio it is started then, and costs no task if the block ends before.
        """
        if self._group is not None:
            self.start(call)
            return

        def start() -> None:
            self._calls[call] = call.start_unwatched()

        self._timers.append(running_loop().call_at(moment, start))

    def reap(self) -> None:
        """Remove the calls that have ended.

        Raises:
            BaseException: What one of them raised.
        """
        for call in [call for call in self._calls if call.is_done]:
            del self._calls[call]
            call.result()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for timer in self._timers:
            timer.cancel()
        if isinstance(error, GeneratorExit):  # closed from outside: nothing to await
            return
        if self._group is None:
            await self._wait_until_done()
        elif isinstance(error, Exception):  # the group would wrap it
            await self._group.__aexit__(None, None, None)
        else:
            await self._group.__aexit__(kind, error, trace)

    async def _wait_until_done(self) -> None:
        """As `ShieldedCall._wait_until_done`, for all calls."""
        if all(call.is_done for call in self._calls):
            return
        cancelled = await outwait(
            self._wakeup, lambda: all(call.is_done for call in self._calls)
        )
        if cancelled is not None:
            try:
                raise cancelled
            finally:
                del cancelled  # break the cycle of the error and this frame


@overload
async def outwait(
    wakeup: Wakeup,
    is_done: Callable[[], bool],
    cancelled: BaseException,
    seconds: float = inf,
) -> BaseException: ...


@overload
async def outwait(
    wakeup: Wakeup,
    is_done: Callable[[], bool],
    cancelled: BaseException | None = None,
    seconds: float = inf,
) -> BaseException | None: ...


async def outwait(
    wakeup: Wakeup,
    is_done: Callable[[], bool],
    cancelled: BaseException | None = None,
    seconds: float = inf,
) -> BaseException | None:
    """Wait until something is done, however often the task is cancelled meanwhile.

    Args:
        wakeup: Woken when it may be.
        is_done: Whether it is.
        cancelled: The cancellation with which the task came here, if with one.
        seconds: How long to wait at most.

    Returns:
        The cancellation to raise then; `None` if there was none.
    """
    deadline = anyio.current_time() + seconds
    with anyio.CancelScope(shield=True, deadline=deadline) as scope:
        while not is_done():
            try:
                await wakeup.wait()
            except anyio.get_cancelled_exc_class() as again:
                if scope.cancel_called:  # the time is over
                    raise
                # The shield keeps scopes quiet, so this is `task.cancel()`. It replaces
                # the cancellation of a scope: that scope would swallow both, and the
                # task would go on as if it were not cancelled.
                cancelled = again
    try:
        return cancelled
    finally:
        del cancelled  # break the cycle of the error and this frame


async def run_to_completion(work: Callable[[], Awaitable[T]]) -> T:
    """Run `work` to its end, however often the caller is cancelled meanwhile.

    A cancellation is raised when the work has ended. See `ShieldedCall.run`.
    """

    async def shielded(call: ShieldedCall[T]) -> T:
        with call.shielded():
            return await work()
        raise AssertionError("unreachable: nothing cancels a shield without deadline")

    return await ShieldedCall(shielded, grace=inf).run_in_group()
