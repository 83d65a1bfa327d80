"""``finetuning emulator``: run an emulator of the service on this machine."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

import click

from finetuning_async.cli._config import URL_VARIABLE, on_loopback
from finetuning_async.cli._connect import new_emulator
from finetuning_async.cli._keys import KEY_VARIABLE
from finetuning_async.cli._options import (
    CommonOptions,
    Number,
    common_options,
    pass_common,
)
from finetuning_async.cli._output import say, shown
from finetuning_async.cli._signals import Interrupted, newline_after_ctrl_c

if TYPE_CHECKING:
    from finetuning_async.emulator import Emulator, RateLimit

POLL_INTERVAL: Final = 0.1
"""Seconds between checks of the request log."""

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
    "--seed", type=int, default=1, show_default=True, help="Seed of its random choices."
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
    from finetuning_async.cli._event_loop import run  # slow to import

    emulator = new_emulator(**settings)
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
    from finetuning_async.cli._event_loop import unwrap_group  # slow to import
    from finetuning_async.cli._messages import cannot_listen  # slow to import
    from finetuning_async.emulator import serve  # needs an extra

    try:
        async with emulator, serve(emulator, host=host, port=port) as url:
            for name in playlists:
                emulator.add_playlist(name)
            _print_intro(common, emulator, url)
            await _log_requests(common, emulator)
    except* OSError as errors:
        raise click.ClickException(
            cannot_listen(host, port, unwrap_group(errors))
        ) from None


def _print_intro(common: CommonOptions, emulator: Emulator, url: str) -> None:
    """Print what it is and how to reach it; only the settings go to stdout."""
    if not common.quiet:
        say(f"Emulator of finetuning.ai (not the service) at {url}")
        say(
            f"Any client on this machine can use it with the API key {emulator.api_key}"
        )
        say("To use it from another terminal:\n")
    here = url.replace(
        "//0.0.0.0:", "//127.0.0.1:"
    )  # it listens on all addresses, so on this one too
    click.echo(f"export {URL_VARIABLE}={here} {KEY_VARIABLE}={emulator.api_key}")
    if not common.quiet:
        for line in (*_speed_advice(emulator), *_host_advice(url)):
            say(line)
        say("\nPress Ctrl-C to stop. Requests:")


def _speed_advice(emulator: Emulator) -> list[str]:
    """How to configure a client for the faster limits; nothing at speed 1."""
    if emulator.speed == 1:
        return []
    limits = emulator.rate_limits
    creates, reads = limits.creates, limits.reads
    return [
        f"\nIts rate limits are {emulator.speed:g} times faster. In Python, pass",
        f"  rate_limits=RateLimits(creates={_limit(creates)}, reads={_limit(reads)})",
        "to AsyncClient. Without this a client works as well, but is slower.",
    ]


def _host_advice(url: str) -> list[str]:
    """Why clients of this package reject the URL if it is not on localhost."""
    if on_loopback(url):
        return []
    return [
        "\nClients of this package reject http:// for every host but localhost,",
        "because the API key would cross the network unencrypted.",
    ]


def _limit(budget: RateLimit) -> str:
    return f"RateLimit({budget.limit}, per={budget.per:g})"


async def _log_requests(common: CommonOptions, emulator: Emulator) -> None:
    import anyio  # slow to import

    logged = 0
    while True:
        await anyio.sleep(POLL_INTERVAL)
        finished = [record for record in emulator.requests[logged:] if record.status]
        for record in finished:
            logged += 1
            if not common.quiet:
                code = f" {record.code}" if record.code else ""
                path = shown(record.path)
                say(f"  {record.method} {path} {record.status}{code}")
