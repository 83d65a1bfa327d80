"""Sends a call, and determines what is known when it fails.

A request without a response leaves one of two kinds of evidence, see `_delivery`. The
HTTP library's ``trace`` extension reports when the first byte leaves. A transport that
does not call it (a mock, a caller's own) leaves all failures unknown except for connect
and pool errors.

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
from finetuning_async._http._exception_map import (
    clear_tracebacks,
    permanent_failure_advice,
)
from finetuning_async._http._headers import Headers
from finetuning_async._http._http_clients import ClientPool, PooledClient
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

    _Received: TypeAlias = tuple[int, dict[str, str], Body]
    """Status, headers with names in lower case, body."""

KEY_HEADER: Final = "X-API-Key"


@attrs.frozen(kw_only=True, eq=False)
class Transport:
    """Sends calls to one base URL with one key.

    Attributes:
        pool: The connections, shared by all `with_options` views of a client.
        base_url: Without a trailing slash.
        key: The API key; `None` sends none.
        timeout: For one attempt on the wire: for each of its steps; the longest of them
            also bounds the attempt as a whole.
        headers: The caller's own headers; `None` for none.
        concurrency: The request slots of the account.
    """

    pool: ClientPool
    base_url: str
    key: ApiKey | None
    timeout: Timeout
    headers: Headers | None = None
    concurrency: Concurrency = attrs.field(factory=Concurrency, repr=False)

    @property
    def max_read_time(self) -> float:
        """The longest time to wait for the response to a read, in seconds."""
        read = self.timeout.read
        return inf if read is None else read

    def send(
        self,
        call: Call,
        *,
        seconds_left: float | None = None,
        tracker: SendTracker | None = None,
        on_unsent: Callable[[], None] = lambda: None,
    ) -> Coroutine[Any, Any, Response]:
        """Send one call and read its whole response.

        Args:
            call: The call.
            seconds_left: A bound on the attempt, in addition to `timeout`.
            tracker: Follows the request, and may stop it before its first byte leaves.
            on_unsent: Called once it is known that no byte left, where a cancellation
                may yet take the place of the error that says so.

        Raises:
            NoResponse: There is no response; it carries the evidence.
            ClientClosedError: The client was closed; raised by the call itself, before
                the await.
        """
        self.pool.check_open()
        steps = _steps(self.timeout, seconds_left)
        return self._send(call, steps, tracker or SendTracker(lambda: True), on_unsent)

    async def _send(
        self,
        call: Call,
        steps: dict[str, float | None],
        tracker: SendTracker,
        on_unsent: Callable[[], None],
    ) -> Response:
        slots = self.concurrency.slots_for(call, few=self.pool.keeps_few)
        if slots.free:
            await slots.acquire()
        else:
            tracker.wait_to_send()
            await _wait_for_slot(slots, steps["pool"], on_unsent)
        pooled = response = None
        try:
            pooled = self.pool.acquire()
            response = await self._exchange(pooled, call, steps, tracker, on_unsent)
        finally:
            slots.release()
            if pooled is not None:
                try:
                    await self.pool.release(pooled)
                except anyio.get_cancelled_exc_class():
                    # What a create has cost is known now. Its caller goes on no longer
                    # than it needs to record that: see `ShieldedCall`.
                    if response is None or call.repeatable:
                        raise
        return response

    async def _exchange(
        self,
        pooled: PooledClient,
        call: Call,
        steps: dict[str, float | None],
        tracker: SendTracker,
        on_unsent: Callable[[], None],
    ) -> Response:
        failure: NoResponse | None = None
        sent_at = anyio.current_time()
        tracker.deadline = sent_at + _longest(steps)
        try:
            with own_requests():
                status, headers, body = await self._send_and_read(
                    pooled.client, call, steps, tracker
                )
        except Exception as error:
            failure = self._no_response(call, steps, tracker, error)
            if failure.evidence == "not_sent":  # it may be cancelled before it says so
                on_unsent()
            if isinstance(error, TimeoutError) and not tracker.first_byte_sent:
                # Our own bound on the attempt cancelled the library while it connected.
                # Its own timeouts are other classes, and after those it cleans up.
                await self.pool.discard(pooled, tracker)
        except BaseException as cancelled:
            clear_tracebacks(cancelled)
            # Silence of the tracker proves something only if this transport was ever
            # seen to call one: a mock may have sent the request without a word.
            if tracker.evidence(is_traced=self.pool.is_traced) == "not_sent":
                on_unsent()
            if not tracker.connection_released:
                await self.pool.discard(pooled, tracker)
            raise
        finally:
            self.pool.is_traced |= tracker.was_traced
        if failure is not None:
            # Raised out of the handler: otherwise its context would be the library's
            # error, with the request and the key in its frames.
            raise failure
        return Response(
            status=status,
            headers=headers,
            content=body.content,
            is_cut=body.is_cut,
            sent_at=sent_at,
            received_at=anyio.current_time(),
        )

    async def _send_and_read(
        self, client: Any, call: Call, timeout: dict[str, Any], tracker: SendTracker
    ) -> _Received:
        request = self._request(client, call, timeout, tracker)
        without_secrets = request.headers
        try:
            request.headers = self._with_secrets(without_secrets, call)
            with anyio.CancelScope(deadline=tracker.deadline):
                response = await self._response(client, request)
                return await _read(response)
        finally:
            # The library's errors refer to the request.
            request.headers = without_secrets
        raise TimeoutError  # the scope ended it: not one step, but all of them together

    def _request(
        self, client: Any, call: Call, timeout: dict[str, Any], tracker: SendTracker
    ) -> Any:
        """The request, without the key. A caller's client adds what it likes."""
        library = self.pool.library
        content = b"" if call.body is None else json.dumps(call.body).encode()
        text = self.base_url + call.path
        if call.query:
            text += f"?{urlencode(call.query)}"
        url, extensions = library.url(text), {"timeout": timeout, "trace": tracker}
        ours = library.json_headers if content else library.plain_headers
        if self.pool.is_external and _adds_more_than_headers(client, library):
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
            stream=library.BytesBody(content),
            extensions=extensions,
        )
        if "Content-Length" in headers:
            request.headers["Content-Length"] = str(len(content))
        # Hooks can use `request.content`, as with requests that the library makes.
        request.read()
        return request

    def _with_secrets(self, headers: Any, call: Call) -> Any:
        """A copy of the headers of a request, with the key and the caller's own."""
        headers = type(headers)(headers)
        if call.needs_key and self.key is not None:
            headers[KEY_HEADER] = self.key.reveal()
        if self.headers is not None:
            headers.update(self.headers.reveal())
        return headers

    async def _response(self, client: Any, request: Any) -> Any:
        """Send a request, and return its response even if a caller's hook raises.

        httpx's documentation suggests a hook that calls `raise_for_status`. What an
        error status means is decided by `Pipeline.raise_for_status`.
        """
        try:
            if not self.pool.is_external:
                return await client.send(request, stream=True)
            return await _cookies.send(client, request, stream=True)
        except self.pool.library.status_errors as error:
            return error.response

    def _no_response(
        self,
        call: Call,
        steps: dict[str, float | None],
        tracker: SendTracker,
        error: Exception,
    ) -> NoResponse:
        """Convert an exception of the HTTP library to what it proves.

        Raises:
            Exception: The error itself, if it is not a network error and nothing can be
                lost by raising it: a bug in a caller's transport. Around a create even
                a bug leaves the outcome unknown, so it is converted.
        """
        library = self.pool.library
        known = (*library.network_errors, SendAborted)
        if not isinstance(error, known) and call.repeatable:
            clear_tracebacks(error)
            raise error
        timed_out = isinstance(error, library.timeout_errors)
        is_unsent = isinstance(error, library.unsent_errors)
        evidence = tracker.evidence(proves_unsent=is_unsent)
        if timed_out and not is_unsent and anyio.current_time() >= tracker.deadline:
            reason = f"the response was not complete within {_longest(steps):g} s"
            return NoResponse(evidence, timed_out=True, reason=reason)
        text = str(error).partition("\n")[0]
        if self.key is not None:
            text = text.replace(self.key.reveal(), MASK)
        name = type(error).__name__.removeprefix("_")
        reason = f"{name}: {scrub(text)}" if text else name
        advice = permanent_failure_advice(error, library)
        return NoResponse(
            evidence,
            timed_out=timed_out,
            reason=f"{reason}; {advice}" if advice else reason,
            is_permanent=advice is not None,
        )

    async def retire(self) -> None:
        """Use fresh connections from now on, see `ClientPool.retire`."""
        self.pool.retire()
        await self.pool.close_retired()

    def stream(
        self,
        url: str,
        *,
        offset: int = 0,
        until: int | None = None,
        version: FileVersion | None = None,
    ) -> AbstractAsyncContextManager[MediaStream]:
        """Open a file of the media host, see `open_media`."""
        from finetuning_async._http._media_stream import open_media  # few need it

        return open_media(
            self.pool,
            self.timeout,
            url,
            base_url=self.base_url,
            offset=offset,
            until=until,
            version=version,
        )


