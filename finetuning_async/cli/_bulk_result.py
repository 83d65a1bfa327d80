"""The result of one command on many ids: a warning for each failure, and a total."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from finetuning_async.cli._exit_codes import FAILURE, PARTIAL, SUCCESS
from finetuning_async.cli._output import print_json, say, shown

if TYPE_CHECKING:
    from finetuning_async import BulkResult
    from finetuning_async.cli._options import CommonOptions


ADVICE: Final = {
    "Cannot add private track to public playlist": (
        "Make the track public on finetuning.ai, or choose a private playlist."
    ),
    "Playlist not found": "To list your playlists: finetuning playlists",
    "Not authorized to modify this playlist": (
        "It is another user's. To list yours: finetuning playlists"
    ),
}
"""What to do, by the service's reason."""


def report_bulk(
    common: CommonOptions,
    result: BulkResult,
    verb: str,
    *,
    as_json: bool,
    key: str = "id",
) -> int:
    """Report what happened to the ids.

    Args:
        common: Options that all commands share.
        result: What happened to them.
        verb: What was done, in the service's word: ``deleted``.
        as_json: Whether to print the merged result in the service's form, and no
            messages.
        key: What that form calls the id of a failure.

    Returns:
        The exit code.
    """
    if as_json:
        print_json(_data(result, verb, key))
    else:
        _say(common, result, verb)
    if not result.succeeded:
        return FAILURE
    return PARTIAL if result.failed else SUCCESS


def _say(common: CommonOptions, result: BulkResult, verb: str) -> None:
    for failure in result.failed:
        say(f"warning: {shown(failure.id or 'an id')}: {shown(failure.error)}")
    reasons = {failure.error: None for failure in result.failed}
    for advice in filter(None, map(ADVICE.get, reasons)):
        say(advice)
    count = len(result.succeeded)
    if not count:
        say(f"Error: nothing was {verb}.")
    elif not common.quiet:
        total = count + len(result.failed)
        say(f"{count} of {total} {verb}")


def _data(result: BulkResult, verb: str, key: str) -> dict[str, Any]:
    data: dict[str, Any] = {verb: list(result.succeeded)}
    if result.failed:
        data["errors"] = [{key: one.id, "error": one.error} for one in result.failed]
    return data
