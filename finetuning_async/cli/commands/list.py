"""``finetuning list``: list tracks, newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from finetuning_async.cli._connect import call_service
from finetuning_async.cli._options import (
    CommonOptions,
    common_options,
    json_option,
    list_options,
    pass_common,
)
from finetuning_async.cli._output import (
    note_more,
    print_json,
    say_empty,
    seconds_text,
)
from finetuning_async.cli._tables import Table, time_text
from finetuning_async.cli._track_fields import track_seconds

if TYPE_CHECKING:
    from finetuning_async import Generation

TABLE: Final = Table("ID", "STATUS", "SECONDS", "PROMPT", "CREATED", text="PROMPT")


@click.command()
@list_options
@click.option("--type", metavar="WORD", help="Only this type: music or instrumental.")
@json_option
@common_options
@pass_common
def command(common: CommonOptions, /, as_json: bool, **query: Any) -> None:
    """List tracks, newest first."""
    page = call_service(common, lambda client: client.generations.list(**query))
    if as_json:
        print_json(page.raw)
        return
    if not page.items:
        say_empty(common, "track", "finetuning generate TAGS", query)
        return
    TABLE.show(map(_row, page.items))
    note_more(common, page)


def _row(track: Generation) -> tuple[str, ...]:
    return (
        track.id,
        track.status,
        seconds_text(track_seconds(track)),
        track.prompt,
        time_text(track.created_at),
    )
