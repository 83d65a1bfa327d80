"""Sends a call, and says what is known when it fails.

A request that got no answer leaves one of two kinds of evidence. *Not sent*: no byte of
it left (connection refused, DNS, no free connection); it may be sent again. *Unknown*:
bytes left, then time ran out or the connection broke; for a request that costs money,
sending it again would be a guess.

A call goes over connections of our own, which say when its bytes leave, or through
httpx, whose ``trace`` extension tells: httpcore calls it at each step. A transport that
emits no trace (a mock, a caller's own) leaves everything but connect and pool errors
unknown.

The API key is put on the request here, at the last moment, and taken off again before
anything else can see the request: no exception and no traceback holds it.
"""

from __future__ import annotations

import json
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import anyio
import attrs
import httpx

from finetuning_async._errors import ClientClosedError
from finetuning_async._evidence import NoAnswer, Trace, Withdrawn
from finetuning_async._headers import Headers
from finetuning_async._log_setup import told_by_us
from finetuning_async._secrets import MASK, ApiKey, scrub
from finetuning_async._shield import Guarded
from finetuning_async._transport import _cookies
from finetuning_async._transport._bodies import as_body, read_body
from finetuning_async._transport._failures import (
    BEFORE_THE_FIRST_BYTE,
    NETWORK_ERRORS,
    forget_frames,
    lasting_problem,
)
from finetuning_async._transport._pool import HEADERS, Pool
from finetuning_async._wire import Answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from contextlib import AbstractAsyncContextManager

    from finetuning_async._transport._bodies import Body
    from finetuning_async._transport._direct import Reply
    from finetuning_async._transport._media import MediaStream
    from finetuning_async._transport._versions import Version
    from finetuning_async._wire import Call

    _Send: TypeAlias = Callable[
        [Call, ApiKey | None, dict[str, Any], Trace], Awaitable[Reply]
    ]

KEY_HEADER: Final = "X-API-Key"

