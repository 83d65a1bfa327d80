"""``finetuning demo``: a web page to make and play music."""

from __future__ import annotations

import secrets
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import anyio
import click

from finetuning_async.cli._config import base_url
from finetuning_async.cli._connect import (
    MANY_RETRIES,
    emulator_client,
    new_emulator,
    service_client,
)
from finetuning_async.cli._event_loop import run
from finetuning_async.cli._keys import find_key
from finetuning_async.cli._messages import cannot_listen
from finetuning_async.cli._options import (
    CommonOptions,
    Number,
    common_options,
    pass_common,
    refuse_service_options,
)
from finetuning_async.cli._output import say
from finetuning_async.cli._signals import Interrupted, newline_after_ctrl_c

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from finetuning_async import AsyncClient

    Connect = Callable[[], AbstractAsyncContextManager[AsyncClient]]

DEFAULT_SPEED: Final = 4

EMULATOR: Final = "emulator"
"""With this service name the page says that tracks cost nothing."""


@click.command()
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="The address to listen on."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8788,
    show_default=True,
    help="0 picks a free one.",
)
@click.option(
    "--speed",
    type=Number(above=0),
    help=f"How much faster the emulator runs.  [default: {DEFAULT_SPEED}]",
)
@click.option(
    "--paid",
    is_flag=True,
    help="Use the real service and your key; each track costs a credit.",
)
@common_options
@pass_common
def command(
    common: CommonOptions, /, host: str, port: int, speed: float | None, paid: bool
) -> None:
    """Serve a web page to make and play music, until Ctrl-C.

    It uses an emulator, which costs nothing, unless you add --paid.
    """
    if paid and speed is not None:
        raise click.UsageError("--speed is for the emulator; --paid uses none.")
    if not paid:
        refuse_service_options(common, "without --paid the demo uses an emulator")
    speed = DEFAULT_SPEED if speed is None else speed
    connect, service = _service(common, speed=speed, paid=paid)
    try:
        run(partial(_serve, common, connect, service, host, port))
    except Interrupted as stop:
        if not common.quiet:
            tracks = "continue at the service" if paid else "are lost"
            say(
                f"{newline_after_ctrl_c(stop.number)}The demo has stopped;"
                f" its tracks {tracks}."
            )


def _service(common: CommonOptions, *, speed: float, paid: bool) -> tuple[Connect, str]:
    """How to connect to the service, and its name for the page."""
    if not paid:
        emulator = new_emulator(speed=speed, seed=secrets.randbits(31))
        return partial(emulator_client, common, emulator), EMULATOR
    url = base_url(common).url
    key = find_key(common, url).key
    return partial(service_client, common, url, key, MANY_RETRIES), urlsplit(url).netloc


async def _serve(
    common: CommonOptions, connect: Connect, service: str, host: str, port: int
) -> None:
    try:
        from finetuning_async.demo import create_app, serve  # needs an extra
    except ImportError as missing:
        raise click.ClickException(str(missing)) from None
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(connect())
        app = create_app(client, service=service, hosts=_allowed_hosts(host))
        try:
            url = await stack.enter_async_context(serve(app, host=host, port=port))
        except OSError as reason:
            raise click.ClickException(cannot_listen(host, port, reason)) from None
        _print_intro(common, url, service)
        await anyio.sleep_forever()


def _allowed_hosts(host: str) -> list[str]:
    return ["*"] if host == "0.0.0.0" else [host, "127.0.0.1", "localhost"]  # noqa: S104 - compared, not bound


def _print_intro(common: CommonOptions, url: str, service: str) -> None:
    if not common.quiet:
        cost = f"The demo uses {service}: each track costs a credit."
        if service == EMULATOR:
            cost = "The demo uses an emulator: tracks cost nothing."
        say(f"{cost} Press Ctrl-C to stop.\nOpen this page in a browser:")
    click.echo(url)
