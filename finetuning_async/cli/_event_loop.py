"""The event loop of one command, and what a signal does to it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio

from finetuning_async.cli._interruption import Interrupted as Interrupted, telling
from finetuning_async.cli._output import say

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        Awaitable,
        Callable,
        Coroutine,
        Generator,
    )

T = TypeVar("T")

BACKEND: dict[str, Any] = {"backend": "asyncio", "backend_options": {}}
"""How `run` starts its event loop; tests put a clock that jumps here."""

PATIENCE: Final = 0.5
"""Seconds after a signal until a person is told what it still waits for."""


def run(main: Callable[[], Awaitable[T]]) -> T:
    """Run a command in an event loop of its own.

    The first SIGINT or SIGTERM cancels it, and a create on the wire gets its few
    seconds; the next one, as soon as a person has been told so, ends it at once.

    Raises:
        Interrupted: A signal came.
    """
    return anyio.run(_until_signal, main, **BACKEND)


async def _until_signal(main: Callable[[], Awaitable[T]]) -> T:
    stopped_by: list[int] = []
    results: list[T] = []
    scope = anyio.CancelScope()

    async def watch() -> None:
        with stop_signals(pause=PATIENCE) as next_signal:
            stopped_by.append(await next_signal())
            scope.cancel()
            await anyio.sleep(PATIENCE)
        say("A few seconds for the answer to what was sent; Ctrl-C leaves at once.")

    async with alongside(watch):
        with scope:
            results.append(await main())
    if not results:
        raise Interrupted(stopped_by[0])
    return results[0]


@contextmanager
def stop_signals(
    times: int = 1, *, pause: float = 0.0
) -> Generator[Callable[[], Awaitable[int]]]:
    """What waits for the next signal that asks to stop; arguments as for `telling`."""
    loop = asyncio.get_running_loop()
    came: asyncio.Queue[int] = asyncio.Queue()

    def tell(number: int) -> None:
        loop.call_soon_threadsafe(came.put_nowait, number)

    with telling(tell, times=times, pause=pause):
        yield came.get


@asynccontextmanager
async def alongside(
    task: Callable[[], Coroutine[Any, Any, object]],
) -> AsyncGenerator[None]:
    """Let a task run for the length of the block. The block's error stays as it is."""
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(task)
            yield
            tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise single(group) from None


def single(error: BaseException) -> BaseException:
    """The one error in a group, or in groups of groups; several stay a group."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
