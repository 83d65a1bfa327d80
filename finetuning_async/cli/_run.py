"""The event loop of one command, and what a signal does to it."""

from __future__ import annotations

import logging
import signal
import threading
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio

from finetuning_async.cli._output import say

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterator,
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

STOPPING: Final = (signal.SIGINT, signal.SIGTERM)


class Interrupted(Exception):  # noqa: N818 - a person's wish, not an error
    """A signal asked the program to stop, and it has.

    Attributes:
        number: The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def run(main: Callable[[], Awaitable[T]]) -> T:
    """Run a command in an event loop of its own.

    The first SIGINT or SIGTERM cancels it, and a create on the wire gets its few
    seconds; the second one ends it at once.

    Raises:
        Interrupted: A signal came.
        KeyboardInterrupt: A second SIGINT came.
    """
    return anyio.run(_until_signal, main, **BACKEND)


async def _until_signal(main: Callable[[], Awaitable[T]]) -> T:
    stopped_by: list[int] = []
    results: list[T] = []
    scope = anyio.CancelScope()

    async def watch() -> None:
        with stop_signals() as signals:
            async for number in signals:
                stopped_by.append(number)
                break
        scope.cancel()
        # A second Ctrl-C breaks the loop off; that its tasks break is no news then.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        await anyio.sleep(PATIENCE)
        say("A few seconds for the answer to what was sent; Ctrl-C leaves at once.")

    async with alongside(watch):
        with scope:
            results.append(await main())
    if not results:
        raise Interrupted(stopped_by[0])
    return results[0]


@contextmanager
def stop_signals() -> Generator[AsyncIterator[int]]:
    """The signals that ask the program to stop; none comes where none can.

    They arrive in the main thread only. On Windows asyncio takes no handlers; there
    Ctrl-C is a `KeyboardInterrupt`.
    """
    with ExitStack() as stack:
        signals: AsyncIterator[int] = _none()
        if threading.current_thread() is threading.main_thread():
            with suppress(NotImplementedError):
                signals = stack.enter_context(anyio.open_signal_receiver(*STOPPING))
        yield signals


async def _none() -> AsyncGenerator[int]:
    await anyio.sleep_forever()
    yield 0


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
