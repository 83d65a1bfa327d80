"""``finetuning batch``: create thousands of tracks into a folder, through any crash."""

from __future__ import annotations

import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import click

from finetuning_async._secrets import mask_query
from finetuning_async.cli._batch_summary import exit_code, show
from finetuning_async.cli._options import (
    CommonOptions,
    Number,
    account_budget_options,
    common_options,
    json_option,
    local_options,
    pass_common,
    share_option,
    shared_option,
)
from finetuning_async.cli._output import say, shown

EPILOG = """\b
Exit codes:
  0    every row is downloaded
  1    none is: failed, or left (no credits, a full disk, --max-credits)
  2    the input or an option is invalid; nothing was sent
  3    some are; or some are held (possibly charged), see errors.jsonl
  130  Ctrl-C (143: SIGTERM): to resume, run the same command
"""

ASSUMED_QUEUE: Final = 5
"""Tracks in progress at once, where nothing is known. No source documents the number;
the emulator has the same."""


class _Location(click.ParamType):  # type: ignore[type-arg]  # not generic before 8.5
    """A folder as a path, or the URL of an object store as it is."""

    name = "folder"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Path | str:
        """Keep a URL from being taken for a path."""
        del param, ctx
        return value if "://" in str(value) else Path(value)


_FOLDER = _Location()

_journal_option = click.option(
    "--journal",
    metavar="FOLDER",
    help="For an object store: where the batch notes what is done, a folder or a"
    " postgresql:// URL; give its password by PGPASSWORD or ~/.pgpass."
    "  [default: in the state directory]",
)


@click.group(epilog=EPILOG)
def command() -> None:
    """Create thousands of tracks; survives any crash, and pays for no track twice."""
    if find_spec("filelock") is None:
        raise click.ClickException(
            "batch needs filelock: pip install 'finetuning-async[batch]'"
        )


@command.command(epilog=EPILOG, short_help="Start or resume a batch.")
@click.argument("source", metavar="[INPUT]", required=False)
@click.option(
    "--out",
    type=_FOLDER,
    required=True,
    metavar="FOLDER",
    help="The folder of the batch, or the URL of an object store, such as"
    " s3://bucket/album/ (extra objects).",
)
@_journal_option
@click.option(
    "--format",
    "format_",
    type=click.Choice(["jsonl", "csv"]),
    help="Format of INPUT; by default detected from its name or first line.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Check and count the rows, and say how long they take; create nothing. It"
    " needs no key, but without one the credits are not checked.",
)
@click.option(
    "--max-credits",
    type=click.IntRange(min=0),
    metavar="N",
    help="The most credits that all runs together may spend.",
)
@click.option(
    "--on-unknown",
    type=click.Choice(["hold", "resubmit"]),
    default="hold",
    show_default=True,
    help="What to do if the response to a create is lost and no track is found: hold"
    " the row for you to check; resubmit sends it again where everything but the"
    " credits proves that it made no track.",
)
@click.option(
    "--adopt",
    "existing",
    flag_value="adopt",
    help="Count rows as done whose files or results are in the folder, but not in its"
    " journal.",
)
@click.option(
    "--anew",
    "existing",
    flag_value="anew",
    help="Create such rows again, under other names; each costs another credit.",
)
@click.option(
    "--queue",
    type=click.IntRange(min=1),
    metavar="N",
    help="Tracks that the service lets be in progress at once, if you know it; a run"
    f" learns it, a dry run assumes {ASSUMED_QUEUE}.",
)
@shared_option
@share_option
@account_budget_options
@click.option(
    "--metadata",
    is_flag=True,
    help="Write title, prompt, tempo, key, lyrics, seed and id into the MP3s.",
)
@click.option("--tags", is_flag=True, hidden=True, help="The same.")
@click.option(
    "--check",
    is_flag=True,
    help="Check that each MP3 is whole, as long as asked for, and not silent; one that"
    " is not is kept; its line in results.jsonl has problems.",
)
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
def run(common: CommonOptions, /, **options: Any) -> int:
    """Start a batch, or resume one: the same command does both.

    INPUT is JSONL or CSV, - for stdin. A row has the parameters of a create (tags,
    lyrics, duration, bpm, language, key, scale, timesignature, seed, webhook) and
    optionally custom_id (or idempotency_key), type, priority (low by default) and
    share. Rows are sent in their order; priority and share say how they stand against
    other creates of the account. Without INPUT, the rows of earlier runs are finished.

    The folder batch-journal beside the files records what is done: if you move the
    files, move it with them. Files and results that go to an object store appear there
    whole or not at all; --journal says where its journal is. A batch belongs to the
    account whose key started it.
    """
    from finetuning_async.cli._batch_run import execute  # slow to import

    return execute(common, assumed_queue=ASSUMED_QUEUE, **options)


@command.command()
@click.argument("folder", type=_FOLDER)
@_journal_option
@json_option
@local_options()
@pass_common
def status(
    common: CommonOptions, folder: Path | str, journal: str | None, as_json: bool
) -> int:
    """Show the progress of a batch, even while it runs."""
    from finetuning_async.batch import read_held, read_summary  # needs an extra

    summary = read_summary(folder, journal=journal)
    show(summary, as_json=as_json)
    if not as_json and not common.quiet:
        for item in read_held(folder, journal=journal):
            error = shown(str(item.entry.error))
            say(f"held, possibly charged: {shown(item.name)}: {error}")
    return exit_code(summary)


@command.command(
    "retry-failed", short_help="Plan failed items again; each costs another credit."
)
@click.argument("folder", type=_FOLDER)
@_journal_option
@local_options()
@pass_common
def retry_failed(
    common: CommonOptions, folder: Path | str, journal: str | None
) -> None:
    """Plan failed items again. Each costs another credit when the batch runs."""
    from finetuning_async.batch import retry_failed as plan  # needs an extra

    count = plan(folder, journal=journal)
    if not common.quiet:
        say(f"{count} planned again. To run them: {_run_command(folder, journal)}")


@command.command(short_help="Plan again the held items that made no track.")
@click.argument("folder", type=_FOLDER)
@click.argument("names", metavar="ID...", nargs=-1, required=True)
@_journal_option
@local_options()
@pass_common
def release(
    common: CommonOptions,
    folder: Path | str,
    names: tuple[str, ...],
    journal: str | None,
) -> None:
    """Plan held items again. Use it for items that you know made no track.

    An item that did make one is charged twice.
    """
    from finetuning_async.batch import release as plan  # needs an extra

    count = plan(folder, names, journal=journal)
    if not common.quiet:
        say(f"{count} released. To run them: {_run_command(folder, journal)}")


def _run_command(folder: Path | str, journal: str | None) -> str:
    """The command that runs a batch; without the password that its journal may have."""
    words = ["finetuning", "batch", "run", "--out", str(folder)]
    if journal is not None:
        # In the name of a folder "#" and "?" hide nothing.
        is_url = "://" in journal
        words += ["--journal", str(mask_query(journal)) if is_url else journal]
    return shlex.join(words)
