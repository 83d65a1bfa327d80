"""A client: for the service, or for an emulator inside this process."""

from __future__ import annotations

import os
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import click

from finetuning_async._secrets import (
    KEY_LENGTH,
    KEY_PREFIX,
    key_problem,
    looks_documented,
)
from finetuning_async.cli._guard import Refused
from finetuning_async.cli._notes import library_notes

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from finetuning_async import AsyncClient
    from finetuning_async.cli._options import Common
    from finetuning_async.emulator import Emulator

KEY_VARIABLE: Final = "FINETUNING_API_KEY"
URL_VARIABLE: Final = "FINETUNING_BASE_URL"
SERVICE: Final = "https://pub.finetuning.ai"
QUICK: Final = 2
"""Retries where a person waits for nothing but the answer to one read."""

NO_KEY: Final = "ft_live_" + 32 * "0"
"""Stands in where a client must be given a key that it does not send."""

_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


def base_url(common: Common) -> str:
    """The service to ask: the option, else the environment, else the real one."""
    return common.base_url or os.environ.get(URL_VARIABLE) or SERVICE


def on_loopback(url: str) -> bool:
    """Whether a service is on this machine."""
    return urlsplit(url).hostname in _LOOPBACK


def api_key(url: str) -> str:
    """The key, from the environment.

    Raises:
        Refused: There is none, or not one that the service can have made.
    """
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not key:
        raise Refused(
            f"no API key: set {KEY_VARIABLE}. Keys are made under Profile > API on"
            " finetuning.ai.\nWithout a key, `finetuning generate --emulator TAGS`"
            " works on this machine alone."
        )
    problem = key_problem(key)
    if problem is None and not looks_documented(key) and not on_loopback(url):
        problem = _misshapen(key)
    if problem is not None:
        raise Refused(
            f"{KEY_VARIABLE} is not usable: {problem}. Nothing was sent.\n"
            "Keys are made under Profile > API on finetuning.ai."
        )
    return key


def _misshapen(key: str) -> str:
    if not key.startswith(KEY_PREFIX):
        return f"a key begins with {KEY_PREFIX}, this one does not"
    return f"a key has {KEY_LENGTH} characters, this one has {len(key)}"


def redacted(key: str) -> str:
    """The start of a key, as the vendor's program shows it."""
    return f"{key[:12]}****"


@asynccontextmanager
async def service(
    common: Common, *, needs_key: bool = True, retries: int = 5
) -> AsyncGenerator[AsyncClient]:
    """A client of the service.

    Args:
        common: Where it is.
        needs_key: Whether the key is sent at all.
        retries: How often a failed attempt is repeated.

    Raises:
        Refused: There is no usable key.
        InvalidRequestError: The base URL is not one.
    """
    from finetuning_async import AsyncClient  # slow to import

    url = base_url(common)
    key = api_key(url) if needs_key else NO_KEY
    with library_notes(common):
        async with AsyncClient(key, base_url=url, max_retries=retries) as client:
            yield client


@asynccontextmanager
async def emulated(common: Common, speed: float) -> AsyncGenerator[AsyncClient]:
    """A client of an emulator inside this process; the environment is not looked at."""
    import httpx  # slow to import

    from finetuning_async import AsyncClient  # slow to import

    emulator = new_emulator(speed=speed, seed=secrets.randbits(31))
    with library_notes(common):
        async with (
            emulator,
            httpx.AsyncClient(transport=emulator.transport()) as http,
            AsyncClient(
                emulator.api_key,
                base_url=emulator.base_url,
                http_client=http,
                rate_limits=emulator.rate_limits,
            ) as client,
        ):
            yield client


def new_emulator(**settings: Any) -> Emulator:
    """Make an emulator.

    Raises:
        click.ClickException: Its extra is not installed.
        Refused: A setting is out of its range.
    """
    try:
        from finetuning_async.emulator import Emulator  # it is an extra
    except ImportError as missing:
        raise click.ClickException(str(missing)) from None
    try:
        return Emulator(**settings)
    except ValueError as wrong:
        raise Refused(str(wrong)) from None
