"""``finetuning download``: save a completed track."""

from __future__ import annotations

from functools import partial

import click

from finetuning_async.cli._connect import service
from finetuning_async.cli._finish import save
from finetuning_async.cli._naming import Destination
from finetuning_async.cli._options import (
    Common,
    common_options,
    output_option,
    pass_common,
)
from finetuning_async.cli._progress import progress
from finetuning_async.cli._run import run


@click.command()
@click.argument("track_id", metavar="ID")
@output_option
@common_options
@pass_common
def command(common: Common, track_id: str, output: str | None) -> None:
    """Save a completed track. Without -o the file is named after it."""
    run(partial(_download, common, track_id, Destination(output)))


async def _download(common: Common, track_id: str, destination: Destination) -> None:
    async with service(common) as client:
        destination.check()
        track = await client.generations.get(track_id)
        if track.status != "completed":
            raise click.ClickException(_not_ready(track_id, track.status))
        with progress(common, doing="downloading") as report:
            await save(client, track, destination.path_for(track), report)


def _not_ready(track_id: str, status: str) -> str:
    if status == "failed":
        return f"{track_id} failed; there is nothing to download."
    return (
        f"{track_id} is {status}; there is nothing to download yet.\n"
        f"To wait for it and save it: finetuning wait {track_id} -o ."
    )
