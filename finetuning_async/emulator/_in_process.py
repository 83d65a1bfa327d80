"""One request in-process: the service's end (ASGI) and the client's end of a line.

The two run in different tasks. The client may hang up at any time; the service then
goes on and its answer is dropped, as on a socket. A slow client holds the service up
after a few chunks.
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
    """A request body on its way in, ASGI messages on their way out."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._received = False
        self._messages: deque[Message] = deque()
        self._changed = anyio.Event()
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
            await self._changed.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """ASGI ``send``; drops what a client that hung up will not read."""
        while len(self._messages) >= CHUNKS_ON_THE_WAY and not self.hung_up:
            await self._changed.wait()
        if not self.hung_up:
            self._messages.append(message)
            self._tell()

    def break_off(self, *, reset: bool) -> None:
        """Break the line from the service's side."""
        self.was_reset = reset
        self.end()

    def end(self) -> None:
        """Nothing more will be sent."""
        self.ended = True
        self._tell()

    # The client's end.

    async def next_message(self) -> Message | None:
        """The next message, or ``None`` when the line ended."""
        while not self._messages:
            if self.ended:
                return None
            await self._changed.wait()
        message = self._messages.popleft()
        self._tell()
        return message

    def hang_up(self) -> None:
        """Stop listening; the service is not stopped by it."""
        self.hung_up = True
        self._messages.clear()
        self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()
