"""What SIGINT and SIGTERM do to the program, at every moment of its life.

    loading, reading, printing   end the process at once (`exit_on_signal`)
    a file half written          raise an exception, once (`raise_on_signal`)
    in the event loop            call back (`call_on_signal`), then as before the block
    the interpreter shuts down   SIGINT is ignored (`ignore_interrupts`)

Python's own handler raises `KeyboardInterrupt` wherever the program happens to be: in
an import, a destructor or a callback of the event loop, where nothing catches it and
the user sees a traceback. Ending the process inside the handler has no such places. It
loses nothing: a paid track is at the service, and files are written under a temporary
name first.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager, suppress

TYPE_CHECKING = False  # `typing` takes longer to import than this whole module
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Final

    Handler = Callable[[int, object], object]

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
"""The signals that ask a program to stop."""

SIGNAL_EXIT_BASE: Final = 128
"""Plus the number of the signal, this is the exit code, as in shells."""

_SHOW_CURSOR: Final = "\x1b[?25h"
"""A progress bar hides the cursor, and cannot restore it after `os._exit`."""


class Interrupted(Exception):  # noqa: N818 - the user's wish, not an error
    """A signal asked the program to stop.

    Attributes:
        number: The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def signal_message(number: int, hint: str = "") -> str:
    """The last line of an interrupted program: which signal it was, and what to do."""
    word = "Interrupted" if number == signal.SIGINT else "Terminated"
    return f"{newline_after_ctrl_c(number)}{word}. {hint}".rstrip()


def newline_after_ctrl_c(number: int) -> str:
    """A line break if a terminal has just printed ^C at the cursor, else nothing."""
    is_typed = number == signal.SIGINT and sys.stderr is not None
    return "\n" if is_typed and sys.stderr.isatty() else ""


@contextmanager
def exit_on_signal(hint: Callable[[], str]) -> Generator[None]:
    """Let a stop signal end the process at once while the block runs.

    Args:
        hint: Returns what to add to the last line.
    """
    received: list[int] = []

    def leave(number: int, frame: object) -> None:
        del frame
        # Python may run a handler while this one still runs. A second message would
        # interleave with the first.
        if received:
            return
        received.append(number)
        try:
            _write_message(number, hint())
        finally:
            # `sys.exit` would raise in whatever code the signal interrupted.
            os._exit(SIGNAL_EXIT_BASE + number)

    with _handlers_installed(leave):
        yield


def ignore_interrupts() -> None:
    """Ignore SIGINT from now on: all work is done, and the exit code is known.

    Call it as the interpreter shuts down. At that point Python resets its own handlers
    to the default, so that SIGINT would kill the process; an ignored signal stays
    ignored.
    """
    with suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _write_message(number: int, hint: str) -> None:
    """Write the last line.

    It goes to the file descriptor: the signal may have interrupted a write to
    `sys.stderr`, which then refuses another one.
    """
    # stderr may be closed, or have no descriptor.
    with suppress(OSError, ValueError, AttributeError):
        may_be_hidden = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        cursor = _SHOW_CURSOR if may_be_hidden else ""
        text = f"{cursor}{signal_message(number, hint)}\n"
        encoding = sys.stderr.encoding or "utf-8"
        os.write(sys.stderr.fileno(), text.encode(encoding, "backslashreplace"))


@contextmanager
def _handlers_installed(
    handler: Handler, before: dict[int, object] | None = None
) -> Generator[None]:
    """Handle the stop signals while the block runs.

    Args:
        handler: The handler.
        before: Is filled with the handlers that it replaces, so that the handler itself
            can restore one.
    """
    before = {} if before is None else before
    before |= {number: signal.getsignal(number) for number in STOP_SIGNALS}
    with suppress(ValueError):  # only the main thread may set handlers
        for number in STOP_SIGNALS:
            signal.signal(number, handler)
    try:
        yield
    finally:
        with suppress(ValueError):
            for number in STOP_SIGNALS:
                _restore_handler(before, number)


def _restore_handler(before: dict[int, object], number: int) -> None:
    handler = before[number]
    # `None` means that the handler was not set from Python; it cannot be set again.
    signal.signal(number, signal.SIG_DFL if handler is None else handler)  # type: ignore[arg-type]  # as `signal.getsignal` returned it


@contextmanager
def raise_on_signal() -> Generator[None]:
    """Let a stop signal raise in the block, once, so that its `finally` clauses run.

    Raises:
        Interrupted: A signal arrived.
    """
    received: list[int] = []

    def stop(number: int, frame: object) -> None:
        del frame
        # A second signal must not interrupt the clean-up that the first one started.
        if received:
            return
        received.append(number)
        raise Interrupted(number)

    with _handlers_installed(stop):
        yield


@contextmanager
def call_on_signal(
    callback: Callable[[int], object], *, times: int = 1, pause: float = 0.0
) -> Generator[None]:
    """Call back for each stop signal that arrives while the block runs.

    Args:
        callback: Is called with the number of the signal, in the middle of any code.
        times: How many signals it handles. Later ones are handled as before the block.
        pause: Seconds after a signal in which another one counts as the same: a key
            pressed twice, or a signal that the terminal sent to the whole process group
            and that a parent process passed on as well.
    """
    from time import monotonic

    received_at: list[float] = []
    before: dict[int, object] = {}

    def handle(number: int, frame: object) -> None:
        del frame
        if received_at and monotonic() < received_at[-1] + pause:
            return
        received_at.append(monotonic())
        if len(received_at) <= times:
            callback(number)
        else:
            # Send it again to the handler before this block, which ends the process.
            _restore_handler(before, number)
            signal.raise_signal(number)

    with _handlers_installed(handle, before):
        yield
