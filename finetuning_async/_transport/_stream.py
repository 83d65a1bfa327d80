"""What goes into a connection of ours, and what comes out of it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

import httpcore

if TYPE_CHECKING:
    from finetuning_async._evidence import Trace


class Stream(httpcore.AsyncNetworkStream):
    """A stream on which the head and the body of a request leave in one piece.

    Args:
        stream: What it goes over.
        piece: Bytes to take at a time, at least, if so many have arrived.

    Attributes:
        trace: Hears when a request leaves, and says how long its answer may take.
    """

    trace: Trace

    def __init__(self, stream: httpcore.AsyncNetworkStream, piece: int) -> None:
        self._stream, self._piece = stream, piece
        self._held = b""
        self._write_timeout: float | None = None

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read what has arrived, when what was written has left.

        Each read has `timeout` seconds; one after another they would never end, so all
        of it has until `Trace.until`.
        """
        if self._held:
            if self.trace.bounded(None) == 0:
                raise httpcore.WriteTimeout("no time is left to send it")
            self.trace.leaves()
            held, self._held = self._held, b""
            with suppress(httpcore.WriteError):  # an answer may be there all the same
                await self._stream.write(held, self.trace.bounded(self._write_timeout))
        seconds = self.trace.bounded(timeout)
        return await self._stream.read(max(max_bytes, self._piece), seconds)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Hold it until something is read."""
        self._held, self._write_timeout = self._held + buffer, timeout

    async def aclose(self) -> None:
        """Close it."""
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        """What the network knows of it."""
        return self._stream.get_extra_info(info)


class OnePiece:
    """A body in one piece.

    httpcore would make an async generator of it, and a cancellation leave that undone.
    """

    __slots__ = ("_piece",)

    def __init__(self, piece: bytes = b"") -> None:
        self._piece = piece

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        piece, self._piece = self._piece, b""
        if not piece:
            raise StopAsyncIteration
        return piece
