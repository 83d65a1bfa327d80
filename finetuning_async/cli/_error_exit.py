"""Every way a command can end, as a line or two on stderr and an exit code."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

import click

from finetuning_async._secrets import scrub
from finetuning_async.cli._exit_codes import DONE, WRONG
from finetuning_async.cli._interruption import SIGNALLED, Interrupted, last_words
from finetuning_async.cli._output import say

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from finetuning_async.cli._options import Common

STDOUT: Final = 1
STDERR: Final = 2
"""The numbers of the files."""


class ReaderGone(Exception):  # noqa: N818 - it has seen enough, which is no error
    """Who read stdout has closed it."""


class Refused(click.ClickException):
    """Something told is not usable; found here, before anything was sent."""

    exit_code = WRONG


class Told(click.ClickException):
    """An end that is known already: what to say, and the exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click reads it so


def guarded(common: Common, work: Callable[[], object]) -> int:
    """Do some work.

    Returns:
        The exit code; what went wrong has been told, if anybody could be told.
    """
    try:
        return _ended(common, work)
    finally:
        _leave_lost_stderr()


def _ended(common: Common, work: Callable[[], object]) -> int:
    try:
        try:
            result = work()
        finally:
            _flush()
    except (BrokenPipeError, ReaderGone):
        _leave(STDOUT)
        return DONE
    except (KeyboardInterrupt, click.Abort):
        return _interrupted(common, signal.SIGINT)
    except Exception as error:  # nobody shall see a bare traceback
        return _told(common, error)
    return result if isinstance(result, int) else DONE


@contextmanager
def leaving_reader() -> Generator[None]:
    """Keep a broken pipe from click, which would end the program with code 1.

    Raises:
        ReaderGone: Instead of `BrokenPipeError`.
    """
    try:
        yield
    except BrokenPipeError:
        raise ReaderGone from None


def _flush() -> None:
    """Write what is still to be written, while errors can be told.

    Raises:
        OSError: It cannot be written, and never will be.
    """
    if sys.stdout is None:  # it was closed when the program began
        return
    try:
        sys.stdout.flush()
    except OSError:
        _leave(STDOUT)
        raise


def _leave_lost_stderr() -> None:
    """If what was said cannot be written, that is not to change the exit code."""
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
    except OSError:
        _leave(STDERR)


def _leave(number: int) -> None:
    """Let Python's own flush of a file at the end go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)


def _interrupted(common: Common, number: int) -> int:
    say(last_words(number, common.if_interrupted))
    return SIGNALLED + number


def _told(common: Common, error: Exception) -> int:
    if isinstance(error, click.UsageError):
        with suppress(OSError):
            error.show()
        return error.exit_code
    if isinstance(error, click.ClickException):
        say(_scrubbed(f"Error: {error.message}"))
        return error.exit_code
    # Imported late: they are of no use to a run that goes well, and --help is quick.
    from finetuning_async.cli._event_loop import single
    from finetuning_async.cli._messages import explain

    cause = single(error)
    if isinstance(cause, Interrupted):
        return _interrupted(common, cause.number)
    if common.debug:
        say(_scrubbed("".join(traceback.format_exception(cause))))
    code, message = explain(cause, common.resume)
    say(_scrubbed(f"Error: {message}"))
    return code


def _scrubbed(text: str) -> str:
    """`scrub` for a whole text: a host and a port at its end are no login cut short."""
    return scrub(f"{text}\n")[:-1]
