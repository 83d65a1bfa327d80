"""``finetuning doctor``: check settings, key, service and account."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from finetuning_async._errors import FinetuningError
from finetuning_async._version import __version__
from finetuning_async.cli._config import ServiceAddress, base_url, config_file
from finetuning_async.cli._connect import PLACEHOLDER_KEY, call_service
from finetuning_async.cli._exit_codes import FAILURE
from finetuning_async.cli._keys import find_key
from finetuning_async.cli._messages import describe_error
from finetuning_async.cli._options import CommonOptions, common_options, pass_common
from finetuning_async.cli._output import print_fields

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from finetuning_async import AsyncClient
    from finetuning_async._secrets import ApiKey


@click.command()
@common_options
@pass_common
def command(common: CommonOptions) -> int:
    """Check settings, key, service and account. Costs nothing."""
    service = base_url(common)
    key_text, key = _key(common, service)
    health, is_up = _check(common, _health, PLACEHOLDER_KEY)
    account, is_known = ("not checked: no key", False)
    if key is not None:
        account, is_known = _check(common, _account, key)
    print_fields(
        {
            "version": __version__,
            "service": f"{service.url} ({service.origin})",
            "config": _settings(common),
            "key": key_text,
            "health": health,
            "account": account,
        }
    )
    return 0 if is_up and is_known else FAILURE


def _settings(common: CommonOptions) -> str:
    file = config_file(common)
    return str(file) if file.exists() else f"{file} (not found: using defaults)"


def _key(common: CommonOptions, service: ServiceAddress) -> tuple[str, ApiKey | None]:
    try:
        found = find_key(common, service.url)
    except click.ClickException as problem:
        return _one_sentence_each(problem.message), None
    return f"{found.redacted} ({found.origin})", found.key


def _check(
    common: CommonOptions,
    operation: Callable[[AsyncClient], Awaitable[str]],
    key: ApiKey,
) -> tuple[str, bool]:
    """The result of one check, or its error; and whether it passed."""
    try:
        return call_service(common, operation, key=key), True
    except (FinetuningError, OSError) as error:
        return _one_sentence_each(describe_error(error)[1]), False


def _one_sentence_each(lines: str) -> str:
    return ". ".join(line.rstrip(".") for line in lines.split("\n"))


async def _health(client: AsyncClient) -> str:
    return (await client.health()).status or "ok"


async def _account(client: AsyncClient) -> str:
    account = await client.me()
    return f"{account.email}, plan {account.tier}, {account.total_remaining} credits"
