"""The key to use: from stdin, the environment, or where ``auth login`` stored it."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

from finetuning_async._secrets import (
    KEY_LENGTH,
    KEY_PREFIX,
    ApiKey,
    key_problem,
    looks_documented,
)
from finetuning_async.cli import _key_store
from finetuning_async.cli._config import on_loopback
from finetuning_async.cli._error_exit import Refused
from finetuning_async.cli._interruption import clearing
from finetuning_async.cli._output import is_terminal

if TYPE_CHECKING:
    from finetuning_async.cli._options import Common

KEY_VARIABLE: Final = "FINETUNING_API_KEY"
WHERE_KEYS_ARE_MADE: Final = "Keys are made under Profile > API on finetuning.ai."


@dataclass(frozen=True, slots=True)
class Found:
    """A key, and where it comes from."""

    key: ApiKey
    origin: str

    @property
    def redacted(self) -> str:
        """Its start, as the vendor's program shows it."""
        return f"{self.key.reveal()[:12]}****"


def find_key(common: Common, url: str) -> Found:
    """The key for a service: of several, the one nearest to the command.

    Raises:
        Refused: There is none, or not one that the service can have made.
    """
    found = _find(common)
    if found is None:
        raise Refused(
            f"no API key: run `finetuning auth login`, or set {KEY_VARIABLE}."
            f" {WHERE_KEYS_ARE_MADE}\nWithout a key, `finetuning generate --emulator"
            " TAGS` works on this machine alone."
        )
    check_key(found, url)
    return found


def _find(common: Common) -> Found | None:
    if common.api_key_stdin:
        if common.key_read is None:  # stdin can be read but once
            common.key_read = read_key()
        return Found(common.key_read, "--api-key-stdin")
    text = os.environ.get(KEY_VARIABLE, "").strip()
    if text:
        return Found(ApiKey(text), KEY_VARIABLE)
    stored = _key_store.load(common)
    return None if stored is None else Found(*stored)


def check_key(found: Found, url: str) -> None:
    """Check the form of a key; an emulator on this machine may take any.

    Raises:
        Refused: It has another. The message does not repeat it.
    """
    text = found.key.reveal()
    problem = key_problem(text)
    if problem is None and not looks_documented(text) and not on_loopback(url):
        problem = _misshapen(text)
    if problem is not None:
        raise Refused(
            f"the key ({found.origin}) must be {problem}. Nothing was sent.\n"
            f"{WHERE_KEYS_ARE_MADE}"
        )


def _misshapen(text: str) -> str:
    if not text.startswith(KEY_PREFIX):
        return f"a string that begins with {KEY_PREFIX}"
    return f"{KEY_LENGTH} characters long, but it has {len(text)}"


def read_key() -> ApiKey:
    """Read a key from stdin: its first line, or what is typed unseen at a terminal.

    Raises:
        Refused: There is none.
    """
    text = _typed() if is_terminal(sys.stdin) else _first_line()
    text = text.lstrip("\ufeff").strip()
    if not text:
        raise Refused("there is no key on stdin")
    return ApiKey(text)


def _typed() -> str:
    with clearing():  # the terminal is to echo again
        text: str = click.prompt("API key", hide_input=True, err=True, type=str)
    return text


def _first_line() -> str:
    if sys.stdin is None:  # it was closed when the program began
        return ""
    line = sys.stdin.buffer.readline(_key_store.LONGEST)
    return line.decode("utf-8", "replace")
