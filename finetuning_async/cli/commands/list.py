"""``finetuning list``: list tracks, newest first."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from finetuning_async.cli._connect import QUICK, service
from finetuning_async.cli._options import (
    Common,
    common_options,
    json_option,
    pass_common,
)
from finetuning_async.cli._output import print_json, print_table, say
from finetuning_async.cli._run import run

if TYPE_CHECKING:
    from finetuning_async import Generation, Page


@click.command()
@click.option("--limit", type=int, default=20, show_default=True, help="1 to 99 rows.")
@click.option("--offset", type=int, default=0, help="How many rows to pass over.")
@click.option("--status", metavar="WORD", help="Only pending, processing, ...")
@click.option("--type", metavar="WORD", help="Only music, or instrumental.")
@json_option
@common_options
@pass_common
def command(common: Common, /, as_json: bool, **query: Any) -> None:
    """List tracks, newest first."""
    page = run(partial(_list, common, query))
    if as_json:
        print_json(page.raw)
        return
    print_table(("ID", "STATUS", "SECONDS", "CREATED", "PROMPT"), map(_row, page.items))
    if page.has_more and not common.quiet:
        say(f"More: --offset {page.next_offset}")


async def _list(common: Common, query: dict[str, Any]) -> Page[Generation]:
    async with service(common, retries=QUICK) as client:
        return await client.generations.list(**query)


def _row(track: Generation) -> tuple[str, ...]:
    seconds = track.duration or track.parameters.duration
    return (
        track.id,
        track.status,
        "" if seconds is None else f"{seconds:.1f}",
        "" if track.created_at is None else f"{track.created_at:%Y-%m-%d %H:%M}",
        track.prompt,
    )
