"""Sends a call, and says what is known when it fails.

A request that got no answer leaves one of two kinds of evidence. *Not sent*: no byte of
it left (connection refused, DNS, no free connection); it may be sent again. *Unknown*:
bytes left, then time ran out or the connection broke; for a request that costs money,
sending it again would be a guess.

The ``trace`` extension of the HTTP library tells when the first byte leaves. A
transport that emits no trace (a mock, a caller's own) leaves everything but connect and
pool errors unknown.

The API key is put on the request here, at the last moment, and taken off again before
anything else can see the request: no exception and no traceback holds it.
"""

from __future__ import annotations

import json
from math import inf
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import urlencode

import anyio
import attrs

from finetuning_async._api import Response
from finetuning_async._http import _cookies
from finetuning_async._http._concurrency import Concurrency, Slots
from finetuning_async._http._delivery import NoResponse, SendAborted, SendTracker
from finetuning_async._http._exception_map import forget_frames, lasting_problem
from finetuning_async._http._headers import Headers
from finetuning_async._http._http_clients import ClientPool, Lent
from finetuning_async._http._response_body import as_body, read_body
from finetuning_async._http._timeouts import Timeout
from finetuning_async._logging import own_requests
from finetuning_async._secrets import MASK, ApiKey, scrub

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextlib import AbstractAsyncContextManager

    from finetuning_async._api import Call
    from finetuning_async._http._byte_ranges import FileVersion
    from finetuning_async._http._http_library import Library
    from finetuning_async._http._media_stream import MediaStream
    from finetuning_async._http._response_body import Body

    _Reply: TypeAlias = tuple[int, dict[str, str], Body]
    """Status, headers with names in lower case, body."""

KEY_HEADER: Final = "X-API-Key"


@attrs.frozen(kw_only=True, eq=False)
class Transport:
    """Sends calls to one base URL with one key.

    Attributes:
        pool: The connections, shared with other views.
        base_url: Without a trailing slash.
        key: The API key; `None` sends none.
        timeout: For one attempt on the wire: for each step of it, and the longest of
            them for all.
        headers: The caller's own; `None` for none.
        concurrency: The places on the wire of the account.
    """

    pool: ClientPool
    base_url: str
    key: ApiKey | None
    timeout: Timeout
    headers: Headers | None = None
    concurrency: Concurrency = attrs.field(factory=Concurrency, repr=False)

    @property
    def longest_read(self) -> float:
        """Seconds for which the answer to a read is waited for at most."""
        read = self.timeout.read
        return inf if read is None else read

    def send(
        self,
        call: Call,
        *,
        seconds_left: float | None = None,
        trace: SendTracker | None = None,
        on_unsent: Callable[[], None] = lambda: None,
    ) -> Coroutine[Any, Any, Response]:
        """Send one call and read its answer whole.

        Args:
            call: What to send.
            seconds_left: A bound on the attempt, beside `timeout`.
            trace: Hears of its way, and may stop it before the first byte leaves.
            on_unsent: Called if it was cancelled before its first byte left.

        Raises:
            NoAnswer: There is none; it says what is known.
            ClientClosedError: The client was closed; it comes before the await.
        """
        self.pool.check_open()
        steps = _steps(self.timeout, seconds_left)
        return self._send(call, steps, trace or SendTracker(lambda: True), on_unsent)

    async def _send(
        self,
        call: Call,
        steps: dict[str, float | None],
        trace: SendTracker,
        on_unsent: Callable[[], None],
    ) -> Response:
        place = self.concurrency.of(call, few=self.pool.keeps_few)
        if place.free:
            await place.take()
        else:
            await _wait_for(place, steps["pool"], on_unsent)
        lent = None
        try:
            lent = self.pool.lend()
            return await self._exchange(lent, call, steps, trace, on_unsent)
        finally:
            place.give_back()
            if lent is not None:
                await self.pool.take_back(lent)

    async def _exchange(
        self,
        lent: Lent,
        call: Call,
        steps: dict[str, float | None],
        trace: SendTracker,
        on_unsent: Callable[[], None],
    ) -> Response:
        failure: NoResponse | None = None
        sent_at = anyio.current_time()
        trace.until = sent_at + _longest(steps)
        try:
            with own_requests():
                status, headers, body = await self._reply(
                    lent.client, call, steps, trace
                )
        except Exception as error:
            failure = self._no_answer(call, steps, trace, error)
            if isinstance(error, TimeoutError) and not trace.left:
                await self.pool.abandon(lent, trace)  # the bound on it all cancelled it
        except BaseException as cancelled:
            forget_frames(cancelled)
            if trace.evidence(tells=self.pool.is_traced) == "not_sent":
                on_unsent()
            if not trace.is_given_back:
                await self.pool.abandon(lent, trace)
            raise
        finally:
            self.pool.is_traced |= trace.seen
        if failure is not None:  # out of the handler, so that no context clings to it
            raise failure
        return Response(
            status=status,
            headers=headers,
            content=body.content,
            is_cut=body.is_cut,
            sent_at=sent_at,
            received_at=anyio.current_time(),
        )

    async def _reply(
        self, client: Any, call: Call, timeout: dict[str, Any], trace: SendTracker
    ) -> _Reply:
        request = self._request(client, call, timeout, trace)
        without_secrets = request.headers
        try:
            request.headers = self._signed(without_secrets, call)
            with anyio.CancelScope(deadline=trace.until):
                response = await self._response(client, request)
                return await _read(response)
        finally:
            request.headers = without_secrets
        raise TimeoutError

    def _request(
        self, client: Any, call: Call, timeout: dict[str, Any], trace: SendTracker
    ) -> Any:
        """The request, without the key. A caller's client adds what it likes."""
        library = self.pool.library
        content = b"" if call.body is None else json.dumps(call.body).encode()
        text = self.base_url + call.path
        if call.query:
            text += f"?{urlencode(call.query)}"
        url, extensions = library.url(text), {"timeout": timeout, "trace": trace}
        ours = library.of_json if content else library.plain
        if self.pool.is_given and _adds_more_than_headers(client, library):
            return client.build_request(
                call.method,
                url,
                content=content or None,
                headers=ours,
                extensions=extensions,
            )
        headers = self.pool.headers(client, call.method, self.base_url, ours)
        request = library.Request(
            call.method,
            url,
            headers=headers,
            stream=library.OnePiece(content),
            extensions=extensions,
        )
        if "Content-Length" in headers:
            request.headers["Content-Length"] = str(len(content))
        request.read()  # so hooks find its content, as in one that the library makes
        return request

    def _signed(self, headers: Any, call: Call) -> Any:
        """A copy of the headers of a request, with all that is secret in them."""
        headers = type(headers)(headers)
        if call.needs_key and self.key is not None:
            headers[KEY_HEADER] = self.key.reveal()
        if self.headers is not None:
            headers.update(self.headers.reveal())
        return headers

    async def _response(self, client: Any, request: Any) -> Any:
        """Send a request, and get its response whatever a hook of the caller's says.

        One that calls `raise_for_status` is in httpx's own documentation; what an error
        means is judged here.
        """
        try:
            if not self.pool.is_given:
                return await client.send(request, stream=True)
            return await _cookies.send(client, request, stream=True)
        except self.pool.library.status_errors as error:
            return error.response

    def _no_answer(
        self,
        call: Call,
        steps: dict[str, float | None],
        trace: SendTracker,
        error: Exception,
    ) -> NoResponse:
        """Say what an exception of the HTTP library proves.

        Raises:
            Exception: The error itself, where it is none of the network's and nothing
                can be lost by showing it: a bug in a transport of the caller's.
        """
        library = self.pool.library
        if not isinstance(error, (*library.network, SendAborted)) and call.repeatable:
            forget_frames(error)
            raise error
        timed_out = isinstance(error, library.timeouts)
        is_unsent = isinstance(error, library.unsent)
        evidence = trace.evidence(proves_unsent=is_unsent)
        if timed_out and not is_unsent and anyio.current_time() >= trace.until:
            reason = f"the answer did not end within {_longest(steps):g} s"
            return NoResponse(evidence, timed_out=True, reason=reason)
        text = str(error).partition("\n")[0]
        if self.key is not None:
            text = text.replace(self.key.reveal(), MASK)
        name = type(error).__name__.removeprefix("_")
        reason = f"{name}: {scrub(text)}" if text else name
        advice = lasting_problem(error, library)
        return NoResponse(
            evidence,
            timed_out=timed_out,
            reason=f"{reason}; {advice}" if advice else reason,
            lasts=advice is not None,
        )

    async def retire(self) -> None:
        """Use fresh connections from here on, as `ClientPool.retire`."""
        self.pool.retire()
        await self.pool.close_retired()

    def stream(
        self, url: str, *, offset: int = 0, version: FileVersion | None = None
    ) -> AbstractAsyncContextManager[MediaStream]:
        """Open a file of the media host, as `open_media`."""
        from finetuning_async._http._media_stream import open_media  # few need it

        return open_media(
            self.pool,
            self.timeout,
            url,
            base_url=self.base_url,
            offset=offset,
            version=version,
        )