def _adds_more_than_headers(client: Any, library: Library) -> bool:
    """Whether a caller's client adds more to a request than its headers.

    If not, a request that is built here is the same, and saves a tenth of a call.
    """
    own = getattr(client.build_request, "__func__", None)
    is_changed = own is not library.build_request
    return is_changed or bool(client.params) or bool(client.cookies)


async def _wait_for_slot(
    slots: Slots, seconds: float | None, on_unsent: Callable[[], None]
) -> None:
    """Wait for a free slot; if cancelled, nothing was sent.

    Raises:
        NoResponse: No slot was free in time.
    """
    try:
        with anyio.move_on_after(seconds):
            await slots.acquire()
            return
    except BaseException:
        on_unsent()
        raise
    raise NoResponse(
        "not_sent",
        timed_out=True,
        reason=f"timed out after {seconds:g} s waiting for another request of the"
        " account to end",
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


async def _read(response: Any) -> _Received:
    """Read a response whole, and close it in any case."""
    try:
        headers = _headers_of(response)
        if response.is_stream_consumed:  # by a hook, or a caller's transport
            body = as_body(await response.aread())
        elif response.is_closed:  # a hook raised before it was read
            body = as_body(b"")
        else:
            coding = headers.get("content-encoding")
            body = await read_body(response.stream, coding)
        return response.status_code, headers, body
    finally:
        await response.aclose()


def _steps(timeout: Timeout, seconds: float | None) -> dict[str, float | None]:
    """The timeouts of the steps, each bounded by `seconds`."""
    parts = timeout.as_dict()
    if seconds is None:
        return parts
    return {
        part: seconds if value is None else min(value, seconds)
        for part, value in parts.items()
    }


def _longest(steps: dict[str, float | None]) -> float:
    """Seconds that an attempt may take as a whole: the longest of its steps.

    The library bounds each read by itself, so without this a response that arrives byte
    by byte would never end.
    """
    return max(inf if part is None else part for part in steps.values())
