"""What follows once a track is accepted: wait for its end, download it, report.

`wait_for` and `download` are the commands ``wait`` and ``download``, for tracks and for
sound effects.
"""

from __future__ import annotations

import os
import shlex
import sys
from typing import TYPE_CHECKING, Any

import click

from finetuning_async.cli._connect import MANY_RETRIES, call_service
from finetuning_async.cli._find import find
from finetuning_async.cli._output import is_terminal, print_json, shown
from finetuning_async.cli._player import check_play, play as play_file
from finetuning_async.cli._progress import LineReporter, SilentReporter
from finetuning_async.cli._signals import raise_on_signal
from finetuning_async.cli._track_kinds import TRACK

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from finetuning_async import AsyncClient
    from finetuning_async.cli._options import CommonOptions
    from finetuning_async.cli._output_path import Destination
    from finetuning_async.cli._track_kinds import TrackKind


def set_resume_hint(
    common: CommonOptions,
    kind: TrackKind,
    track_id: str,
    destination: Destination | None,
    *,
    paid: bool = True,
) -> None:
    """Set the hint that says how to continue with a track if this run ends early.

    Args:
        common: Where to set it.
        kind: A track or a sound effect.
        track_id: Its id.
        destination: Where to save it; `None` to save nothing.
        paid: Whether this run paid for it; the hint then says so.
    """
    words = ["wait", track_id]
    if destination is not None:
        words += ["-o", destination.given or "."]
    for option, value in (("--base-url", common.base_url), ("--config", common.config)):
        words += [option, value] if value else []
    common.resume = kind.command(shlex.join(words))
    cost = f"; {kind.cost_note}" if paid else ""
    common.interrupt_hint = (
        f"{track_id} continues at the service{cost}.\nTo resume: {common.resume}"
    )


def wait_for(
    common: CommonOptions,
    kinds: Sequence[TrackKind],
    track_id: str,
    destination: Destination | None,
    *,
    timeout: float,
    as_json: bool,
) -> None:
    """Wait for the end of a track, whichever process created it, and save it.

    Args:
        common: Options that all commands share.
        kinds: What it may be: a track, a sound effect.
        track_id: Its id, or the beginning of it.
        destination: Where to save it; `None` to save nothing.
        timeout: Seconds.
        as_json: Whether to print it.

    Raises:
        click.ClickException: The track failed.
        FinetuningError: As `AsyncClient.wait_for_completion`.
    """
    play = destination is not None and destination.how.play
    check_play(destination, play=play)
    saved: list[Path] = []
    if destination is not None:
        with raise_on_signal():  # `check` creates a file, and must remove it
            destination.check()
    set_resume_hint(common, kinds[0], track_id, destination, paid=False)

    async def main(client: AsyncClient) -> Any:
        with progress(common, doing="waiting") as reporter:
            waited = await _find_for_wait(client, track_id, kinds, timeout)
            final = await wait(client, waited, reporter, timeout)
            if destination is not None and final.status == "completed":
                saved.append(await save(client, final, destination, reporter))
        return final

    report_result(
        common, call_service(common, main, retries=MANY_RETRIES), as_json=as_json
    )
    if play and saved:
        play_file(saved[0])


async def _find_for_wait(
    client: AsyncClient, track_id: str, kinds: Sequence[TrackKind], timeout: float
) -> Any:
    """The track, or its id if it is not found: it may be too new to be shown."""
    from finetuning_async import NotFoundError  # slow to import

    try:
        return await find(client, track_id, kinds, timeout=max(timeout, 1))
    except NotFoundError:
        if TRACK not in kinds:
            raise
        return track_id


