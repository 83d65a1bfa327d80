"""The commands of ``finetuning batch``: run, status, retry-failed, release."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from finetuning_async.cli._batch_summary import exit_code, show
from finetuning_async.cli._options import (
    Common,
    Number,
    common_options,
    json_option,
    pass_common,
)
from finetuning_async.cli._output import say, shown

EPILOG = """\b
Exit codes:
  0    every row is downloaded
  1    none is: failed, or left (no credits, a full disk, --max-credits)
  2    the input or an option is wrong; nothing was sent
  3    in part; or some are held: they may be paid, see errors.jsonl
  130  Ctrl-C (143: SIGTERM): run the same command to go on
"""

PLACE = click.Path(path_type=Path)


@click.group(epilog=EPILOG)
def command() -> None:
    """Make thousands of tracks; any crash is survived, nothing is paid twice."""
    if find_spec("filelock") is None:
        raise click.ClickException(
            "batches need filelock: pip install 'finetuning-async[batch]'"
        )


@command.command(epilog=EPILOG, short_help="Start a batch, or go on with it.")
@click.argument("source", metavar="[INPUT]", required=False)
@click.option("--out", type=PLACE, required=True, help="The folder of the batch.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["jsonl", "csv"]),
    help="Of the input; by default seen from its name or first line.",
)
@click.option("--dry-run", is_flag=True, help="Check and count; create nothing.")
@click.option(
    "--max-credits",
    type=click.IntRange(min=0),
    metavar="N",
    help="The most that all runs together may spend.",
)
@click.option(
    "--on-unknown",
    type=click.Choice(["hold", "resubmit"]),
    default="hold",
    show_default=True,
    help="What to do with a create that is not found; resubmit sends it again, too,"
    " where its absence is proved but for the credits.",
)
@click.option(
    "--adopt",
    "existing",
    flag_value="adopt",
    help="Count files and results that the folder has, but its journal does not know,"
    " as done.",
)
@click.option(
    "--anew",
    "existing",
    flag_value="anew",
    help="Make such rows again, under other names; each takes another credit.",
)
@click.option("--tags", is_flag=True, help="Write title, tempo and key into the MP3s.")
@click.option(
    "--speed",
    type=Number(above=0),
    default=1,
    metavar="N",
    help="For an emulator on this machine that runs N times faster.",
)
@json_option
@common_options
@pass_common
def run(common: Common, /, **options: Any) -> int:
    """Start a batch, or go on where it stopped: the same command does both.

    INPUT is JSONL or CSV, - for stdin: the parameters of a create (tags, lyrics,
    duration, bpm, language, key, scale, timesignature, seed, webhook), with custom_id
    and type if wanted. Without INPUT what was begun is finished.

    What was done stands in the folder batch-journal beside the files: move it with
    them. A batch belongs to the account whose key began it.
    """
    from finetuning_async.cli._batch_run import execute  # slow to import

    return execute(common, **options)


@command.command()
@click.argument("folder", type=PLACE)
@json_option
@common_options
def status(folder: Path, as_json: bool) -> int:
    """Show where a batch stands; a runner may work meanwhile."""
    from finetuning_async.batch import read_held, read_summary  # an extra

    summary = read_summary(folder)
    show(summary, as_json=as_json)
    if not as_json:
        for item in read_held(folder):
            error = shown(str(item.entry.error))
            say(f"held, possibly charged: {shown(item.name)}: {error}")
    return exit_code(summary)


@command.command(
    "retry-failed", short_help="Plan failed items again; each takes another credit."
)
@click.argument("folder", type=PLACE)
@common_options
def retry_failed(folder: Path) -> None:
    """Plan failed items again; each takes another credit when the batch runs."""
    from finetuning_async.batch import retry_failed as plan  # an extra

    count = plan(folder)
    say(f"{count} planned again; `finetuning batch run --out {folder}` makes them")


@command.command(short_help="Plan held items again: they made no track, you say.")
@click.argument("folder", type=PLACE)
@click.argument("names", metavar="ID...", nargs=-1, required=True)
@common_options
def release(folder: Path, names: tuple[str, ...]) -> None:
    """Say that held items made no track; they are planned again, and may pay twice."""
    from finetuning_async.batch import release as plan  # an extra

    count = plan(folder, names)
    say(f"{count} released; `finetuning batch run --out {folder}` makes them")
