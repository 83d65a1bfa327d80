"""The result of a batch: its numbers on stdout, and the exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finetuning_async.cli._exit_codes import FAILURE, PARTIAL, SUCCESS
from finetuning_async.cli._output import print_json
from finetuning_async.cli._tables import print_fields

if TYPE_CHECKING:
    from finetuning_async.batch import Summary


def show(summary: Summary, *, as_json: bool) -> None:
    """Print the numbers of a batch on stdout."""
    facts = summary.as_dict()
    if as_json:
        print_json(facts)
    else:
        print_fields(
            {
                name.replace("_", " "): n
                for name, n in facts.items()
                if n or name == "total"
            }
        )


def exit_code(summary: Summary) -> int:
    """The exit code of a batch in this state."""
    downloaded = summary.states["downloaded"]
    if downloaded == summary.total:
        return SUCCESS
    return PARTIAL if downloaded or summary.in_doubt else FAILURE
