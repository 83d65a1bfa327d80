"""``finetuning doctor``: check settings, key, service and account."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from finetuning_async._errors import FinetuningError
from finetuning_async._version import __version__
from finetuning_async.cli._connect import (
    KEY_VARIABLE,
    QUICK,
    URL_VARIABLE,
    api_key,
    base_url,
    redacted,
    service,
)
from finetuning_async.cli._guard import FAILED
from finetuning_async.cli._messages import explain
from finetuning_async.cli._options import Common, common_options, pass_common
from finetuning_async.cli._output import print_fields
from finetuning_async.cli._run import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from finetuning_async import AsyncClient


@click.command()
@common_options
@pass_common
def command(common: Common) -> int:
    """Check settings, key, service and account. Costs nothing."""
    url = base_url(common)
    key_text, has_key = _key(url)
    health, is_up = _check(common, _health, needs_key=False)
    account, is_known = ("not asked: no key", False)
    if has_key:
        account, is_known = _check(common, _account, needs_key=True)
    print_fields(
        {
            "version": __version__,
            "service": f"{url} ({_origin(common)})",
            "key": key_text,
            "health": health,
            "account": account,
        }
    )
    return 0 if has_key and is_up and is_known else FAILED


def _origin(common: Common) -> str:
    if common.base_url:
        return "--base-url"
    return URL_VARIABLE if os.environ.get(URL_VARIABLE) else "default"


def _key(url: str) -> tuple[str, bool]:
    try:
        return f"{redacted(api_key(url))} ({KEY_VARIABLE})", True
    except click.ClickException as problem:
        return problem.message, False


def _check(
    common: Common, ask: Callable[[AsyncClient], Any], *, needs_key: bool
) -> tuple[str, bool]:
    """What one question brings: its answer, or what is wrong."""

    async def main() -> str:
        async with service(common, needs_key=needs_key, retries=QUICK) as client:
            answer: str = await ask(client)
            return answer

    try:
        return run(main), True
    except (FinetuningError, OSError) as error:
        return explain(error)[1], False


async def _health(client: AsyncClient) -> str:
    return (await client.health()).status or "ok"


async def _account(client: AsyncClient) -> str:
    account = await client.me()
    return f"{account.email}, plan {account.tier}, {account.total_remaining} credits"
