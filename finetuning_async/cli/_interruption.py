"""What SIGINT and SIGTERM do to the program, at every moment of its life.

    loading, reading, printing   the process ends where it stands (`leaving_at_once`)
    something half done          an exception, once, so that it is cleared (`clearing`)
    the event loop               told to who asks (`telling`), then as before
    the interpreter ends         it ends, unmoved

Python's own handler raises `KeyboardInterrupt` wherever the program happens to be: in
an import, a destructor, a callback of the event loop, where nobody catches it and a
traceback is all that comes of it. Ending the process in the handler has no such places.
Nothing is lost by it: what was paid is at the service, and files are written under
another name first.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager, suppress

TYPE_CHECKING = False  # `typing` takes longer to import than all of this
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Final

    Handler = Callable[[int, object], object]

STOPPING: Final = (signal.SIGINT, signal.SIGTERM)
"""The signals that ask a program to stop."""

SIGNALLED: Final = 128
"""Plus the number of the signal is the exit code, as shells have it."""

_SHOW_CURSOR: Final = "\x1b[?25h"
"""A bar may have hidden it, and is not to clear up any more."""


class Interrupted(Exception):  # noqa: N818 - a person's wish, not an error
    """A signal asked the program to stop, and it has.

    Attributes:
        number: The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def last_words(number: int, advice: str = "") -> str:
    """What a person is told at the end: which signal it was, and how to go on."""
    word = "Interrupted" if number == signal.SIGINT else "Terminated"
    return f"{below_key(number)}{word}. {advice}".rstrip()


def below_key(number: int) -> str:
    """A line break where a terminal shows ^C, which stands where its cursor stood."""
    is_typed = number == signal.SIGINT and sys.stderr is not None
    return "\n" if is_typed and sys.stderr.isatty() else ""


@contextmanager
def leaving_at_once(advice: Callable[[], str]) -> Generator[None]:
    """Let a stop signal end the process where it stands, while the block runs.

    Args:
        advice: What to tell then.
    """
    heard: list[int] = []

    def leave(number: int, frame: object) -> None:
        del frame
        if heard:
            return
        heard.append(number)
        try:
            _write(number, advice())
        finally:
            os._exit(SIGNALLED + number)

    with _handling(leave):
        yield


def let_it_end() -> None:
    """All is done, and the exit code is known: from now on SIGINT is too late.

    To be called as the interpreter ends. Of handlers Python lets go before the process
    ends, not of a signal ignored.
    """
    with suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _write(number: int, advice: str) -> None:
    """Write the last words, past a stream that may be in the middle of something."""
    with suppress(OSError, ValueError, AttributeError):  # closed, or none
        hidden = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        text = f"{_SHOW_CURSOR if hidden else ''}{last_words(number, advice)}\n"
        encoding = sys.stderr.encoding or "utf-8"
        os.write(sys.stderr.fileno(), text.encode(encoding, "backslashreplace"))


@contextmanager
def _handling(
    handler: Handler, before: dict[int, object] | None = None
) -> Generator[None]:
    """Handle the stop signals while the block runs; `before` gets what did."""
    before = {} if before is None else before
    before |= {number: signal.getsignal(number) for number in STOPPING}
    with suppress(ValueError):  # only the main thread hears signals
        for number in STOPPING:
            signal.signal(number, handler)
    try:
        yield
    finally:
        with suppress(ValueError):
            for number in STOPPING:
                _put_back(before, number)


def _put_back(before: dict[int, object], number: int) -> None:
    handler = before[number]
    signal.signal(number, signal.SIG_DFL if handler is None else handler)  # type: ignore[arg-type]  # as `signal.signal` gave it


@contextmanager
def clearing() -> Generator[None]:
    """Let a block clear up after itself: a stop signal raises in it, once.

    Raises:
        Interrupted: A signal came.
    """
    heard: list[int] = []

    def stop(number: int, frame: object) -> None:
        del frame
        if heard:
            return
        heard.append(number)
        raise Interrupted(number)

    with _handling(stop):
        yield


@contextmanager
def telling(
    tell: Callable[[int], object], *, times: int = 1, pause: float = 0.0
) -> Generator[None]:
    """Tell of the stop signals that come while the block runs.

    Args:
        tell: Given the number of the signal, wherever the program happens to be.
        times: How often; what comes after that is dealt with as before the block.
        pause: Seconds after one in which another is the same wish: a key pressed twice,
            or passed on by whoever started the program, who had it as well.
    """
    from time import monotonic

    told: list[float] = []
    before: dict[int, object] = {}

    def take(number: int, frame: object) -> None:
        del frame
        if told and monotonic() < told[-1] + pause:
            return
        told.append(monotonic())
        if len(told) <= times:
            tell(number)
        else:
            _put_back(before, number)
            signal.raise_signal(number)

    with _handling(take, before):
        yield
