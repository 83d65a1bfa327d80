"""A client: for the service, or for an emulator inside this process.

Settings and key are found before the event loop begins: a person may be asked for them,
and Ctrl-C shall end that at once.
"""

from __future__ import annotations

import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from finetuning_async._secrets import ApiKey
from finetuning_async.cli._config import base_url
from finetuning_async.cli._error_exit import Refused
from finetuning_async.cli._keys import find_key

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from finetuning_async import AsyncClient
    from finetuning_async.cli._options import Common
    from finetuning_async.emulator import Emulator

T = TypeVar("T")

QUICK: Final = 2
"""Retries where a person waits for nothing but the answer to one read."""

PATIENT: Final = 5
"""Retries where more is at stake."""

NO_KEY: Final = ApiKey("ft_live_" + 32 * "0")
"""Stands in where a client must be given a key that it does not send."""


def ask(
    common: Common,
    question: Callable[[AsyncClient], Awaitable[T]],
    *,
    key: ApiKey | None = None,
    retries: int = QUICK,
) -> T:
    """Ask the service something.

    Args:
        common: Where it is, and how the key is found.
        question: What to do with a client.
        key: Another key than the one that would be found.
        retries: How often a failed attempt is repeated.

    Raises:
        Refused: There is no usable key.
        InvalidRequestError: The base URL is not one.
        FinetuningError: What the question raises.
    """
    from finetuning_async.cli._event_loop import run  # slow to import

    url = base_url(common).url
    used = find_key(common, url).key if key is None else key

    async def main() -> T:
        async with connected(common, url, used, retries) as client:
            return await question(client)

    return run(main)


@asynccontextmanager
async def connected(
    common: Common, url: str, key: ApiKey, retries: int
) -> AsyncGenerator[AsyncClient]:
    """A client of the service."""
    from finetuning_async import AsyncClient  # slow to import
    from finetuning_async.cli._log_output import library_notes

    with library_notes(common):
        async with AsyncClient(
            key.reveal(), base_url=url, max_retries=retries
        ) as client:
            yield client


def rehearse(
    common: Common, speed: float, question: Callable[[AsyncClient], Awaitable[T]]
) -> T:
    """Ask an emulator inside this process; neither environment nor files are read."""
    from finetuning_async.cli._event_loop import run  # slow to import

    emulator = new_emulator(speed=speed, seed=secrets.randbits(31))

    async def main() -> T:
        async with emulated(common, emulator) as client:
            return await question(client)

    return run(main)


@asynccontextmanager
async def emulated(common: Common, emulator: Emulator) -> AsyncGenerator[AsyncClient]:
    """A client of an emulator that lives as long as the block."""
    import httpx  # slow to import

    from finetuning_async import AsyncClient  # slow to import
    from finetuning_async.cli._log_output import library_notes

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