CONNECTING: Final = 1.0
"""Seconds for which a cancelled read may go on until its connection is in use.

httpx 0.28 with httpcore 1.0 loses a pool slot for ever when a request is cancelled
between being given a new connection and using it."""


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
    """

    pool: Pool
    base_url: str
    key: ApiKey | None
    timeout: httpx.Timeout
    headers: Headers | None = None

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
        still_wanted: Callable[[], bool] = lambda: True,
        on_unsent: Callable[[], None] = lambda: None,
    ) -> Coroutine[Any, Any, Answer]:
        """Send one call and read its answer whole.

        Args:
            call: What to send.
            seconds_left: A bound on the attempt, beside `timeout`.
            still_wanted: Asked right before the first byte leaves, of a call that is
                not repeatable; if not, it is not sent.
            on_unsent: Called if it was cancelled before its first byte left.

        Raises:
            NoAnswer: There is none; it says what is known.
            ClientClosedError: The client was closed; it comes before the await.
        """
        steps = _steps(self.timeout, seconds_left)
        direct = self.pool.direct(self.base_url)
        send: _Send = self._by_httpx
        if direct is not None:
            send = direct.send
            if self.headers is not None:
                send = partial(direct.send, own=self.headers)
        elif call.repeatable and self.pool.is_traced:
            return self._send_held(call, steps)
        return self._send(send, call, steps, Trace(still_wanted), on_unsent)

    async def _send_held(self, call: Call, steps: dict[str, float | None]) -> Answer:
        """Send; cancelled before the first byte left, in a way that the pool bears."""

        async def work(guarded: Guarded[Answer]) -> Answer:
            await guarded.checkpoint()
            trace = Trace(lambda: not guarded.caller_left, guarded.release)
            with guarded.held():
                return await self._send(self._by_httpx, call, steps, trace)
            await anyio.sleep_forever()  # the caller was cancelled, and so is this
            raise AssertionError("unreachable")

        return await Guarded(work, grace=CONNECTING).run()

    async def _send(
        self,
        send: _Send,
        call: Call,
        steps: dict[str, float | None],
        trace: Trace,
        on_unsent: Callable[[], None] = lambda: None,
    ) -> Answer:
        failure: NoAnswer | None = None
        key = self.key if call.needs_key else None
        sent_at = anyio.current_time()
        trace.until = sent_at + _longest(steps)
        try:
            with told_by_us():
                status, headers, body = await send(call, key, steps, trace)
        except ClientClosedError:
            raise
        except Exception as error:
            failure = self._no_answer(call, trace, error)
            proves_unsent = isinstance(error, BEFORE_THE_FIRST_BYTE)
            is_over = failure.timed_out and anyio.current_time() >= trace.until
            if is_over and not proves_unsent:
                failure = _too_slow(trace, steps)
        except BaseException as cancelled:
            forget_frames(cancelled)
            if trace.evidence() == "not_sent":
                on_unsent()
            raise
        finally:
            self.pool.is_traced |= trace.seen
        if failure is not None:  # out of the handler, so that no context clings to it
            raise failure
        return Answer(
            status=status,
            headers=headers,
            content=body.content,
            is_cut=body.is_cut,
            sent_at=sent_at,
            received_at=anyio.current_time(),
        )

    async def _by_httpx(
        self, call: Call, key: ApiKey | None, timeout: dict[str, Any], trace: Trace
    ) -> Reply:
        """Send a call with all that a client of httpx does; as `Direct.send`."""
        client = self.pool.client()
        async with self.pool.using(client):
            request = _build(client, self.base_url, call, timeout, trace)
            try:
                if key is not None:
                    request.headers[KEY_HEADER] = key.reveal()
                if self.headers is not None:
                    request.headers.update(self.headers.reveal())
                with anyio.fail_after(trace.until - anyio.current_time()):
                    response = await _exchange(client, request)
                    body = await _body_of(response)
            finally:
                request.headers.pop(KEY_HEADER, None)
                if self.headers is not None:
                    for name in self.headers.reveal():
                        request.headers.pop(name, None)
        return response.status_code, dict(response.headers.items()), body

    def _no_answer(self, call: Call, trace: Trace, error: Exception) -> NoAnswer:
        """Say what an exception of the HTTP library proves.

        Raises:
            Exception: The error itself, where it is none of the network's and nothing
                can be lost by showing it: a bug in a transport of the caller's.
        """
        if not isinstance(error, (*NETWORK_ERRORS, Withdrawn)) and call.repeatable:
            forget_frames(error)
            raise error
        text = str(error).partition("\n")[0]
        if self.key is not None:
            text = text.replace(self.key.reveal(), MASK)
        name = type(error).__name__.removeprefix("_")
        reason = f"{name}: {scrub(text)}" if text else name
        advice = lasting_problem(error)
        return NoAnswer(
            trace.evidence(proves_unsent=isinstance(error, BEFORE_THE_FIRST_BYTE)),
            timed_out=isinstance(error, httpx.TimeoutException | TimeoutError),
            reason=f"{reason}; {advice}" if advice else reason,
            lasts=advice is not None,
        )

    async def retire(self) -> None:
        """Use fresh connections from here on, as `Pool.retire`."""
        await self.pool.retire()

    def stream(
        self, url: str, *, offset: int = 0, version: Version | None = None
    ) -> AbstractAsyncContextManager[MediaStream]:
        """Open a file of the media host, as `open_media`."""
        from finetuning_async._transport._media import open_media  # few need it

        return open_media(
            self.pool,
            self.timeout,
            url,
            base_url=self.base_url,
            offset=offset,
            version=version,
        )


async def _body_of(response: httpx.Response) -> Body:
    """What an answer holds; closed, whatever happens."""
    try:
        if response.is_stream_consumed:  # by a hook, or a transport of the caller's
            return as_body(await response.aread())
        if response.is_closed:  # by the error of a hook, before it was read
            return as_body(b"")
        coding = response.headers.get("content-encoding")
        return await read_body(response.aiter_raw(), coding)
    finally:
        await response.aclose()


def _steps(timeout: httpx.Timeout, seconds: float | None) -> dict[str, float | None]:
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

    httpx bounds each read by itself, so an answer that drips would never end.
    """
    return max(inf if part is None else part for part in steps.values())


def _build(
    client: httpx.AsyncClient,
    base_url: str,
    call: Call,
    timeout: dict[str, Any],
    trace: Trace,
) -> httpx.Request:
    """The request, without the key."""
    headers = dict(HEADERS)
    if call.body is not None:
        headers["Content-Type"] = "application/json"
    return client.build_request(
        call.method,
        base_url + call.path,
        params=call.query or None,
        content=None if call.body is None else json.dumps(call.body).encode(),
        headers=headers,
        extensions={"timeout": timeout, "trace": trace},
    )


async def _exchange(
    client: httpx.AsyncClient, request: httpx.Request
) -> httpx.Response:
    """Send a request, and get its response whatever a hook of the caller's says to it.

    One that calls `raise_for_status` is in httpx's own documentation; what an error
    means is judged here.
    """
    try:
        return await _cookies.send(client, request, stream=True)
    except httpx.HTTPStatusError as error:
        return error.response


def _too_slow(trace: Trace, steps: dict[str, Any]) -> NoAnswer:
    return NoAnswer(
        trace.evidence(),
        timed_out=True,
        reason=f"the answer did not end within {_longest(steps):g} s",
    )
