"""Which API key to use: from stdin, the environment, or the store of ``auth login``."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

from finetuning_async._credentials import key_places
from finetuning_async._secrets import (
    KEY_LENGTH,
    KEY_PREFIX,
    ApiKey,
    key_problem,
    looks_documented,
)
from finetuning_async.cli import _key_store
from finetuning_async.cli._config import on_loopback
from finetuning_async.cli._error_exit import InvalidInputError
from finetuning_async.cli._output import is_terminal
from finetuning_async.cli._signals import raise_on_signal

if TYPE_CHECKING:
    from finetuning_async.cli._options import CommonOptions

KEY_VARIABLE: Final = "FINETUNING_API_KEY"
LONGEST_LINE: Final = 4096
"""The most that is read of a key on stdin; a key has 40 bytes."""

CREATE_KEY_HINT: Final = "Create a key under Profile > API on finetuning.ai."


@dataclass(frozen=True, slots=True)
class ResolvedKey:
    """A key, and where it comes from."""

    key: ApiKey
    origin: str

    @property
    def redacted(self) -> str:
        """Its first 12 characters and asterisks, as the vendor's program shows it."""
        return f"{self.key.reveal()[:12]}****"


def find_key(common: CommonOptions, url: str) -> ResolvedKey:
    """The key for a service: --api-key-stdin, then the environment, then the store.

    Raises:
        InvalidInputError: There is none, or it does not have the form of a key.
    """
    found = find_key_if_any(common, url)
    if found is None:
        raise InvalidInputError(
            f"no API key found: {KEY_VARIABLE} is not set, and nothing is stored in"
            f" {key_places()}. Run `finetuning auth login`, or set {KEY_VARIABLE}."
            f" {CREATE_KEY_HINT}\nTo try it without a key, run"
            " `finetuning generate --emulator TAGS`."
        )
    return found


def find_key_if_any(common: CommonOptions, url: str) -> ResolvedKey | None:
    """The same; `None` if there is none.

    Raises:
        InvalidInputError: It does not have the form of a key.
    """
    found = _resolve(common)
    if found is not None:
        check_key(found, url)
    return found


def _resolve(common: CommonOptions) -> ResolvedKey | None:
    if common.api_key_stdin:
        if common.key_read is None:  # stdin can be read only once
            common.key_read = read_key()
        return ResolvedKey(common.key_read, "--api-key-stdin")
    text = os.environ.get(KEY_VARIABLE, "").strip()
    if text:
        return ResolvedKey(ApiKey(text), KEY_VARIABLE)
    stored = _key_store.load(common)
    return None if stored is None else ResolvedKey(*stored)


def check_key(found: ResolvedKey, url: str) -> None:
    """Check the form of a key. An emulator on this machine may accept any.

    Raises:
        InvalidInputError: It has another form. The message does not repeat the key.
    """
    text = found.key.reveal()
    problem = key_problem(text)
    if problem is None and not looks_documented(text) and not on_loopback(url):
        problem = _form_problem(text)
    if problem is not None:
        raise InvalidInputError(
            f"the API key from {found.origin} must be {problem}."
            f" Nothing was sent.\n{CREATE_KEY_HINT}"
        )


def _form_problem(text: str) -> str:
    if not text.startswith(KEY_PREFIX):
        return f"a string that begins with {KEY_PREFIX}"
    return f"{KEY_LENGTH} characters long, but it has {len(text)}"


def read_key() -> ApiKey:
    """Read a key: from a terminal with a prompt, without echo; else a line of stdin.

    Raises:
        InvalidInputError: There is none.
    """
    text = _prompt_for_key() if is_terminal(sys.stdin) else _read_first_line()
    text = text.lstrip("\ufeff").strip()  # editors on Windows write a BOM
    if not text:
        raise InvalidInputError("no API key on stdin")
    return ApiKey(text)


def _prompt_for_key() -> str:
    # A signal must raise here, so that the prompt switches the echo on again.
    with raise_on_signal():
        text: str = click.prompt("API key", hide_input=True, err=True, type=str)
    return text


def _read_first_line() -> str:
    if sys.stdin is None:  # it was closed when the program started
        return ""
    line = sys.stdin.buffer.readline(LONGEST_LINE)
    return line.decode("utf-8", "replace")
