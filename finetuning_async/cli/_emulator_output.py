"""What ``finetuning emulator`` prints: how to reach it, and what it was asked.

stdout holds the settings for a shell, then a line for each request; all else is on
stderr.
"""

from __future__ import annotations

import os
import shlex
import sys
import threading
import time
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final

import click

from finetuning_async.cli._config import URL_VARIABLE, config_file, on_loopback
from finetuning_async.cli._keys import KEY_VARIABLE
from finetuning_async.cli._output import say, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from finetuning_async.cli._options import CommonOptions
    from finetuning_async.emulator import Emulator, RateLimit, RequestRecord

MOST_WAITING: Final = 10_000
"""Lines that wait for a reader of stdout; those that come after them are counted."""

WRITE_EVERY: Final = 0.02
"""Seconds between two writes, so that a busy emulator writes many lines at once."""

LAST_WRITE: Final = 1.0
"""Seconds that a reader of stdout has for the last lines when the emulator stops."""


def print_start(common: CommonOptions, emulator: Emulator, url: str) -> None:
    """Print what it is and how each client reaches it."""
    here, key = url_from_here(url), shlex.quote(emulator.api_key)
    if not common.quiet:
        say(f"Emulator of finetuning.ai (not the service) at {url}")
        say(f"To look at it and control it: {here}/_emulator/")
        say("To use it from another terminal:\n")
    click.echo(f"export {URL_VARIABLE}={here} {KEY_VARIABLE}={key}")
    if common.quiet:
        return
    for line in (
        *_other_clients(common, here),
        *_speed_advice(emulator),
        *_host_advice(url),
        f"\nThe same requests get the same ids with --seed {emulator.seed}.",
    ):
        say(line)
    say("Press Ctrl-C to stop. Requests:")


def url_from_here(url: str) -> str:
    """The URL for clients on this machine: all addresses include loopback."""
    return url.replace("//0.0.0.0:", "//127.0.0.1:")


def _other_clients(common: CommonOptions, url: str) -> list[str]:
    """How clients reach it that do not read these variables, or not all of them."""
    return [
        "\nAnother client, in any language, sends the key in a header:",
        f'  curl -H "X-API-Key: ${KEY_VARIABLE}" ${URL_VARIABLE}/v1/me',
        "The vendor's program does not read the URL from the environment:",
        f"  ft --base-url ${URL_VARIABLE} me",
        f'Both programs read it, as {{"baseUrl": "{url}"}}, in',
        f"  {config_file(common)}",
    ]


def _speed_advice(emulator: Emulator) -> list[str]:
    """How to configure a client for the faster limits; nothing at speed 1."""
    if emulator.speed == 1:
        return []
    limits = emulator.rate_limits
    creates, reads = limits.creates, limits.reads
    return [
        f"\nIts rate limits are {_plain(emulator.speed)} times as fast. To use them:",
        f"rate_limits=RateLimits(creates={_limit(creates)}, reads={_limit(reads)})",
        "Without this an AsyncClient works as well, but more slowly.",
    ]


def _host_advice(url: str) -> list[str]:
    """Why clients of this package reject the URL if it is not on localhost."""
    if on_loopback(url):
        return []
    return [
        "\nClients of this package reject http:// for every host but localhost,",
        "because the API key would cross the network unencrypted.",
    ]


def _limit(budget: RateLimit) -> str:
    return f"RateLimit({budget.limit}, per={_plain(budget.per)})"


def _plain(number: float) -> str:
    """A number in full, without an exponent or a needless fraction."""
    return str(int(number) if number == int(number) else number)


def request_line(record: RequestRecord) -> str:
    """One request and what became of it."""
    parts = [record.method, shown(record.path)]
    if record.status:
        parts.append(str(record.status))
    if record.code:
        parts.append(record.code)
    if not record.delivered:
        why = f" ({record.fault.action})" if record.fault else ""
        parts.append(f"- connection broken{why}")
    return " ".join(parts)


@contextmanager
def request_log() -> Generator[Callable[[RequestRecord], None]]:
    """Print each request on stdout, in the order in which they end.

    A thread writes. So the emulator goes on when no one reads its stdout: a program
    that starts it may read the first line only, and a pipe holds about 1,500 lines.
    """
    lines: SimpleQueue[str | None] = SimpleQueue()
    left_out: list[str] = []

    def log(record: RequestRecord) -> None:
        if lines.qsize() < MOST_WAITING:
            lines.put(request_line(record))
        else:
            left_out.append(record.path)

    sys.stdout.flush()
    writer = threading.Thread(target=_write_all, args=(lines,), daemon=True)
    writer.start()
    try:
        yield log
    finally:
        lines.put(None)
        writer.join(LAST_WRITE)
        if left_out:
            say(f"{len(left_out)} requests are not in the log: no one read stdout.")


def _write_all(lines: SimpleQueue[str | None]) -> None:
    with suppress(OSError):  # the reader of stdout has left: the emulator goes on
        more = True
        while more:
            batch = [lines.get()]
            while not lines.empty():
                batch.append(lines.get())
            more = batch[-1] is not None
            _write("".join(f"{line}\n" for line in batch if line is not None))
            time.sleep(WRITE_EVERY)


def _write(text: str) -> None:
    """Write to the file itself: Python could not exit while a thread holds `stdout`."""
    try:
        file = sys.stdout.fileno()
    except (OSError, ValueError):  # a test captures stdout
        click.echo(text, nl=False)
        return
    rest = text.encode(sys.stdout.encoding or "utf-8", "backslashreplace")
    while rest:
        rest = rest[os.write(file, rest) :]
