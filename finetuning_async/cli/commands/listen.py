"""``finetuning listen``: forward the end of every track to a URL, until Ctrl-C."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import click

from finetuning_async._secrets import mask_query
from finetuning_async.cli._connect import MANY_RETRIES, call_service
from finetuning_async.cli._error_exit import InvalidInputError
from finetuning_async.cli._forwarding import (
    PAGE,
    EndFinder,
    deliver,
    payload,
    target,
)
from finetuning_async.cli._options import (
    CommonOptions,
    Number,
    common_options,
    pass_common,
)
from finetuning_async.cli._output import say, shown
from finetuning_async.cli._signals import Interrupted, newline_after_ctrl_c

if TYPE_CHECKING:
    import httpx

    from finetuning_async import AsyncClient

DELIVERY_TIMEOUT: Final = 10.0
"""Seconds for one delivery."""


@click.command()
@click.option(
    "--forward-to", required=True, metavar="URL", help="Where to post each webhook."
)
@click.option(
    "--interval",
    type=Number(minimum=1),
    default=5,
    show_default=True,
    metavar="SECONDS",
    help="How often to look; each look takes two reads of the 60 per minute.",
)
@common_options
@pass_common
def command(common: CommonOptions, forward_to: str, interval: float) -> None:
    """Forward the end of every track to a URL, until Ctrl-C.

    The service cannot reach a program on this machine. This command looks for tracks
    and sound effects that end, whoever created them, and posts each end as the
    service would: once, whatever the response.
    """
    _check(forward_to)
    if not common.quiet:
        say(f"Forwarding the end of every track to {mask_query(forward_to)}")
        say("Press Ctrl-C to stop. Deliveries:")
    try:
        call_service(
            common,
            lambda client: _forward(common, client, forward_to, interval),
            retries=MANY_RETRIES,
        )
    except Interrupted as stop:
        if not common.quiet:
            say(f"{newline_after_ctrl_c(stop.number)}Nothing is forwarded any more.")


def _check(url: str) -> None:
    """Refuse what is not an http URL.

    Raises:
        InvalidInputError: It is none.
    """
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        fits = False
    if not fits:
        raise InvalidInputError(
            "--forward-to must be an http:// or https:// URL, got"
            f" {mask_query(url)}; for example http://127.0.0.1:3000/hooks"
        )


async def _forward(
    common: CommonOptions, client: AsyncClient, forward_to: str, interval: float
) -> None:
    """Look and deliver until cancelled. A look that fails is no reason to stop."""
    import anyio  # slow to import
    import httpx

    from finetuning_async import (  # slow to import
        APIConnectionError,
        InternalServerError,
        RateLimitError,
    )

    looks = (
        _Look(client.generations),
        _Look(client.sound_effects),
    )
    async with httpx.AsyncClient(timeout=DELIVERY_TIMEOUT) as http:
        while True:
            for look in looks:
                try:
                    await look.find()
                    await look.deliver(http, forward_to)
                except (APIConnectionError, InternalServerError, RateLimitError) as e:
                    if not common.quiet:
                        say(f"This look failed, the next one is in {interval} s: {e}")
            await anyio.sleep(interval)


class _Look:
    """One kind of track: what has ended, and what is to be delivered yet."""

    def __init__(self, resource: Any) -> None:
        self._resource = resource
        self._finder = EndFinder()
        self._ended: list[str] = []

    async def find(self) -> None:
        """Read the list as far as it is needed."""
        self._finder.begin()
        ended: list[str] = []
        try:
            async for track in self._resource.list(limit=PAGE):
                if self._finder.saw(track):
                    ended.insert(0, track.id)  # oldest first, as the service would
                if self._finder.is_done():
                    break
            self._finder.end()
        finally:  # a later page may fail; ends that the earlier ones show count once
            self._ended += ended

    async def deliver(self, http: httpx.AsyncClient, forward_to: str) -> None:
        """Deliver what has ended; what cannot be read now waits for the next look."""
        from finetuning_async import NotFoundError  # slow to import

        while self._ended:
            try:
                track = await self._resource.get(self._ended[0])
            except NotFoundError:  # deleted meanwhile
                del self._ended[0]
                continue
            del self._ended[0]  # whatever the receiver responds, there is no second try
            url = target(forward_to, track.webhook)
            result = await deliver(http, url, payload(track))
            click.echo(shown(f"{track.id} {track.status} {result}"))
