"""Every way to cancel a call, at every moment.

MEANS      ten ways, by time: asyncio's own, anyio's and trio's
STEPS      four ways, at the n-th step of the event loop, so that none is left out

asyncio's own cancel the task, whatever scopes are shielded; anyio's and trio's go by
scopes. All run under a clock that jumps.
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
class Means:
    """One way to cancel: runs the work, and says whether it was cancelled."""

    name: str
    loop: Loop
    run: Callable[[Work, float], Awaitable[bool]]

    def __str__(self) -> str:
        return f"{self.name}-{self.loop}"


def play(loop: Loop, main: Callable[[], Awaitable[Any]]) -> Any:
    """Run an async function in a fresh loop whose clock jumps."""
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


MEANS = (
    Means("asyncio.timeout", "asyncio", _asyncio_timeout),
    Means("asyncio.wait_for", "asyncio", _wait_for),
    Means("asyncio.TaskGroup", "asyncio", _task_group),
    Means("task.cancel", "asyncio", _cancel_once),
    Means("task.cancel twice", "asyncio", _cancel_twice),
    Means("task.cancel twice at once", "asyncio", _cancel_twice_at_once),
    Means("anyio.move_on_after", "asyncio", _move_on_after),
    Means("anyio.fail_after", "asyncio", _fail_after),
    Means("anyio.move_on_after", "trio", _move_on_after),
    Means("anyio.fail_after", "trio", _fail_after),
    Means("trio.move_on_after", "trio", _trio_scope),
)


class _CountingLoop(JumpingEventLoop):
    """Counts its iterations, and calls back before a given one."""

    def __init__(self) -> None:
        super().__init__()
        self.strike: Callable[[int], None] = lambda _: None
        self.iterations = 0

    def _run_once(self) -> None:
        self.iterations += 1
        self.strike(self.iterations)
        super()._run_once()  # type: ignore[misc] # the loop's own iteration, not in typeshed


class _CountingInstrument(trio.abc.Instrument):
    """The same for trio: counts the steps of all tasks."""

    def __init__(self) -> None:
        self.strike: Callable[[int], None] = lambda _: None
        self.iterations = 0

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.iterations += 1
        self.strike(self.iterations)


StepMeans: TypeAlias = Literal[
    "task.cancel", "task.cancel twice", "anyio scope", "trio scope"
]
STEPS: tuple[StepMeans, ...] = (
    "task.cancel",
    "task.cancel twice",
    "anyio scope",
    "trio scope",
)


@attrs.frozen
class Struck:
    """What came of a work that was cancelled at a step.

    Attributes:
        reached: Whether it still ran at that step.
        cancelled: Whether it ended as cancelled.
    """

    reached: bool
    cancelled: bool


def strike(means: StepMeans, step: int, main: Callable[[Any], Awaitable[None]]) -> bool:
    """Run ``main(struck)``, where ``await struck(work)`` cancels at a step of the work.

    Returns:
        Whether the work still ran at that step.
    """
    return (
        _strike_trio(step, main)
        if means == "trio scope"
        else _strike_asyncio(means, step, main)
    )


def _strike_asyncio(
    means: StepMeans, step: int, main: Callable[[Any], Awaitable[None]]
) -> bool:
    reached = False

    async def struck(work: Work) -> Struck:
        nonlocal reached
        loop = asyncio.get_running_loop()
        assert isinstance(loop, _CountingLoop)
        scope = anyio.CancelScope()

        async def call() -> None:
            if means == "anyio scope":
                with scope:
                    await work()
            else:
                await work()

        task = asyncio.ensure_future(call())
        begun = loop.iterations

        def hit(iteration: int) -> None:
            nonlocal reached
            if task.done():
                return
            if iteration - begun == step:
                reached = True
                scope.cancel() if means == "anyio scope" else task.cancel()
            if iteration - begun == step + 1 and means == "task.cancel twice":
                task.cancel()

        loop.strike = hit
        await asyncio.wait([task])
        loop.strike = lambda _: None
        if not task.cancelled():
            task.result()
        return Struck(reached, task.cancelled() or scope.cancelled_caught)

    with asyncio.Runner(loop_factory=_CountingLoop) as runner:
        runner.run(_as_coroutine(main, struck))
    return reached


def _strike_trio(step: int, main: Callable[[Any], Awaitable[None]]) -> bool:
    reached = False
    counter = _CountingInstrument()

    async def struck(work: Work) -> Struck:
        nonlocal reached
        begun = counter.iterations
        with trio.CancelScope() as scope:

            def hit(iteration: int) -> None:
                nonlocal reached
                if iteration - begun == step:
                    reached = True
                    scope.cancel()

            counter.strike = hit
            try:
                await work()
            finally:
                counter.strike = lambda _: None
        return Struck(reached, scope.cancelled_caught)

    trio.run(
        _as_coroutine,
        main,
        struck,
        clock=MockClock(autojump_threshold=0),
        instruments=[counter],
    )
    return reached


async def _as_coroutine(main: Callable[[Any], Awaitable[None]], struck: Any) -> None:
    await main(struck)
