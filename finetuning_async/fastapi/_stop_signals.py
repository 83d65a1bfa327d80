"""Calls back as soon as a signal asks the process to stop, before the server reacts.

A server sends the lifespan's shutdown event only once all requests have their
responses, and a request that waits for a track may take minutes: the client's waits
must end first. The signal comes before that. uvicorn, hypercorn, gunicorn and granian
all have a Python handler for it, their own or the event loop's. A handler that runs
ours and then calls theirs works with each of them, and with the next server.
"""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from anyio.lowlevel import current_token

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

STOP_SIGNALS: Final = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGBREAK")
    if hasattr(signal, name)
)
"""The signals that ask a server to stop in an orderly way; the last is Windows's."""


@contextmanager
def on_stop_signal(
    callback: Callable[[], Coroutine[Any, Any, None]],
) -> Generator[None]:
    """Call an async function in the running loop when a signal asks us to stop.

    Outside the main thread no signal arrives, and this does nothing.

    Args:
        callback: Called once per signal.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    schedule = _scheduler(callback)
    chained = {
        number: _ChainedHandler(signal.getsignal(number), schedule)
        for number in STOP_SIGNALS
    }
    installed = {
        number: handler for number, handler in chained.items() if handler.is_useful
    }
    for number, handler in installed.items():
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, handler in installed.items():
            handler.uninstall(number)


class _ChainedHandler:
    """A signal handler that schedules our callback and then calls the previous one.

    sse-starlette finds uvicorn's server by the ``__self__`` of the installed handler,
    to end its event streams when the server stops. So this has the ``__self__`` of the
    previous handler; without it, each open stream would hold the server up.
    """

    def __init__(self, previous: Any, schedule: Callable[[], None]) -> None:
        self._previous = previous
        self._schedule: Callable[[], None] | None = schedule
        if hasattr(previous, "__self__"):
            self.__self__ = previous.__self__

    @property
    def is_useful(self) -> bool:
        """Whether the previous handler lets the process stop in an orderly way.

        The system's default kills it at once, and Python's for SIGINT raises
        `KeyboardInterrupt`: then no callback would get to run.
        """
        previous = self._previous
        return callable(previous) and previous is not signal.default_int_handler

    def __call__(self, number: int, frame: object) -> None:
        if self._schedule is not None:
            self._schedule()
        self._previous(number, frame)

    def uninstall(self, number: int) -> None:
        """Restore the previous handler; if another one was put on top, only go quiet.

        Its owner restores this one later, and then it must do nothing but call
        the previous handler.
        """
        self._schedule = None
        current: object = signal.getsignal(number)
        if current is self:
            signal.signal(number, self._previous)


def _scheduler(
    callback: Callable[[], Coroutine[Any, Any, None]],
) -> Callable[[], None]:
    """A function that starts the callback in the running loop.

    It may be called in a signal handler, which interrupts the loop at any instruction:
    so it only uses what is thread-safe.
    """
    native: Any = current_token().native_token
    tasks = set()  # asyncio itself keeps only weak references to tasks

    def start_task() -> None:
        task = native.create_task(callback())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def schedule() -> None:
        with suppress(RuntimeError):  # the loop has ended
            if hasattr(native, "call_soon_threadsafe"):  # asyncio's
                native.call_soon_threadsafe(start_task)
            else:
                from trio.lowlevel import spawn_system_task

                native.run_sync_soon(spawn_system_task, callback)

    return schedule
