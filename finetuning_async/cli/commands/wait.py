"""``finetuning wait``: wait for the end of a track, in whichever process it began."""

from __future__ import annotations

from functools import partial

import click

from finetuning_async.cli._connect import service
from finetuning_async.cli._finish import conclude, note_resume, save, wait
from finetuning_async.cli._naming import Destination
from finetuning_async.cli._options import (
    Common,
    common_options,
    json_option,
    output_option,
    pass_common,
    timeout_option,
)
from finetuning_async.cli._progress import progress
from finetuning_async.cli._run import run


@click.command()
@click.argument("track_id", metavar="ID")
@output_option
@json_option
@timeout_option
@common_options
@pass_common
def command(
    common: Common, track_id: str, output: str | None, as_json: bool, timeout: float
) -> None:
    """Wait for the end of a track. With -o it is saved, too (-o . names it itself)."""
    destination = None if output is None else Destination(output)
    run(partial(_wait, common, track_id, destination, as_json, timeout))


async def _wait(
    common: Common,
    track_id: str,
    destination: Destination | None,
    as_json: bool,
    timeout: float,
) -> None:
    async with service(common) as client:
        if destination is not None:
            destination.check()
        note_resume(common, track_id, destination, paid=False)
        with progress(common, doing="waiting") as report:
            track = await wait(client, track_id, report, timeout)
            if destination is not None and track.status == "completed":
                await save(client, track, destination.path_for(track), report)
    conclude(common, track, as_json=as_json)
