"""What one command did to many ids: a warning for each failure, and a sum."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finetuning_async.cli._exit_codes import DONE, FAILED, PARTLY
from finetuning_async.cli._output import print_json, say, shown

if TYPE_CHECKING:
    from finetuning_async import BulkResult
    from finetuning_async.cli._options import Common


def report(
    common: Common, result: BulkResult, done: str, *, as_json: bool, key: str = "id"
) -> int:
    """Tell what became of the ids.

    Args:
        common: Options that hold for all commands.
        result: What became of them.
        done: What was done with them, as the service says it: ``deleted``.
        as_json: Whether to print the result, merged and in the service's shape, and
            to say nothing else.
        key: How that shape calls the id of a failure.

    Returns:
        The exit code.
    """
    if as_json:
        print_json(_data(result, done, key))
    else:
        _say(common, result, done)
    if not result.succeeded:
        return FAILED
    return PARTLY if result.failed else DONE


def _say(common: Common, result: BulkResult, done: str) -> None:
    for failure in result.failed:
        say(f"warning: {shown(failure.id or 'an id')}: {shown(failure.error)}")
    count = len(result.succeeded)
    if not count:
        say(f"Error: nothing was {done}.")
    elif not common.quiet:
        total = count + len(result.failed)
        say(f"{count} of {total} {done}")


def _data(result: BulkResult, done: str, key: str) -> dict[str, Any]:
    data: dict[str, Any] = {done: list(result.succeeded)}
    if result.failed:
        data["errors"] = [{key: one.id, "error": one.error} for one in result.failed]
    return data
