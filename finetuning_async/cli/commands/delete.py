"""``finetuning delete``: delete tracks permanently."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from finetuning_async.cli._bulk_result import report_bulk
from finetuning_async.cli._connect import call_service
from finetuning_async.cli._exit_codes import SUCCESS
from finetuning_async.cli._find import full_ids
from finetuning_async.cli._options import (
    CommonOptions,
    common_options,
    json_option,
    pass_common,
)
from finetuning_async.cli._output import is_terminal, say

if TYPE_CHECKING:
    from finetuning_async import AsyncClient, BulkResult


@click.command()
@click.argument("ids", nargs=-1, required=True)
@click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")
@json_option
@common_options
@pass_common
def command(
    common: CommonOptions, ids: tuple[str, ...], yes: bool, as_json: bool
) -> int:
    """Delete tracks permanently. There is no undo.

    It asks for confirmation. Without a terminal it needs --yes.
    """
    given = list(dict.fromkeys(ids))
    if not yes and not _confirmed(len(given)):
        if not common.quiet:
            say("Nothing was deleted.")
        return SUCCESS
    common.interrupt_hint = "Some tracks may be deleted.\nTo check: finetuning list"

    async def main(client: AsyncClient) -> BulkResult:
        return await client.generations.delete(await full_ids(client, given))

    result = call_service(common, main)
    return report_bulk(common, result, "deleted", as_json=as_json)


def _confirmed(count: int) -> bool:
    if not is_terminal(sys.stdin):
        raise click.UsageError(
            "stdin is not a terminal, so no one can confirm: add --yes."
        )
    what = "this track" if count == 1 else f"these {count} tracks"
    return click.confirm(f"Permanently delete {what}?", err=True)
