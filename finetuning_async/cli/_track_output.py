"""What is left once a track is accepted: wait for its end, save it, report.

`wait_for` and `download` are the commands of these names, for tracks and effects.
"""

from __future__ import annotations

import os
import shlex
import sys
from typing import TYPE_CHECKING, Any

import click

from finetuning_async.cli._connect import PATIENT, ask
from finetuning_async.cli._interruption import clearing
from finetuning_async.cli._output import is_terminal, print_json, shown
from finetuning_async.cli._progress import Lines, Silent

if TYPE_CHECKING:
    from pathlib import Path

    from finetuning_async import AsyncClient
    from finetuning_async.cli._options import Common
    from finetuning_async.cli._output_path import Destination
    from finetuning_async.cli._track_kinds import TrackKind


def note_resume(
    common: Common,
    kind: TrackKind,
    track_id: str,
    destination: Destination | None,
    *,
    paid: bool = True,
) -> None:
    """Note how to go on with a track if this run ends too early.

    Args:
        common: Where to note it.
        kind: What it is.
        track_id: The track.
        destination: Where it shall be saved; `None` if it shall not.
        paid: Whether it was paid by this run, which is worth saying.
    """
    words = ["wait", track_id]
    if destination is not None:
        words += ["-o", destination.told or "."]
    for option, value in (("--base-url", common.base_url), ("--config", common.config)):
        words += [option, value] if value else []
    common.resume = kind.command(shlex.join(words))
    stays = f" and {kind.cost}" if paid else ""
    common.if_interrupted = (
        f"{track_id} goes on at the service{stays}.\nTo go on: {common.resume}"
    )


def wait_for(
    common: Common,
    kind: TrackKind,
    track_id: str,
    destination: Destination | None,
    *,
    timeout: float,
    as_json: bool,
) -> None:
    """Wait for the end of a track that began anywhere; save it if told where.

    Args:
        common: Options that hold for all commands.
        kind: What it is.
        track_id: The track.
        destination: Where to save it; `None` to save nothing.
        timeout: Seconds.
        as_json: Whether to print it.

    Raises:
        click.ClickException: It failed.
        FinetuningError: As `AsyncClient.wait_for_completion`.
    """
    if destination is not None:
        with clearing():  # it tries to make a file
            destination.check()
    note_resume(common, kind, track_id, destination, paid=False)

    async def main(client: AsyncClient) -> Any:
        import anyio  # slow to import

        deadline = anyio.current_time() + timeout
        with progress(common, doing="waiting") as report:
            waited: Any = track_id
            if kind.resource != "generations":  # else it would be sought among them
                waited = await kind.get(client, track_id, timeout=max(timeout, 1))
            left = max(round(deadline - anyio.current_time(), 1), 0)
            final = await wait(client, waited, report, left)
            if destination is not None and final.status == "completed":
                await save(client, final, destination.path_for(final), report)
        return final

    conclude(common, ask(common, main, retries=PATIENT), as_json=as_json)


def download(
    common: Common, kind: TrackKind, track_id: str, destination: Destination
) -> None:
    """Save a completed track.

    Raises:
        click.ClickException: It is not completed.
        FinetuningError: As `AsyncClient.download`.
    """
    with clearing():  # it tries to make a file
        destination.check()

    async def main(client: AsyncClient) -> None:
        track = await kind.get(client, track_id)
        if track.status != "completed":
            raise click.ClickException(_not_ready(kind, track_id, track.status))
        with progress(common, doing="downloading") as report:
            await save(client, track, destination.path_for(track), report)

    ask(common, main, retries=PATIENT)


def _not_ready(kind: TrackKind, track_id: str, status: str) -> str:
    if status == "failed":
        return f"{track_id} failed; there is nothing to download."
    return (
        f"{track_id} is {shown(status)}; there is nothing to download yet.\n"
        f"To wait for it and save it: {kind.command('wait', track_id, '-o .')}"
    )


async def wait(client: AsyncClient, track: Any, report: Silent, timeout: float) -> Any:
    """Wait for a track's final state.

    Args:
        client: Whom to ask.
        track: The track or effect, or a track's id.
        report: Whom to tell.
        timeout: Seconds.

    Raises:
        FinetuningError: As `AsyncClient.wait_for_completion`.
    """
    import anyio  # slow to import

    began = anyio.current_time()
    final = await client.wait_for_completion(
        track, timeout=timeout, on_update=report.status
    )
    report.ended(final, anyio.current_time() - began)
    return final


async def save(client: AsyncClient, track: Any, path: Path, report: Silent) -> None:
    """Download a completed track.

    Raises:
        OSError: Who read the pipe that it goes to is gone.
        FinetuningError: As `AsyncClient.download`.
    """
    try:
        await client.download(track, path, on_progress=report.loading)
    except BrokenPipeError as gone:  # of stdout it would be no error
        raise OSError(str(gone)) from None
    report.saved(path, track)


def conclude(common: Common, track: Any, *, as_json: bool) -> None:
    """Print what was asked for, and end with an error if the track failed.

    Raises:
        click.ClickException: It failed.
    """
    if as_json:
        print_json(track.raw)
    if track.status == "failed":
        common.resume = ""
        common.if_interrupted = ""
        reason = track.error_message or "the service gave no reason"
        raise click.ClickException(f"{track.id} failed: {shown(reason)}")


def progress(common: Common, *, doing: str, expected: float | None = None) -> Silent:
    """The right form for this run; arguments as for `Silent`."""
    if common.quiet:
        return Silent()
    if common.verbose or not _has_terminal():
        return Lines(expected, doing)
    from finetuning_async.cli._progress_bar import Bar  # rich is slow to import

    return Bar(expected, doing, no_color=common.no_color)


def _has_terminal() -> bool:
    return is_terminal(sys.stderr) and os.environ.get("TERM") != "dumb"
