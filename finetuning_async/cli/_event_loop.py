"""The event loop of one command, and what a signal does to it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio

from finetuning_async.cli._output import say
from finetuning_async.cli._signals import Interrupted as Interrupted, call_on_signal

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
"""How `run` starts its event loop. Tests replace the clock here."""

NOTICE_AFTER: Final = 0.5
"""Seconds from a signal to the notice that says what the program still waits for."""


def run(main: Callable[[], Awaitable[T]]) -> T:
    """Run a command in an event loop of its own.

    The first SIGINT or SIGTERM cancels the command. A create on the wire gets a few
    seconds for its response, so that the id of a paid track is not lost. A second
    signal, after the notice that explains this wait, ends the process at once.

    Raises:
        Interrupted: A signal arrived.
    """
    return anyio.run(_run_until_signal, main, **BACKEND)


async def _run_until_signal(main: Callable[[], Awaitable[T]]) -> T:
    signals: list[int] = []
    results: list[T] = []
    scope = anyio.CancelScope()

    async def watch() -> None:
        # For `pause` seconds a second signal counts as the same wish. After that it
        # goes to the handler that was installed before: the one that exits.
        with stop_signals(pause=NOTICE_AFTER) as next_signal:
            signals.append(await next_signal())
            scope.cancel()
            # Most commands end before this, so that the notice is not printed.
            await anyio.sleep(NOTICE_AFTER)
        say(
            "Waiting a few seconds for the response to the request in flight;"
            " press Ctrl-C again to quit now."
        )

    async with background_task(watch):
        with scope:
            results.append(await main())
    # A command that ended although it was cancelled has a result: it counts.
    if not results:
        raise Interrupted(signals[0])
    return results[0]


@contextmanager
def stop_signals(
    times: int = 1, *, pause: float = 0.0
) -> Generator[Callable[[], Awaitable[int]]]:
    """A function that waits for the next stop signal, while the block runs.

    The arguments are those of `call_on_signal`.
    """
    loop = asyncio.get_running_loop()
    received: asyncio.Queue[int] = asyncio.Queue()

    def put(number: int) -> None:
        # Thread-safe, because only that wakes a loop which sleeps in its selector.
        loop.call_soon_threadsafe(received.put_nowait, number)

    with call_on_signal(put, times=times, pause=pause):
        yield received.get


@asynccontextmanager
async def background_task(
    task: Callable[[], Coroutine[Any, Any, object]],
) -> AsyncGenerator[None]:
    """Run a task while the block runs, then cancel it.

    An error of the block is raised as it is, not in an exception group.
    """
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(task)
            yield
            tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise unwrap_group(group) from None


def unwrap_group(error: BaseException) -> BaseException:
    """The only error in a group, or in nested groups; several stay a group."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
