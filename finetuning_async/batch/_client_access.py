"""What a batch needs of the client beyond its public methods; the only place for it.

A batch must commit its intent after the turn has come and before the first byte
leaves, so that an item in doubt is one whose create was on the wire, not one that stood
in line for minutes: `Order.before_send` is that moment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import anyio
import attrs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from finetuning_async._api import Generation
    from finetuning_async._client import AsyncClient
    from finetuning_async._session import Session
    from finetuning_async.journal import Request


class Create:
    """One create of a batch.

    Args:
        client: Whose.
        request: What to make.
        seed: The seed to send; `None` to draw one.
        leaving: Awaited before the first byte of each attempt.
        back: Awaited when an attempt is known not to have been accepted and another
            waits for its turn.
        accepted: Awaited with the accepted state, before anything else can happen.
    """

    def __init__(
        self,
        client: AsyncClient,
        request: Request,
        seed: int | None,
        *,
        leaving: Callable[[], Awaitable[None]],
        back: Callable[[], Awaitable[None]],
        accepted: Callable[[Generation], Awaitable[None]],
    ) -> None:
        self._session = session_of(client)
        self._order = self._session.order(
            request,
            validate=False,
            on_submitted=accepted,
            before_wait=back,
            before_send=leaving,
        )
        if seed is not None and request.seed is None:
            body = request.to_body(seed=seed)
            self._order.call = attrs.evolve(self._order.call, body=body)
            self._order.seed = seed

    @property
    def seed(self) -> int:
        """The seed that it sends."""
        return cast("int", self._order.seed)

    @property
    def is_accepted(self) -> bool:
        """Whether the service took it."""
        return self._order.accepted is not None

    @property
    def is_in_doubt(self) -> bool:
        """Whether an attempt may have been accepted, and nobody knows."""
        return not self.is_accepted and self._order.in_doubt_since is not None

    async def send(self) -> Generation:
        """Wait for a place and a turn, and send it; as ``client.generations.create``.

        Raises:
            FinetuningError: As there.
            Exception: What one of the callbacks raised.
        """
        return cast("Generation", await self._session.submit(self._order, None))


def session_of(client: AsyncClient) -> Session:
    """A client in the running event loop."""
    return client._session()  # noqa: SLF001 - the core has no public word for it yet


def service_time(client: AsyncClient) -> float | None:
    """The earliest that the service's clock can show now, in seconds since 1970.

    `None` before any answer was seen.
    """
    clock = session_of(client).account.clock
    moment = clock.not_before(anyio.current_time())
    return None if moment is None else moment.timestamp()


def queue_is_full(client: AsyncClient) -> bool:
    """Whether creates wait for a place in the service's queue, not for their turn."""
    inflight = session_of(client).account.inflight
    capacity = inflight.queue_capacity
    return capacity is not None and len(inflight.tracks) >= capacity


def allows_http_webhook(client: AsyncClient) -> bool:
    """Whether a webhook may be plain ``http``: the service is an emulator here."""
    return session_of(client).settings.is_on_loopback
