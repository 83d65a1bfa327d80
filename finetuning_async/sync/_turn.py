"""A caller that is alone runs the event loop in its own thread.

Two threads that hand a call to and fro wake each other twice, which costs more than all
the rest of it: 0.2 ms where the processors sleep in between. A caller that is alone has
no need of another thread.

A signal handler may raise, as that of Ctrl-C does. It must not do so in the midst of
the loop, where the exception would end another task or lose a callback. So while the
loop runs in the main thread the handlers are put off: a signal ends the turn, the
loop's thread goes on with the call, and then the handler runs.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from importlib import import_module
from math import inf
from threading import get_ident, main_thread
from typing import TYPE_CHECKING, Any, Final, Protocol

from sniffio import thread_local

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from finetuning_async.sync._loop_thread import LoopThread

SIGNALS: Final = tuple(sorted(signal.valid_signals()))

STUCK_AFTER: Final = 0.5
"""Seconds that the loop has to end its step after a signal. Two often come at once: one
from the terminal, and one from a parent that passes on its own."""

# All signals are looked at for each call. `signal` itself makes enums of handlers,
# which takes ten times as long.
_signal: Final[Any] = import_module("_signal")


class Turn(Protocol):
    """The call of a caller that is alone."""

    has_ended: bool
    runs_loop: bool

    def begin(self) -> None:
        """Begin it; called in the loop."""


def may_take_turn(thread: LoopThread) -> bool:
    """Whether a caller that is about to begin a call is alone, and may run the loop."""
    return (
        not (thread.calls or thread.blocks or thread.has_tasks)
        # Elsewhere Ctrl-C does not end the wait for a loop; and other loops than
        # asyncio's own have signal handlers of their own.
        and sys.platform != "win32"
        and isinstance(thread.loop, asyncio.SelectorEventLoop)
        # A notebook's cell runs in a loop, and so does what trio calls.
        and asyncio._get_running_loop() is None  # noqa: SLF001 - documented
        and thread_local.name is None
    )


def take_turn(thread: LoopThread, call: Turn) -> bool:
    """Run the loop in this thread until a call has ended, or a signal has come.

    Returns:
        Whether it was begun. If not, another caller has come first, or the loop ends.

    Raises:
        BaseException: What a signal handler raised; the call goes on.
    """
    signals = _Signals(thread)
    try:
        signals.put_off()
        if not thread.claim.acquire(blocking=False):
            return False
        try:
            return _run(thread, call, signals)
        finally:
            thread.claim.release()
            thread.leave_turn()
    finally:
        signals.come_through()


def _run(thread: LoopThread, call: Turn, signals: _Signals) -> bool:
    if not thread.turn.acquire(blocking=False):
        thread.interrupt()
        thread.turn.acquire()  # its thread, or a caller that leaves, has it
    try:
        if thread.has_ended:
            return False
        call.runs_loop = True
        thread.loop.call_soon(call.begin)
        while not (call.has_ended or signals.pending or thread.has_ended):
            thread.run_once()
        thread.look_for_tasks()
        return True
    finally:
        call.runs_loop = False
        thread.turn.release()


class _Signals:
    """The handlers of signals, put off while the main thread runs a loop.

    Args:
        thread: That of the loop, which the first signal stops. One that comes long
            after that is not put off: the loop is stuck.

    Attributes:
        pending: The frames in which signals came, by number. As while the system blocks
            one, it is told once however often it comes.
    """

    def __init__(self, thread: LoopThread) -> None:
        self.pending: dict[int, FrameType | None] = {}
        self._thread = thread
        self._stuck_at = inf
        self._handlers: dict[int, Callable[..., Any]] = {}
        self._is_over = False

    def put_off(self) -> None:
        """Begin. Only the main thread has signal handlers."""
        if get_ident() != main_thread().ident:
            return
        for number in SIGNALS:
            handler = _signal.getsignal(number)
            if callable(handler):
                self._handlers[number] = handler
                _signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        now = self._thread.loop.time()
        if self._is_over or now > self._stuck_at:
            self._handlers[number](number, frame)
            return
        self._stuck_at = min(self._stuck_at, now + STUCK_AFTER)
        self.pending[number] = frame
        self._thread.interrupt()

    def come_through(self) -> None:
        """End, and call the handlers of what has come.

        Raises:
            BaseException: What they raised.
        """
        self._is_over = True
        try:
            self._restore()
        except BaseException:  # of a signal that came meanwhile
            self._restore()
            raise
        finally:
            self._call_handlers()

    def _call_handlers(self) -> None:
        """Call each, also if one of them raises."""
        if self.pending:
            number = next(iter(self.pending))
            frame = self.pending.pop(number)
            try:
                self._handlers[number](number, frame)
            finally:
                self._call_handlers()

    def _restore(self) -> None:
        for number in list(self._handlers):
            _signal.signal(number, self._handlers[number])
