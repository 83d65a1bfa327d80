"""``finetuning delete``: delete tracks for good."""

from __future__ import annotations

import sys

import click

from finetuning_async.cli._bulk_result import report
from finetuning_async.cli._connect import ask
from finetuning_async.cli._exit_codes import DONE
from finetuning_async.cli._options import (
    Common,
    common_options,
    json_option,
    pass_common,
)
from finetuning_async.cli._output import is_terminal, say


@click.command()
@click.argument("ids", nargs=-1, required=True)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@json_option
@common_options
@pass_common
def command(common: Common, ids: tuple[str, ...], yes: bool, as_json: bool) -> int:
    """Delete tracks for good. There is no undo.

    It asks first; where nobody can be asked, --yes is needed.
    """
    given = list(dict.fromkeys(ids))
    if not yes and not _agreed(len(given)):
        if not common.quiet:
            say("Nothing was deleted.")
        return DONE
    common.if_interrupted = "Some may be deleted; `finetuning list` shows what is left."
    result = ask(common, lambda client: client.generations.delete(given))
    return report(common, result, "deleted", as_json=as_json)


def _agreed(count: int) -> bool:
    if not is_terminal(sys.stdin):
        raise click.UsageError("nobody can be asked here, so --yes is needed.")
    what = "this track" if count == 1 else f"{count} tracks"
    return click.confirm(f"Delete {what} for good?", err=True)
