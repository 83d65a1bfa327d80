"""``finetuning demo``: a page on which a person makes music."""

from __future__ import annotations

import secrets
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import anyio
import click

from finetuning_async.cli._config import base_url
from finetuning_async.cli._connect import PATIENT, connected, emulated, new_emulator
from finetuning_async.cli._event_loop import run
from finetuning_async.cli._interruption import Interrupted, below_key
from finetuning_async.cli._keys import find_key
from finetuning_async.cli._messages import cannot_listen
from finetuning_async.cli._options import Common, Number, common_options, pass_common
from finetuning_async.cli._output import say

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from finetuning_async import AsyncClient

    Connect = Callable[[], AbstractAsyncContextManager[AsyncClient]]

EMULATOR: Final = "emulator"
"""What the page takes for a sign that nothing is paid."""


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8788,
    show_default=True,
    help="0 takes a free one.",
)
@click.option(
    "--speed",
    type=Number(above=0),
    default=4,
    show_default=True,
    help="The emulator is so many times faster.",
)
@click.option(
    "--paid",
    is_flag=True,
    help="Ask the real service, with your key; each track costs a credit.",
)
@common_options
@pass_common
def command(common: Common, /, host: str, port: int, speed: float, paid: bool) -> None:
    """Serve a page to make and hear music on, until Ctrl-C.

    It asks an emulator, which costs nothing, unless you say --paid.
    """
    connect, service = _service(common, speed=speed, paid=paid)
    try:
        run(partial(_serve, common, connect, service, host, port))
    except Interrupted as stop:
        if not common.quiet:
            rest = "Its tracks go on at the service." if paid else "So have its tracks."
            say(f"{below_key(stop.number)}The demo has ended. {rest}")


def _service(common: Common, *, speed: float, paid: bool) -> tuple[Connect, str]:
    """How to reach the service, and its name for the page."""
    if not paid:
        emulator = new_emulator(speed=speed, seed=secrets.randbits(31))
        return partial(emulated, common, emulator), EMULATOR
    url = base_url(common).url
    key = find_key(common, url).key
    return partial(connected, common, url, key, PATIENT), urlsplit(url).netloc


async def _serve(
    common: Common, connect: Connect, service: str, host: str, port: int
) -> None:
    try:
        from finetuning_async.demo import create_app, serve  # it is an extra
    except ImportError as missing:
        raise click.ClickException(str(missing)) from None
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(connect())
        app = create_app(client, service=service, hosts=_names(host))
        try:
            url = await stack.enter_async_context(serve(app, host=host, port=port))
        except OSError as reason:
            raise click.ClickException(cannot_listen(host, port, reason)) from None
        _introduce(common, url, service)
        await anyio.sleep_forever()


def _names(host: str) -> list[str]:
    return ["*"] if host == "0.0.0.0" else [host, "127.0.0.1", "localhost"]  # noqa: S104 - compared, not bound


def _introduce(common: Common, url: str, service: str) -> None:
    if not common.quiet:
        paid = "An emulator makes the music, it costs nothing"
        if service != EMULATOR:
            paid = f"{service} makes the music, each track costs a credit"
        say(f"{paid}; Ctrl-C ends it.\nOpen this page in a browser:")
    click.echo(url)
