"""``finetuning doctor``: check settings, key, service and account."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import click

from finetuning_async._errors import FinetuningError
from finetuning_async._version import __version__
from finetuning_async.cli._config import ServiceAddress, base_url, config_file
from finetuning_async.cli._connect import PLACEHOLDER_KEY, call_service
from finetuning_async.cli._exit_codes import FAILURE
from finetuning_async.cli._keys import find_key
from finetuning_async.cli._messages import describe_error
from finetuning_async.cli._options import CommonOptions, common_options, pass_common
from finetuning_async.cli._output import duration_text
from finetuning_async.cli._tables import print_fields

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from finetuning_async import AsyncClient
    from finetuning_async._secrets import ApiKey


T = TypeVar("T")


@click.command()
@common_options
@pass_common
def command(common: CommonOptions) -> int:
    """Check settings, key, service and account. Costs nothing."""
    service = base_url(common)
    key_text, key = _key(common, service)
    health, up = _check(common, _health, PLACEHOLDER_KEY)
    account, creates = "not checked: no key", None
    if key is not None:
        account, known = _check(common, _account, key)
        if known is not None:
            account, creates = known
    print_fields(
        {
            "version": __version__,
            "service": f"{service.url} ({service.origin})",
            "config": _settings(common),
            "key": key_text,
            "health": up or health,
            "account": account,
            "creates": creates,
        }
    )
    return 0 if up is not None and creates is not None else FAILURE


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
    operation: Callable[[AsyncClient], Awaitable[T]],
    key: ApiKey,
) -> tuple[str, T | None]:
    """The error of a check, if it did not pass; and its result."""
    try:
        return "", call_service(common, operation, key=key)
    except (FinetuningError, OSError) as error:
        return _one_sentence_each(describe_error(error)[1]), None


def _one_sentence_each(lines: str) -> str:
    return ". ".join(line.rstrip(".") for line in lines.split("\n"))


async def _health(client: AsyncClient) -> str:
    return (await client.health()).status or "ok"


async def _account(client: AsyncClient) -> tuple[str, str]:
    """The account, and when a create could go out and be done."""
    account = await client.me()
    limit = client.rate_limit_status().creates
    estimate = client.estimate()
    when = f"in {duration_text(estimate.first_sent)}" if estimate.first_sent else "now"
    done = duration_text(estimate.last_completed)
    allowed = f"{limit.limit} in {limit.per:g} s are allowed"
    return (
        f"{account.email}, plan {account.tier}, {account.total_remaining} credits",
        f"the next can go out {when} ({allowed}), and is done in about {done}",
    )
