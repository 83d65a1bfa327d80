"""``finetuning emulator``: run an emulator of the service on this machine."""

from __future__ import annotations

import secrets
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import click

from finetuning_async.cli._connect import new_emulator
from finetuning_async.cli._emulator_output import print_start, request_log
from finetuning_async.cli._keys import read_key
from finetuning_async.cli._options import (
    CommonOptions,
    Number,
    common_options,
    pass_common,
)
from finetuning_async.cli._output import say
from finetuning_async.cli._signals import Interrupted, newline_after_ctrl_c

if TYPE_CHECKING:
    from finetuning_async.emulator import Emulator

WINDOWS: Final = ("fixed", "first", "log", "counter", "rounded_counter", "bucket")


@click.command()
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="The address to listen on."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8787,
    show_default=True,
    help="0 picks a free one.",
)
@click.option(
    "--speed",
    type=Number(above=0),
    default=1,
    show_default=True,
    help="How much faster tracks and rate limits are.",
)
@click.option(
    "--queue-size",
    type=click.IntRange(min=1),
    metavar="TRACKS",
    default=5,
    show_default=True,
    help="Tracks in progress at a time.",
)
@click.option(
    "--window",
    type=click.Choice(WINDOWS),
    default="fixed",
    show_default=True,
    help="How requests are counted for the rate limits.",
)
@click.option(
    "--failure-rate",
    type=Number(minimum=0, maximum=1),
    default=0,
    show_default=True,
    help="Share of tracks that fail, 0 to 1.",
)
@click.option(
    "--credits",
    type=click.IntRange(min=0),
    metavar="NUMBER",
    default=2000,
    show_default=True,
    help="Credits of the account.",
)
@click.option(
    "--seed",
    type=int,
    help="Seed of its ids and random choices.  [default: a new one each time]",
)
@click.option(
    "--playlist",
    "playlists",
    multiple=True,
    metavar="NAME",
    help="Start with an empty playlist; may be repeated.",
)
@common_options
@pass_common
def command(
    common: CommonOptions,
    /,
    host: str,
    port: int,
    playlists: tuple[str, ...],
    **settings: Any,
) -> None:
    """Run an emulator of the service on this machine, until Ctrl-C.

    It has the service's limits and errors, makes real MP3s, and costs nothing.
    """
    if settings["seed"] is None:
        # Ids that repeat from run to run would match those that a client remembers.
        settings["seed"] = secrets.randbits(31)
    if common.api_key_stdin:
        settings["api_key"] = read_key().reveal()
    with ExitStack() as stack:
        if not common.quiet:
            settings["on_request"] = stack.enter_context(request_log())
        _run(common, new_emulator(**settings), host, port, playlists)


def _run(
    common: CommonOptions,
    emulator: Emulator,
    host: str,
    port: int,
    playlists: tuple[str, ...],
) -> None:
    from finetuning_async.cli._event_loop import run  # slow to import

    try:
        run(partial(_serve, common, emulator, host, port, playlists))
    except Interrupted as stop:
        if not common.quiet:
            say(
                f"{newline_after_ctrl_c(stop.number)}The emulator has stopped;"
                " its tracks are lost."
            )


async def _serve(
    common: CommonOptions,
    emulator: Emulator,
    host: str,
    port: int,
    playlists: tuple[str, ...],
) -> None:
    import anyio  # slow to import

    from finetuning_async.cli._event_loop import unwrap_group  # slow to import
    from finetuning_async.cli._messages import cannot_listen  # slow to import
    from finetuning_async.emulator import serve  # needs an extra

    try:
        async with emulator, serve(emulator, host=host, port=port) as url:
            for name in playlists:
                emulator.add_playlist(name)
            print_start(common, emulator, url)
            await anyio.sleep_forever()
    except* OSError as errors:
        raise click.ClickException(
            cannot_listen(host, port, unwrap_group(errors))
        ) from None
