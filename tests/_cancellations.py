"""Every way to cancel a call, at every moment.

CANCELLERS        eleven ways, after a time: those of asyncio, anyio and trio
STEP_CANCELLERS   four ways, at the n-th step of the event loop, for every n

asyncio cancels the task, shielded or not; anyio and trio cancel scopes. All run under a
virtual clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeAlias

import anyio
import anyio.lowlevel
import attrs
import trio
from trio.testing import MockClock

from finetuning_async.testing import JumpingEventLoop, jumping_backend

Work: TypeAlias = Callable[[], Awaitable[object]]
Loop: TypeAlias = Literal["asyncio", "trio"]


@attrs.frozen
class Canceller:
    """One way to cancel: `run` returns whether the work was cancelled."""

    name: str
    loop: Loop
    run: Callable[[Work, float], Awaitable[bool]]

    def __str__(self) -> str:
        return f"{self.name}-{self.loop}"


def run_loop(loop: Loop, main: Callable[[], Awaitable[Any]]) -> Any:
    """Run an async function in a new event loop with a virtual clock."""
    name, options = jumping_backend(loop)
    return anyio.run(main, backend=name, backend_options=dict(options))


async def _asyncio_timeout(work: Work, after: float) -> bool:
    try:
        async with asyncio.timeout(after):
            await work()
    except TimeoutError:
        return True
    return False


async def _wait_for(work: Work, after: float) -> bool:
    async def call() -> None:
        await work()

    try:
        await asyncio.wait_for(call(), after)
    except TimeoutError:
        return True
    return False


class _SiblingError(Exception):
    pass


async def _task_group(work: Work, after: float) -> bool:
    ended = False

    async def call() -> None:
        nonlocal ended
        await work()
        ended = True

    async def fail() -> None:
        await asyncio.sleep(after)
        raise _SiblingError

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(call())
            group.create_task(fail())
    except* _SiblingError:
        pass
    return not ended


async def _cancel(work: Work, after: float, *, again: float | None) -> bool:
    async def call() -> None:
        await work()

    task = asyncio.ensure_future(call())
    await asyncio.sleep(after)
    task.cancel()
    if again is not None:
        await asyncio.sleep(again)
        task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
    return task.cancelled()


async def _cancel_once(work: Work, after: float) -> bool:
    return await _cancel(work, after, again=None)


async def _cancel_twice(work: Work, after: float) -> bool:
    return await _cancel(work, after, again=0.05)


async def _cancel_twice_at_once(work: Work, after: float) -> bool:
    return await _cancel(work, after, again=0.0)


async def _move_on_after(work: Work, after: float) -> bool:
    with anyio.move_on_after(after) as scope:
        await work()
    return scope.cancelled_caught


async def _fail_after(work: Work, after: float) -> bool:
    try:
        with anyio.fail_after(after):
            await work()
    except TimeoutError:
        return True
    return False


async def _trio_scope(work: Work, after: float) -> bool:
    with trio.move_on_after(after) as scope:
        await work()
    return scope.cancelled_caught


CANCELLERS = (
    Canceller("asyncio.timeout", "asyncio", _asyncio_timeout),
    Canceller("asyncio.wait_for", "asyncio", _wait_for),
    Canceller("asyncio.TaskGroup", "asyncio", _task_group),
    Canceller("task.cancel", "asyncio", _cancel_once),
    Canceller("task.cancel twice", "asyncio", _cancel_twice),
    Canceller("task.cancel twice at once", "asyncio", _cancel_twice_at_once),
    Canceller("anyio.move_on_after", "asyncio", _move_on_after),
    Canceller("anyio.fail_after", "asyncio", _fail_after),
    Canceller("anyio.move_on_after", "trio", _move_on_after),
    Canceller("anyio.fail_after", "trio", _fail_after),
    Canceller("trio.move_on_after", "trio", _trio_scope),
)


class _CountingLoop(JumpingEventLoop):
    """Counts its iterations, and calls `on_step` before each one."""

    def __init__(self) -> None:
        super().__init__()
        self.on_step: Callable[[int], None] = lambda _: None
        self.steps = 0

    def _run_once(self) -> None:
        self.steps += 1
        self.on_step(self.steps)
        super()._run_once()  # type: ignore[misc] # the loop's own step, not in typeshed


class _CountingInstrument(trio.abc.Instrument):
    """The same for trio, where it counts the steps of all tasks."""

    def __init__(self) -> None:
        self.on_step: Callable[[int], None] = lambda _: None
        self.steps = 0

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps += 1
        self.on_step(self.steps)


A_DAY = 86_400.0
"""Seconds of the virtual clock after which work that has not ended hangs."""

StepCanceller: TypeAlias = Literal[
    "task.cancel", "task.cancel twice", "anyio scope", "trio scope", "every task"
]
STEP_CANCELLERS: tuple[StepCanceller, ...] = (
    "task.cancel",
    "task.cancel twice",
    "anyio scope",
    "trio scope",
)


@attrs.frozen
class Outcome:
    """What became of work that was cancelled at a step.

    Attributes:
        reached: Whether the work still ran at that step.
        cancelled: Whether it ended as cancelled.
    """

    reached: bool
    cancelled: bool


def cancel_at_step(
    canceller: StepCanceller, step: int, main: Callable[[Any], Awaitable[None]]
) -> bool:
    """Run ``main(run_cancelled)``; ``await run_cancelled(work)`` cancels at a step.

    Args:
        canceller: How.
        step: At which step of the work, from 1.
        main: Gets the function that runs the work and cancels it.

    Returns:
        Whether the work still ran at that step.
    """
    return (
        _cancel_at_step_trio(step, main)
        if canceller == "trio scope"
        else _cancel_at_step_asyncio(canceller, step, main)
    )


def _cancel_at_step_asyncio(
    canceller: StepCanceller, step: int, main: Callable[[Any], Awaitable[None]]
) -> bool:
    reached = False

    async def run_cancelled(work: Work) -> Outcome:
        nonlocal reached
        loop = asyncio.get_running_loop()
        assert isinstance(loop, _CountingLoop)
        scope = anyio.CancelScope()

        async def call() -> None:
            if canceller == "anyio scope":
                with scope:
                    await work()
            else:
                await work()

        others = asyncio.all_tasks()
        task = asyncio.ensure_future(call())
        begun = loop.steps

        def cancel(number: int) -> None:
            nonlocal reached
            if task.done():
                return
            if number - begun == step:
                reached = True
                scope.cancel() if canceller == "anyio scope" else task.cancel()
                if canceller == "every task":  # as `asyncio.run` does when it ends
                    for one in asyncio.all_tasks(loop) - others:
                        one.cancel()
            if number - begun == step + 1 and canceller == "task.cancel twice":
                task.cancel()

        loop.on_step = cancel
        await asyncio.wait([task], timeout=A_DAY)
        loop.on_step = lambda _: None
        assert task.done(), "it hangs"
        if not task.cancelled():
            task.result()
        return Outcome(reached, task.cancelled() or scope.cancelled_caught)

    with asyncio.Runner(loop_factory=_CountingLoop) as runner:
        runner.run(_as_coroutine(main, run_cancelled))
    return reached


def _cancel_at_step_trio(step: int, main: Callable[[Any], Awaitable[None]]) -> bool:
    reached = False
    counter = _CountingInstrument()

    async def run_cancelled(work: Work) -> Outcome:
        nonlocal reached
        begun = counter.steps
        with trio.CancelScope() as scope:

            def cancel(number: int) -> None:
                nonlocal reached
                if number - begun == step:
                    reached = True
                    scope.cancel()

            counter.on_step = cancel
            try:
                await work()
            finally:
                counter.on_step = lambda _: None
        return Outcome(reached, scope.cancelled_caught)

    trio.run(
        _as_coroutine,
        main,
        run_cancelled,
        clock=MockClock(autojump_threshold=0),
        instruments=[counter],
    )
    return reached


async def _as_coroutine(
    main: Callable[[Any], Awaitable[None]], run_cancelled: Any
) -> None:
    await main(run_cancelled)
