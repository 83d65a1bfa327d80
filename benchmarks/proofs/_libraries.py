"""The HTTP library of a proof: httpx or httpx2, each connected to the emulator."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import httpx
import httpx2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from finetuning_async.emulator import Emulator

Library: TypeAlias = Literal["httpx", "httpx2"]
LIBRARIES: Final[tuple[Library, ...]] = ("httpx", "httpx2")


def in_process(emulator: Emulator, library: Library) -> Any:
    """A client that is connected to the emulator, in this process."""
    if library == "httpx":
        return httpx.AsyncClient(transport=emulator.transport())
    return httpx2.AsyncClient(transport=_OverHttpx(emulator.transport()))


@asynccontextmanager
async def on_the_network(library: Library) -> AsyncIterator[Any]:
    """A client of httpx2 to pass in; `None` for httpx: then the client makes one."""
    if library == "httpx":
        yield None
        return
    async with httpx2.AsyncClient() as http:
        yield http


class _OverHttpx(httpx2.AsyncBaseTransport):
    """Sends requests of httpx2 over a transport of httpx."""

    def __init__(self, carrier: httpx.AsyncBaseTransport) -> None:
        self._carrier = carrier

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request.

        Raises:
            httpx2.TransportError: Where the transport raises that of httpx.
        """
        carried = httpx.Request(
            request.method,
            str(request.url),
            headers=request.headers.raw,
            content=await request.aread(),
            extensions=request.extensions,
        )
        with _as_httpx2():
            response = await self._carrier.handle_async_request(carried)
        return httpx2.Response(
            response.status_code,
            headers=response.headers.raw,
            stream=_Body(response.stream),
            extensions=response.extensions,
        )


class _Body(httpx2.AsyncByteStream):
    """The body of a response that httpx carries."""

    def __init__(self, carried: Any) -> None:
        self._carried = carried

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _as_httpx2():
            async for piece in self._carried:
                yield piece

    async def aclose(self) -> None:
        """Close it."""
        await self._carried.aclose()


@contextmanager
def _as_httpx2() -> Iterator[None]:
    """Raise the errors of httpx2 with the same names as those of httpx."""
    try:
        yield
    except httpx.TransportError as error:
        raise getattr(httpx2, type(error).__name__)(str(error)) from error
