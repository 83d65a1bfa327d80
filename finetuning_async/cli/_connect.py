"""A client of the service, or of an emulator in this process.

Settings and key are read before the event loop starts: reading them may prompt a
person, and Ctrl-C must end a prompt at once.
"""

from __future__ import annotations

import secrets
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from finetuning_async._secrets import ApiKey
from finetuning_async.cli._config import base_url
from finetuning_async.cli._error_exit import InvalidInputError
from finetuning_async.cli._keys import find_key

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

    from finetuning_async import AsyncClient
    from finetuning_async.cli._options import CommonOptions
    from finetuning_async.emulator import Emulator

T = TypeVar("T")

FEW_RETRIES: Final = 2
"""For a single read, which a person waits for."""

MANY_RETRIES: Final = 5
"""For creates, waits and downloads, where a failure costs more than a delay."""

PLACEHOLDER_KEY: Final = ApiKey("ft_live_" + 32 * "0")
"""For a client that needs a key but never sends it."""


def call_service(
    common: CommonOptions,
    operation: Callable[[AsyncClient], Awaitable[T]],
    *,
    key: ApiKey | None = None,
    retries: int = FEW_RETRIES,
    shared: bool = False,
    budget: int | None = None,
    journal: str | None = None,
) -> T:
    """Run an operation with a client of the service.

    Args:
        common: The options that say where the service is, and how to find the key.
        operation: What to do with the client.
        key: Use this key instead of the one that would be found.
        retries: How often to repeat a failed attempt.
        shared: Whether to share the rate limits with other programs of this user.
        budget: The most credits that it may spend.
        journal: The file in which its creates are recorded.

    Raises:
        click.ClickException: The extra for that is not installed.
        InvalidInputError: There is no usable key.
        InvalidRequestError: The base URL is not valid.
        FinetuningError: What the operation raises.
    """
    from finetuning_async.cli._event_loop import run  # slow to import

    url = base_url(common).url
    used = find_key(common, url).key if key is None else key

    options = limiter_options(shared=shared) | budget_of(budget, journal)

    async def main() -> T:
        async with service_client(common, url, used, retries, **options) as client:
            return await operation(client)

    return run(main)


def limiter_options(*, shared: bool) -> dict[str, Any]:
    """The options of a client that may share its rate limits with other programs.

    Raises:
        click.ClickException: The extra for that is not installed.
    """
    if shared and find_spec("filelock") is None:
        raise click.ClickException(
            "--shared needs filelock: pip install 'finetuning-async[shared]'"
        )
    return {"rate_limiter": "shared"} if shared else {}


def budget_of(credits: int | None, journal: str | None) -> dict[str, Any]:
    """The options of a client for ``--budget`` and ``--journal``."""
    from finetuning_async import Budget  # slow to import

    budget = None if credits is None else Budget(credits)
    options = {"budget": budget, "journal": journal}
    return {name: value for name, value in options.items() if value is not None}


@asynccontextmanager
async def service_client(
    common: CommonOptions, url: str, key: ApiKey, retries: int, **options: Any
) -> AsyncGenerator[AsyncClient]:
    """A client of the service."""
    from finetuning_async import AsyncClient  # slow to import
    from finetuning_async.cli._log_output import log_to_stderr

    with log_to_stderr(common):
        async with AsyncClient(
            key.reveal(), base_url=url, max_retries=retries, **options
        ) as client:
            yield client


def call_emulator(
    common: CommonOptions,
    speed: float,
    operation: Callable[[AsyncClient], Awaitable[T]],
) -> T:
    """Run an operation with a client of an emulator in this process.

    It reads neither the environment nor the settings.
    """
    from finetuning_async.cli._event_loop import run  # slow to import

    emulator = new_emulator(speed=speed, seed=secrets.randbits(31))

    async def main() -> T:
        async with emulator_client(common, emulator) as client:
            return await operation(client)

    return run(main)


@asynccontextmanager
async def emulator_client(
    common: CommonOptions, emulator: Emulator
) -> AsyncGenerator[AsyncClient]:
    """A client of an emulator, which runs while the block runs."""
    import httpx  # slow to import

    from finetuning_async import AsyncClient  # slow to import
    from finetuning_async.cli._log_output import log_to_stderr

    with log_to_stderr(common):
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


def new_emulator(seed: Mapping[str, Any] | None = None, /, **settings: Any) -> Emulator:
    """Make an emulator.

    Args:
        seed: What a seed file holds.
        settings: Its settings; they come before those of the seed.

    Raises:
        click.ClickException: Its extra is not installed.
        InvalidInputError: A setting is out of range.
    """
    try:
        from finetuning_async.emulator import Emulator  # needs an extra
    except ImportError as missing:
        raise click.ClickException(str(missing)) from None
    try:
        return Emulator.from_seed(seed or {}, **settings)
    except ValueError as wrong:
        raise InvalidInputError(str(wrong)) from None
