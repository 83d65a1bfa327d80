"""One after another: creates that a list could not tell apart."""

from __future__ import annotations

from collections import deque
from typing import TypeAlias

import anyio

_Identity: TypeAlias = tuple[object, ...]


class KeyedLock:
    """Lets orders of one identity through one after another, in their order."""

    def __init__(self) -> None:
        self._waiting: dict[_Identity, deque[anyio.Event]] = {}

    def __repr__(self) -> str:
        return f"<OneByOne busy={len(self._waiting)}>"

    async def enter(self, identity: _Identity) -> None:
        """Wait until nobody else of this identity is inside; end it with `leave`.

        Cancelled here, the turn goes to the next.
        """
        waiting = self._waiting.get(identity)
        if waiting is None:
            self._waiting[identity] = deque()
            return
        turn = anyio.Event()
        waiting.append(turn)
        try:
            await turn.wait()
        except BaseException:
            if turn.is_set():
                self.leave(identity)
            else:
                waiting.remove(turn)
            raise

    def leave(self, identity: _Identity) -> None:
        """Let the next one in."""
        waiting = self._waiting[identity]
        if waiting:
            waiting.popleft().set()
        else:
            del self._waiting[identity]
