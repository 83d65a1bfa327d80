"""The callers of the proof `keys`: each order is asked for up to five times.

Some ask several times at once, some one after another whatever comes back, and some
only after an error. A few give up soon, so that the backend's call is cancelled.
"""

from __future__ import annotations

import random
import ssl
from collections import Counter
from typing import Final

import anyio
import attrs
import httpx

MOST: Final = 5
"""Requests for one order while workers are killed."""

READ_TIMEOUT: Final = 12.0
"""Seconds; a worker may be halted, or busy with its start."""

STYLES: Final = ("at once", "staggered", "after errors")

_TLS: Final = ssl.create_default_context()
"""Unused, and shared, since every client makes one."""


@attrs.define(eq=False)
class Order:
    """One order and what its callers were told.

    Attributes:
        number: Its number.
        ids: How often each id was returned for it; there should be one.
        replies: How often each other reply came: a status or the name of an error.
        first_at: When it was first asked for, by the loop's clock.
        told_at: When an id was first returned.
    """

    number: int
    ids: Counter[str] = attrs.field(factory=Counter)
    replies: Counter[str] = attrs.field(factory=Counter)
    first_at: float | None = None
    told_at: float | None = None

    @property
    def asked(self) -> int:
        """How often it was asked for."""
        return self.ids.total() + self.replies.total()

    @property
    def took(self) -> float:
        """Seconds from the first request until an id was returned."""
        if self.first_at is None or self.told_at is None:
            return float("inf")
        return self.told_at - self.first_at


class Caller:
    """Asks for one order.

    Args:
        url: The backend.
        order: The order.
        seed: Determines what it does.
    """

    def __init__(self, url: str, order: Order, seed: int) -> None:
        self._url, self.order = url, order
        self._rng = random.Random(seed)

    async def storm(self) -> None:
        """Ask up to five times, in one of the styles."""
        count, style = self._rng.randint(1, MOST), self._rng.choice(STYLES)
        async with self._client() as http:
            if style == "after errors":
                for _ in range(MOST):
                    await self._ask(http)
                    if self.order.ids:
                        return
                    await anyio.sleep(self._rng.uniform(0.0, 1.0))
                return
            async with anyio.create_task_group() as group:
                for _ in range(count):
                    group.start_soon(self._ask, http)
                    if style == "staggered":
                        await anyio.sleep(self._rng.uniform(0.1, 1.5))

    async def once(self) -> bool:
        """Ask once more; returns whether an id came back."""
        async with self._client() as http:
            before = self.order.ids.total()
            await self._ask(http, waits=False, within=None)
        return self.order.ids.total() > before

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self._url, timeout=READ_TIMEOUT, verify=_TLS, trust_env=False
        )

    async def _ask(
        self,
        http: httpx.AsyncClient,
        *,
        waits: bool | None = None,
        within: float | None = -1.0,
    ) -> None:
        order = self.order
        if order.first_at is None:
            order.first_at = anyio.current_time()
        if waits is None:
            waits = self._rng.random() < 0.5
        if within == -1.0:
            soon = self._rng.uniform(0.0, 0.5)
            within = soon if self._rng.random() < 0.15 else None
        query: dict[str, str | float] = {"waits": str(waits)}
        if within is not None:
            query["within"] = within
        try:
            response = await http.post(f"/orders/{order.number}", params=query)
            body = response.json()
        except (httpx.TransportError, ValueError) as error:
            order.replies[type(error).__name__] += 1
            return
        self._note(response.status_code, body)

    def _note(self, status: int, body: dict[str, object]) -> None:
        order, error = self.order, body.get("error")
        ident = body.get("id")
        name = str(status)
        if isinstance(error, dict):
            name = f"{status} {error['code']}"
            if error["code"] == "generation_failed":
                ident = error.get("generation_id")
        if not isinstance(ident, str):
            order.replies[name] += 1
            return
        order.ids[ident] += 1
        if order.told_at is None:
            order.told_at = anyio.current_time()
