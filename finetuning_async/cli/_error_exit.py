"""Turns every way in which a command ends into a message and an exit code.

stdout and stderr may be unusable when it ends. What counts then:

    stdout closed by its reader (``| head``)   not an error: code 0, no message
    stdout not writable (a full disk)          an error: code 1
    stderr not writable                        ignored: the exit code stays as it is
    either one closed before the start         ignored; Python sets it to `None`
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import click

from finetuning_async._secrets import scrub
from finetuning_async.cli._exit_codes import INVALID_INPUT, SUCCESS
from finetuning_async.cli._output import say
from finetuning_async.cli._signals import (
    SIGNAL_EXIT_BASE,
    Interrupted,
    signal_message,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from finetuning_async.cli._options import CommonOptions

STDOUT: Final = 1
STDERR: Final = 2
"""File descriptors."""


class StdoutClosed(Exception):  # noqa: N818 - the reader has seen enough: no error
    """The reader of stdout has closed it."""


class InvalidInputError(click.ClickException):
    """An option, a setting or a key is not usable; nothing was sent."""

    exit_code = INVALID_INPUT


class CommandError(click.ClickException):
    """A command fails with this message and this exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click reads it so


def run_to_exit_code(common: CommonOptions, work: Callable[[], object]) -> int:
    """Run a command, and report its error if it has one.

    Returns:
        The exit code: what `work` returned if that is an `int`, else 0 for success.
    """
    try:
        return _run(common, work)
    finally:
        _drop_unwritable_stderr()


def _run(common: CommonOptions, work: Callable[[], object]) -> int:
    try:
        try:
            result = work()
        finally:
            # Python would flush at exit, too late to report an error or to change the
            # exit code.
            _flush_stdout()
    except (BrokenPipeError, StdoutClosed):
        _redirect_to_devnull(STDOUT)
        return SUCCESS
    except (KeyboardInterrupt, click.Abort):  # click turns Ctrl-C at a prompt into it
        return _report_signal(common, signal.SIGINT)
    except Exception as error:  # a bug, too, is one line and not a bare traceback
        return _report_error(common, error)
    return result if isinstance(result, int) else SUCCESS


@contextmanager
def broken_pipe_as_stdout_closed() -> Generator[None]:
    """Hide a broken pipe from click, which would end the program with code 1.

    Raises:
        StdoutClosed: Instead of `BrokenPipeError`.
    """
    try:
        yield
    except BrokenPipeError:
        raise StdoutClosed from None


def _flush_stdout() -> None:
    """Write what stdout still buffers, while an error can be reported.

    Raises:
        OSError: It cannot be written.
    """
    if sys.stdout is None:  # it was closed when the program started
        return
    try:
        sys.stdout.flush()
    except OSError:
        # The buffer keeps its content: without this, Python's flush at exit would fail
        # again, print a message of its own and set the exit code to 120.
        _redirect_to_devnull(STDOUT)
        raise


def _drop_unwritable_stderr() -> None:
    """Flush stderr; a failure is not to change the exit code at shutdown."""
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
    except OSError:
        _redirect_to_devnull(STDERR)


def _redirect_to_devnull(descriptor: int) -> None:
    """Let Python's flush of a file at shutdown succeed, and write nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _report_signal(common: CommonOptions, number: int) -> int:
    say(signal_message(number, common.interrupt_hint))
    return SIGNAL_EXIT_BASE + number


def _report_error(common: CommonOptions, error: Exception) -> int:
    if isinstance(error, click.UsageError):
        from finetuning_async.cli._usage_errors import describe_usage

        say(_scrub_text(f"Error: {describe_usage(error)}"))
        return error.exit_code
    if isinstance(error, click.ClickException):
        say(_scrub_text(f"Error: {error.message}"))
        return error.exit_code
    # Imported late: --help and a run without errors need none of this.
    from finetuning_async.cli._event_loop import unwrap_group
    from finetuning_async.cli._messages import describe_error

    cause = unwrap_group(error)
    if isinstance(cause, Interrupted):
        return _report_signal(common, cause.number)
    if common.debug:
        say(_scrub_text("".join(traceback.format_exception(cause))))
    code, message = describe_error(cause, common.resume)
    say(_scrub_text(f"Error: {message}"))
    return code


def _scrub_text(text: str) -> str:
    """`scrub` for a complete text.

    `scrub` masks ``host:port`` at the very end, which may be the start of a login that
    was cut short. The line break added here shows that nothing was cut.
    """
    return scrub(f"{text}\n")[:-1]
