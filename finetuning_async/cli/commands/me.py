"""``finetuning me``: show the account and its credits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from finetuning_async.cli._connect import call_service
from finetuning_async.cli._options import (
    CommonOptions,
    common_options,
    json_option,
    pass_common,
)
from finetuning_async.cli._output import print_json
from finetuning_async.cli._tables import print_fields

if TYPE_CHECKING:
    from finetuning_async import Account


@click.command()
@json_option
@common_options
@pass_common
def command(common: CommonOptions, as_json: bool) -> None:
    """Show the account and its credits. Costs nothing."""
    show(common, as_json=as_json)


def show(common: CommonOptions, *, as_json: bool) -> None:
    """Print the account.

    Raises:
        FinetuningError: It could not be read.
    """
    account = call_service(common, lambda client: client.me())
    if as_json:
        print_json(account.raw)
    else:
        print_fields(fields(account))


def fields(account: Account) -> dict[str, object]:
    """The rows to print for an account."""
    return {
        "name": account.name or None,
        "email": account.email,
        "plan": account.tier,
        "credits": account.total_remaining,
        "monthly": _monthly(account),
        "bought": account.pack_credits,
        "in queue": account.queue_depth,
    }


def _monthly(account: Account) -> str | None:
    if account.monthly_remaining is None or account.monthly_generations is None:
        return None
    return f"{account.monthly_remaining} of {account.monthly_generations} left"
