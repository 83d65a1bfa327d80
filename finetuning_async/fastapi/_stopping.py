"""Hears that the process shall end, before the server says so.

A server sends the lifespan's shutdown only when all requests are answered, and one that
waits for a track may take minutes. The signal comes first: uvicorn, hypercorn, gunicorn
and granian all have a Python handler for it, their own or the event loop's, so one that
calls theirs after us works with each, and with the next one.
"""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from anyio.lowlevel import current_token

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

SIGNALS: Final = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGBREAK")
    if hasattr(signal, name)
)
"""What asks a server to end in order; the last is Windows's."""


@contextmanager
def at_stop(end: Callable[[], Coroutine[Any, Any, None]]) -> Generator[None]:
    """Call something in the running event loop as soon as a signal asks us to stop.

    Outside the main thread no signal comes, and this does nothing.

    Args:
        end: Called once per signal.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    start = _starter(end)
    chained = {number: _Chained(signal.getsignal(number), start) for number in SIGNALS}
    used = {number: one for number, one in chained.items() if one.is_of_use}
    for number, one in used.items():
        signal.signal(number, one)
    try:
        yield
    finally:
        for number, one in used.items():
            one.leave(number)


class _Chained:
    """A signal's handler that tells us, and then does what the one before it does.

    It has the ``__self__`` of that one, by which sse-starlette finds uvicorn's server.
    """

    def __init__(self, before: Any, start: Callable[[], None]) -> None:
        self._before = before
        self._start: Callable[[], None] | None = start
        if hasattr(before, "__self__"):
            self.__self__ = before.__self__

    @property
    def is_of_use(self) -> bool:
        """Whether a handler is there that lets the process end in order."""
        return callable(self._before) and self._before is not signal.default_int_handler

    def __call__(self, number: int, frame: object) -> None:
        if self._start is not None:
            self._start()
        self._before(number, frame)

    def leave(self, number: int) -> None:
        """Put back what was there before; below somebody else's, do nothing more."""
        self._start = None
        there: object = signal.getsignal(number)
        if there is self:
            signal.signal(number, self._before)


def _starter(end: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """What starts a task in the running loop, and may be called in a signal handler."""
    native: Any = current_token().native_token
    tasks = set()  # asyncio itself does not keep a task alive

    def start() -> None:
        task = native.create_task(end())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def tell() -> None:
        with suppress(RuntimeError):  # the loop has ended
            if hasattr(native, "call_soon_threadsafe"):
                native.call_soon_threadsafe(start)
            else:
                from trio.lowlevel import spawn_system_task

                native.run_sync_soon(spawn_system_task, end)

    return tell
