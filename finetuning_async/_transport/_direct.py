"""A call on connections of our own: no layer of httpx above it.

Half of what `httpx.AsyncClient.get` costs is spent on what a client of one API has no
use for: merging URLs and headers, redirects, cookies, hooks. Here the headers are made
once, by httpx, and put on each request as they are. A client with `http_client=` or
behind a proxy does not come here: httpx serves it whole.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import httpcore
import httpx

from finetuning_async._transport._bodies import read_body
from finetuning_async._transport._connections import Connections
from finetuning_async._transport._failures import as_httpx
from finetuning_async._transport._stream import OnePiece

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterable

    from finetuning_async._evidence import Trace
    from finetuning_async._headers import Headers
    from finetuning_async._secrets import ApiKey
    from finetuning_async._transport._bodies import Body
    from finetuning_async._wire import Call

    Reply: TypeAlias = tuple[int, dict[str, str], Body]
    """Status, headers with names in lower case, body."""

_FAILURES: Final = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
)

_NO_BODY: Final = OnePiece()
_JSON: Final = (b"Content-Type", b"application/json")


class Direct:
    """Sends calls to one base URL.

    Args:
        sample: A request to the base URL as httpx makes it; all have its headers.
        tls: For ``https``.
    """

    def __init__(self, sample: httpx.Request, tls: ssl.SSLContext) -> None:
        url = sample.url
        self._address: dict[str, Any] = {
            "scheme": url.raw_scheme,
            "host": url.raw_host,
            "port": url.port,
        }
        self._prefix = url.raw_path.rstrip(b"/")
        self._headers = list(sample.headers.raw)
        self._connections = Connections(httpcore.URL(**self._address).origin, tls)

    async def send(
        self,
        call: Call,
        key: ApiKey | None,
        timeout: dict[str, Any],
        trace: Trace,
        *,
        own: Headers | None = None,
    ) -> Reply:
        """Send a call and read its answer whole.

        Args:
            call: What to send.
            key: The API key, if it goes with it.
            timeout: For each step, in the spelling of httpx.
            trace: Told right before the first byte leaves.
            own: The caller's own headers, in the place of ours of the same name.

        Raises:
            httpx.HTTPError: There is no answer.
        """
        request = self._request(call, timeout)
        trace.seen = True
        try:
            if key is not None:
                request.headers.append((b"X-API-Key", key.reveal().encode()))
            if own is not None:
                request.headers[:] = own.over(request.headers)
            return await self._connections.exchange(request, trace, _reply)
        except _FAILURES as error:
            raise as_httpx(error) from None
        finally:
            request.headers.clear()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._connections.aclose()

    def _request(self, call: Call, timeout: dict[str, Any]) -> httpcore.Request:
        target = call.path
        if call.query:
            target += f"?{httpx.QueryParams(dict(call.query))}"
        request = httpcore.Request(
            call.method,
            httpcore.URL(**self._address, target=self._prefix + target.encode("ascii")),
            content=_NO_BODY,
            extensions={"timeout": timeout},
        )
        # Given to its constructor they would be checked and copied, one by one.
        request.headers = [*self._headers]
        if call.body is not None:
            content = json.dumps(call.body).encode()
            length = (b"Content-Length", b"%d" % len(content))
            request.headers += (_JSON, length)
            request.stream = OnePiece(content)
        return request


async def _reply(response: httpcore.Response) -> Reply:
    headers: dict[str, str] = {}
    for raw_name, raw_value in response.headers:
        name, value = raw_name.decode("ascii").lower(), _text(raw_value)
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    stream = cast("AsyncIterable[bytes]", response.stream)
    body = await read_body(stream, headers.get("content-encoding"))
    return response.status, headers, body


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("iso-8859-1")
