"""One in-process request: the service's end (ASGI) and the client's end.

The two run in different tasks. When the client disconnects, the service goes on and its
response is dropped, as on a socket. A slow client blocks the service after a few
chunks.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import anyio

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    Message = MutableMapping[str, Any]

CHUNKS_ON_THE_WAY = 4


class Exchange:
    """Carries a request body in, and ASGI messages out."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._received = False
        self._messages: deque[Message] = deque()
        self._changed: anyio.Event | None = None  # made for whoever waits
        self.hung_up: bool = False
        self.ended: bool = False
        self.was_reset: bool = False

    # The service's end.

    async def receive(self) -> Message:
        """ASGI ``receive``: the whole body, then a disconnect."""
        if not self._received:
            self._received = True
            return {"type": "http.request", "body": self._body, "more_body": False}
        while not self.hung_up:
            await self._next_change()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """ASGI ``send``; drops the message if the client has disconnected."""
        while len(self._messages) >= CHUNKS_ON_THE_WAY and not self.hung_up:
            await self._next_change()
        if not self.hung_up:
            self._messages.append(message)
            self._notify()

    def break_off(self, *, reset: bool) -> None:
        """Break the connection from the service's side."""
        self.was_reset = reset
        self.end()

    def end(self) -> None:
        """End the response: nothing more will be sent."""
        self.ended = True
        self._notify()

    # The client's end.

    async def next_message(self) -> Message | None:
        """The next message, or ``None`` at the end of the response."""
        while not self._messages:
            if self.ended:
                return None
            await self._next_change()
        message = self._messages.popleft()
        self._notify()
        return message

    def hang_up(self) -> None:
        """Disconnect; the service goes on."""
        self.hung_up = True
        self._messages.clear()
        self._notify()

    async def _next_change(self) -> None:
        if self._changed is None:
            self._changed = anyio.Event()
        await self._changed.wait()

    def _notify(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.set()
