"""One after another: creates that a list could not tell apart."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import attrs

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


@attrs.define
class _Line:
    """A lock, and how many hold it or wait for it."""

    lock: anyio.Lock = attrs.field(factory=lambda: anyio.Lock(fast_acquire=True))
    users: int = 0


class OneByOne:
    """Lets orders of one identity through one after another."""

    def __init__(self) -> None:
        self._lines: dict[tuple[object, ...], _Line] = {}

    def __repr__(self) -> str:
        return f"<OneByOne lines={len(self._lines)}>"

    @asynccontextmanager
    async def turn(self, identity: tuple[object, ...] | None) -> AsyncGenerator[None]:
        """Hold the turn of an identity; `None` shares with nobody."""
        if identity is None:
            yield
            return
        line = self._lines.setdefault(identity, _Line())
        line.users += 1
        try:
            async with line.lock:
                yield
        finally:
            line.users -= 1
            if not line.users:
                del self._lines[identity]
