"""What is left once a track is accepted: wait for its end, save it, report."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import anyio
import click

from finetuning_async.cli._output import print_json

if TYPE_CHECKING:
    from pathlib import Path

    from finetuning_async import AsyncClient, Generation
    from finetuning_async.cli._naming import Destination
    from finetuning_async.cli._options import Common
    from finetuning_async.cli._progress import Silent


def note_resume(
    common: Common, track_id: str, destination: Destination | None, *, paid: bool = True
) -> None:
    """Note how to go on with a track if this run ends too early.

    Args:
        common: Where to note it.
        track_id: The track.
        destination: Where it shall be saved; `None` if it shall not.
        paid: Whether it was paid by this run, which is worth saying.
    """
    words = ["finetuning", "wait", track_id]
    if destination is not None:
        words += ["-o", destination.told or "."]
    if common.base_url:
        words += ["--base-url", common.base_url]
    common.resume = shlex.join(words)
    stays = " and stays paid" if paid else ""
    common.if_interrupted = (
        f"{track_id} goes on at the service{stays}.\nTo go on: {common.resume}"
    )


async def wait(
    client: AsyncClient, track: Generation | str, report: Silent, timeout: float
) -> Generation:
    """Wait for a track's final state.

    Args:
        client: Whom to ask.
        track: The track, or its id.
        report: Whom to tell.
        timeout: Seconds.

    Raises:
        FinetuningError: As `AsyncClient.wait_for_completion`.
    """
    began = anyio.current_time()
    final = await client.wait_for_completion(
        track, timeout=timeout, on_update=report.status
    )
    report.ended(final, anyio.current_time() - began)
    return final


async def save(
    client: AsyncClient, track: Generation, path: Path, report: Silent
) -> None:
    """Download a completed track.

    Raises:
        FinetuningError: As `AsyncClient.download`.
    """
    await client.download(track, path, on_progress=report.loading)
    report.saved(path, track)


def conclude(common: Common, track: Generation, *, as_json: bool) -> None:
    """Print what was asked for, and end with an error if the track failed.

    Raises:
        click.ClickException: It failed.
    """
    if as_json:
        print_json(track.raw)
    if track.status == "failed":
        common.resume = ""
        reason = track.error_message or "the service gave no reason"
        raise click.ClickException(f"{track.id} failed: {reason}")
