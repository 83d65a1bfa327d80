"""``finetuning emulator``: serve a stand-in for the service on this machine."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

import click

from finetuning_async.cli._config import URL_VARIABLE, on_loopback
from finetuning_async.cli._connect import new_emulator
from finetuning_async.cli._interruption import Interrupted, below_key
from finetuning_async.cli._keys import KEY_VARIABLE
from finetuning_async.cli._options import Common, Number, common_options, pass_common
from finetuning_async.cli._output import say, shown

if TYPE_CHECKING:
    from finetuning_async.emulator import Emulator, RateLimit

LOOK_EVERY: Final = 0.1
"""Seconds between looks at the request log."""

WINDOWS: Final = ("fixed", "first", "log", "counter", "rounded_counter", "bucket")


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8787,
    show_default=True,
    help="0 takes a free one.",
)
@click.option(
    "--speed",
    type=Number(above=0),
    default=1,
    show_default=True,
    help="Tracks and rate limits are so many times faster.",
)
@click.option(
    "--queue-size",
    type=click.IntRange(min=1),
    metavar="TRACKS",
    default=5,
    show_default=True,
    help="Tracks under way at a time.",
)
@click.option(
    "--window",
    type=click.Choice(WINDOWS),
    default="fixed",
    show_default=True,
    help="How requests are counted.",
)
@click.option(
    "--failure-rate",
    type=Number(least=0, most=1),
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
    help="What the account has left.",
)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option(
    "--playlist",
    "playlists",
    multiple=True,
    metavar="NAME",
    help="An empty playlist to begin with; may be repeated.",
)
@common_options
@pass_common
def command(
    common: Common,
    /,
    host: str,
    port: int,
    playlists: tuple[str, ...],
    **settings: Any,
) -> None:
    """Serve a stand-in for the service on this machine, until Ctrl-C.

    It has the service's limits and errors, plays real MP3s, and costs nothing.
    """
    from finetuning_async.cli._event_loop import run  # slow to import

    emulator = new_emulator(**settings)
    try:
        run(partial(_serve, common, emulator, host, port, playlists))
    except Interrupted as stop:
        if not common.quiet:
            say(f"{below_key(stop.number)}The emulator has ended, and its tracks.")


async def _serve(
    common: Common,
    emulator: Emulator,
    host: str,
    port: int,
    playlists: tuple[str, ...],
) -> None:
    from finetuning_async.cli._event_loop import single  # slow to import
    from finetuning_async.cli._messages import cannot_listen  # slow to import
    from finetuning_async.emulator import serve  # it is an extra

    try:
        async with emulator, serve(emulator, host=host, port=port) as url:
            for name in playlists:
                emulator.add_playlist(name)
            _introduce(common, emulator, url)
            await _tell_requests(common, emulator)
    except* OSError as errors:
        raise click.ClickException(cannot_listen(host, port, single(errors))) from None


def _introduce(common: Common, emulator: Emulator, url: str) -> None:
    """Say what it is, and how to reach it; the settings go to stdout."""
    if not common.quiet:
        say(f"An emulator of finetuning.ai, not the service: {url}")
        say(f"Any client on this machine can use it with the key {emulator.api_key}")
        say("In another terminal:\n")
    here = url.replace("//0.0.0.0:", "//127.0.0.1:")  # all addresses: this one, too
    click.echo(f"export {URL_VARIABLE}={here} {KEY_VARIABLE}={emulator.api_key}")
    if not common.quiet:
        for line in (*_speed_advice(emulator), *_host_advice(url)):
            say(line)
        say("\nCtrl-C ends it. Requests:")


def _speed_advice(emulator: Emulator) -> list[str]:
    """How a client learns of limits that are scaled; nothing at speed 1."""
    if emulator.speed == 1:
        return []
    limits = emulator.rate_limits
    creates, reads = limits.creates, limits.reads
    return [
        f"\nIts limits are {emulator.speed:g} times as wide. To use them from Python:",
        f"  rate_limits=RateLimits(creates={_limit(creates)}, reads={_limit(reads)})",
        "as an argument of AsyncClient; without it a client is only slower.",
    ]


def _host_advice(url: str) -> list[str]:
    """What a client of this package will say to a URL that is not this machine's."""
    if on_loopback(url):
        return []
    return [
        "\nOn other machines, and by a name that is not localhost, clients of this",
        "package refuse http://, since the key would cross the network in clear.",
    ]


def _limit(budget: RateLimit) -> str:
    return f"RateLimit({budget.limit}, per={budget.per:g})"


async def _tell_requests(common: Common, emulator: Emulator) -> None:
    import anyio  # slow to import

    told = 0
    while True:
        await anyio.sleep(LOOK_EVERY)
        answered = [record for record in emulator.requests[told:] if record.status]
        for record in answered:
            told += 1
            if not common.quiet:
                code = f" {record.code}" if record.code else ""
                path = shown(record.path)
                say(f"  {record.method} {path} {record.status}{code}")
