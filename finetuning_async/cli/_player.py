"""``--play``: plays a saved track with a player that is installed."""

from __future__ import annotations

import subprocess
from shutil import which
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from pathlib import Path

    from finetuning_async.cli._output_path import Destination

PLAYERS: Final = {
    "mpv": ("--no-video", "--really-quiet"),
    "ffplay": ("-nodisp", "-autoexit", "-loglevel", "error"),
    "mpg123": ("-q",),
    "afplay": (),
    "cvlc": ("--play-and-exit", "-q"),
    "play": ("-q",),
}
"""Programs that play an MP3 and then end, each with the options for that."""


def check_play(destination: Destination | None, *, play: bool) -> None:
    """Check that ``--play`` can do something, before a credit is spent.

    Raises:
        click.UsageError: It cannot.
    """
    if not play:
        return
    if destination is None or destination.is_stdout:
        raise click.UsageError("--play needs a saved file: add -o PATH.")
    if _player() is None:
        names = ", ".join(PLAYERS)
        raise click.UsageError(f"--play finds no player: install one of {names}.")


def play(path: Path) -> None:
    """Play a file to its end; Ctrl-C stops it.

    Raises:
        click.ClickException: The player fails.
    """
    player = _player()
    if player is None:
        return
    command = [player, *PLAYERS[player], str(path)]
    ran = subprocess.run(command, stdin=subprocess.DEVNULL, check=False)  # noqa: S603 - a player of ours, and no shell
    if ran.returncode:
        raise click.ClickException(f"{player} could not play {path}.")


def _player() -> str | None:
    return next((name for name in PLAYERS if which(name)), None)
