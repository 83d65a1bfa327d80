"""What one command did to many ids: a warning for each failure, and a sum."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from finetuning_async.cli._output import print_json, say

if TYPE_CHECKING:
    from finetuning_async import BulkResult
    from finetuning_async.cli._options import Common


def report(
    common: Common, result: BulkResult, done: str, *, as_json: bool, key: str = "id"
) -> None:
    """Tell what became of the ids.

    Args:
        common: Options that hold for all commands.
        result: What became of them.
        done: What was done with them, as the service says it: ``deleted``.
        as_json: Whether to print the result, merged and in the service's shape; it is
            data then, not an error, whatever it says.
        key: How that shape calls the id of a failure.

    Raises:
        click.ClickException: Nothing was done, and it was not printed.
    """
    if as_json:
        print_json(_data(result, done, key))
        return
    for failure in result.failed:
        say(f"warning: {failure.id or 'an id'}: {failure.error}")
    count = len(result.succeeded)
    if not count:
        raise click.ClickException(f"nothing was {done}.")
    if not common.quiet:
        total = count + len(result.failed)
        say(f"{count} of {total} {done}")


def _data(result: BulkResult, done: str, key: str) -> dict[str, Any]:
    data: dict[str, Any] = {done: list(result.succeeded)}
    if result.failed:
        data["errors"] = [{key: one.id, "error": one.error} for one in result.failed]
    return data