def _adds_more_than_headers(client: Any, library: Library) -> bool:
    """Whether a caller's client does more to a request than to add its headers.

    If not, a request made here is the same, at a tenth of the cost of a call.
    """
    own = getattr(client.build_request, "__func__", None)
    return own is not library.build or bool(client.params) or bool(client.cookies)


async def _wait_for(
    place: Slots, seconds: float | None, on_unsent: Callable[[], None]
) -> None:
    """Wait for a place on the wire; cancelled, nothing was sent.

    Raises:
        NoAnswer: None was free in time.
    """
    try:
        with anyio.move_on_after(seconds):
            await place.take()
            return
    except BaseException:
        on_unsent()
        raise
    raise NoResponse(
        "not_sent",
        timed_out=True,
        reason=f"no other request of the account ended within {seconds:g} s",
    )


def _headers_of(response: Any) -> dict[str, str]:
    """The headers of a response, names in lower case."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in response.headers.raw:
        name, value = raw_name.decode("ascii").lower(), _text(raw_value)
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("iso-8859-1")


async def _read(response: Any) -> _Reply:
    """What an answer holds; closed, whatever happens."""
    try:
        headers = _headers_of(response)
        if response.is_stream_consumed:  # by a hook, or a transport of the caller's
            body = as_body(await response.aread())
        elif response.is_closed:  # by the error of a hook, before it was read
            body = as_body(b"")
        else:
            coding = headers.get("content-encoding")
            body = await read_body(response.stream, coding)
        return response.status_code, headers, body
    finally:
        await response.aclose()


def _steps(timeout: Timeout, seconds: float | None) -> dict[str, float | None]:
    """The parts of a timeout, each bounded."""
    parts = timeout.as_dict()
    if seconds is None:
        return parts
    return {
        part: seconds if value is None else min(value, seconds)
        for part, value in parts.items()
    }


def _longest(steps: dict[str, float | None]) -> float:
    """Seconds that an attempt may take in all: as many as its longest step.

    The library bounds each read by itself, so an answer that drips would never end.
    """
    return max(inf if part is None else part for part in steps.values())