def download(
    common: CommonOptions,
    kinds: Sequence[TrackKind],
    track_id: str,
    destination: Destination,
) -> None:
    """Save a completed track, and perhaps play it.

    Raises:
        click.ClickException: The track is not completed.
        FinetuningError: As `AsyncClient.download`.
    """
    check_play(destination, play=destination.how.play)
    with raise_on_signal():  # `check` creates a file, and must remove it
        destination.check()

    async def main(client: AsyncClient) -> Path:
        track = await find(client, track_id, kinds)
        if track.status != "completed":
            raise click.ClickException(_not_ready(kinds[0], track.id, track.status))
        with progress(common, doing="downloading") as reporter:
            return await save(client, track, destination, reporter)

    path = call_service(common, main, retries=MANY_RETRIES)
    if destination.how.play:
        play_file(path)


def _not_ready(kind: TrackKind, track_id: str, status: str) -> str:
    if status == "failed":
        return f"{track_id} failed; there is nothing to download."
    return (
        f"{track_id} is {shown(status)}; there is nothing to download yet.\n"
        f"To wait for it and save it: {kind.command('wait', track_id, '-o .')}"
    )


async def wait(
    client: AsyncClient, track: Any, reporter: SilentReporter, timeout: float
) -> Any:
    """Wait for a track's final state.

    Args:
        client: The client.
        track: The track or sound effect, or the id of a track.
        reporter: Reports its progress.
        timeout: Seconds.

    Raises:
        FinetuningError: As `AsyncClient.wait_for_completion`.
    """
    import anyio  # slow to import

    began = anyio.current_time()
    is_watched = not getattr(track, "is_final", True)  # nothing is known of an id

    def on_update(seen: Any) -> None:
        nonlocal is_watched
        is_watched = is_watched or not seen.is_final
        reporter.status(seen)

    final = await client.wait_for_completion(
        track, timeout=timeout, on_update=on_update
    )
    reporter.ended(final, anyio.current_time() - began if is_watched else None)
    return final


async def save(
    client: AsyncClient,
    track: Any,
    destination: Destination,
    reporter: SilentReporter,
    *,
    lyrics: str | None = None,
) -> Path:
    """Download a completed track.

    Args:
        client: The client.
        track: The track or sound effect.
        destination: Where and how to save it.
        reporter: Reports its progress.
        lyrics: What is sung, for the metadata.

    Raises:
        click.ClickException: It is saved, and did not pass the check.
        OSError: The reader of the pipe that it is written to has closed it.
        FinetuningError: As `AsyncClient.download`.
    """
    from finetuning_async._errors import APIResponseError  # slow to import

    path, how = destination.path_for(track), destination.how
    facts = {"lyrics": lyrics} if lyrics else {}
    try:
        await client.download(
            track,
            path,
            on_progress=reporter.loading,
            metadata=(facts or True) if how.metadata else False,
            check=how.check,
        )
    except APIResponseError as failed:
        if failed.generation_id is None:
            raise
        # The file is saved, and another download would be the same: nothing to resume.
        raise click.ClickException(shown(str(failed))) from None
    except BrokenPipeError as broken:  # this one is an error, unlike that of stdout
        raise OSError(str(broken)) from None
    if how.sidecar:
        destination.save_sidecar(path, track)
    reporter.saved(path, track)
    return path


def report_result(common: CommonOptions, track: Any, *, as_json: bool) -> None:
    """Print the track if JSON was asked for, and raise if the track failed.

    Raises:
        click.ClickException: The track failed.
    """
    if as_json:
        print_json(track.raw)
    if track.status == "failed":
        common.resume = ""
        common.interrupt_hint = ""
        reason = track.error_message or "the service gave no reason"
        raise click.ClickException(f"{track.id} failed: {shown(reason)}")


def progress(
    common: CommonOptions, *, doing: str, expected: float | None = None
) -> SilentReporter:
    """The reporter for this run; the arguments are those of `SilentReporter`."""
    if common.quiet:
        return SilentReporter()
    if common.verbose or not _has_terminal():
        return LineReporter(expected, doing)
    from finetuning_async.cli._progress_bar import BarReporter  # rich is slow to import

    return BarReporter(expected, doing, no_color=common.no_color)


def _has_terminal() -> bool:
    return is_terminal(sys.stderr) and os.environ.get("TERM") != "dumb"
