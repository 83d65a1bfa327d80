"""`WebhookReceiver`: takes what the service posts, and has the poll loop look.

A delivery is unsigned, comes at most once, and may come twice, early or never. So it is
a hint: the token says that the URL is ours, the body says which track, and only what
the poll loop then reads decides. A token that leaks is worth `NOTICES_PER_TOKEN` looks.
"""

from __future__ import annotations

import json
import logging
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

import anyio

from finetuning_async._api import parsing
from finetuning_async._errors import APIResponseError, WebhookVerificationError
from finetuning_async.webhooks._access_log import hide_tokens
from finetuning_async.webhooks._asgi import BadBodyError, lifespan, read_body, respond
from finetuning_async.webhooks._tokens import (
    Tokens,
    keyed_by,
    nonce_of,
    token_of,
    with_token,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from finetuning_async._api import Generation, SoundEffect
    from finetuning_async._client import AsyncClient
    from finetuning_async.webhooks._asgi import Receive, Scope, Send

logger = logging.getLogger("finetuning_async")

MAX_BODY: Final = 256 * 1024
BODY_TIMEOUT: Final = 10.0
TOKENS_KEPT: Final = 65_536
"""Used tokens that are remembered, about 200 bytes each."""

NOTICES_PER_TOKEN: Final = 3
"""The end, once more, and one that came early."""


class WebhookReceiver:
    """Makes a URL per job, and is the ASGI application behind it.

        import os
        from starlette.applications import Starlette
        from starlette.routing import Route
        from finetuning_async.webhooks import WebhookReceiver

        receiver = WebhookReceiver(client, secrets=[os.environ["HOOK_SECRET"]])
        app = Starlette(routes=[Route("/hooks", receiver)])
        hook = receiver.url("https://me.example/hooks")
        track = await client.generate("rain", webhook=hook)

    In Starlette and FastAPI a ``Route`` answers at just its path. ``Mount("/hooks",
    app=receiver)`` and ``app.mount("/hooks", receiver)`` answer below it: there the URL
    ends in a slash, ``receiver.url("https://me.example/hooks/")``. Without the slash
    the framework answers a redirect by itself, and the receiver hears nothing.

    It answers a wrong token with an empty 404, a right one with 204 before anything
    else is done. It asks the service nothing: it calls `AsyncClient.mark_changed`, and
    the poll loop looks at the track within the shared read budget. Whatever is lost is
    found by polling.

    Any worker process knows the tokens of all that have the same secrets. A delivery
    that lands in another process than the one that waits tells it nothing; there
    polling finds the end.

    Args:
        client: Whose waiters are told.
        secrets: The newest first: it signs, and all are accepted. Each has at least 32
            characters. To change a secret, put the new one in front and drop the old
            one a day later.
        max_body: Bytes; a longer body is a 413.
        body_timeout: Seconds within which the body must have come; else a 408.

    Raises:
        InvalidRequestError: There is no secret, or one is too short.
    """

    def __init__(
        self,
        client: AsyncClient,
        secrets: Iterable[str | bytes],
        *,
        max_body: int = MAX_BODY,
        body_timeout: float = BODY_TIMEOUT,
    ) -> None:
        hide_tokens()
        keyed = keyed_by(secrets)
        del secrets  # a traceback may show the locals of this frame
        self.client = client
        self._max_body = max_body
        self._body_timeout = body_timeout
        self._used: OrderedDict[bytes, int] = OrderedDict()
        self._tokens = Tokens(keyed)

    def __repr__(self) -> str:
        if not hasattr(self, "_tokens"):  # `__init__` has raised, and this is its frame
            return "<WebhookReceiver, not made>"
        return f"<WebhookReceiver {self._tokens!r} used={len(self._used)}>"

    def url(self, url: str) -> str:
        """The URL to give to one create: this endpoint with a token of its own.

        Args:
            url: Where this application can be reached from outside, ``https``; to the
                last slash, because a sender need not follow a redirect.

        Raises:
            InvalidRequestError: It has a ``token`` already, or is too long for one.
        """
        return with_token(url, self._tokens.new())

    def verify(self, query: bytes) -> bytes:
        """Check the raw query string of a delivery; the first thing to do with one.

        Returns:
            What tells its token apart, and is no secret.

        Raises:
            WebhookVerificationError: It has not exactly one token, or not one of ours.
        """
        token = token_of(query)
        if not self._tokens.holds(token):
            raise WebhookVerificationError("the token is not one of ours")
        return nonce_of(token)

    def receive(self, query: bytes, body: bytes) -> Generation | SoundEffect:
        """Take a delivery in an endpoint of your own, instead of `__call__`.

        Args:
            query: The raw query string.
            body: The whole body; limit its size while you read it.

        Returns:
            What the sender says. It is unsigned: act on what the client reads.

        Raises:
            WebhookVerificationError: The token is wrong; answer with an empty 404.
            APIResponseError: The body cannot be read.

        Example:
            import os
            from starlette.applications import Starlette
            from starlette.requests import Request
            from starlette.responses import Response
            from starlette.routing import Route
            from finetuning_async.webhooks import WebhookReceiver

            receiver = WebhookReceiver(client, secrets=[os.environ["HOOK_SECRET"]])

            async def hook(request: Request) -> Response:
                query = request.scope["query_string"]
                try:
                    receiver.receive(query, await request.body())
                except WebhookVerificationError:
                    return Response(status_code=404)
                except APIResponseError:
                    return Response(status_code=400)
                return Response(status_code=204)

            app = Starlette(routes=[Route("/hook", hook, methods=["POST"])])
            hooked = receiver.url("https://me.example/hook")
            await client.generate("rain", webhook=hooked)
        """
        nonce = self.verify(query)
        del query  # a traceback may show the locals of this frame
        track = parsing.webhook_payload(_json(body))
        self._notice(nonce, track.id)
        return track

    def _notice(self, nonce: bytes, track_id: str) -> None:
        times = self._used.pop(nonce, 0)
        self._used[nonce] = times + 1
        while len(self._used) > TOKENS_KEPT:
            self._used.popitem(last=False)
        if times < NOTICES_PER_TOKEN:
            self.client.mark_changed(track_id)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application."""
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            nonce = self.verify(scope.get("query_string", b""))
        except WebhookVerificationError:
            await respond(send, 404)
            return
        if scope["method"] != "POST":
            await respond(send, 405, (b"allow", b"POST"))
            return
        try:
            track_id = parsing.webhook_payload(await self._body(scope, receive)).id
        except BadBodyError as bad:
            await respond(send, bad.status)
            return
        except APIResponseError as error:
            logger.warning("a webhook delivery cannot be read: %s", error)
            await respond(send, 400)
            return
        try:
            await respond(send, 204)
        finally:  # whether or not the sender has stayed for the answer
            self._notice(nonce, track_id)
            await self.client.publish_changes()

    async def _body(self, scope: Scope, receive: Receive) -> Any:
        with anyio.move_on_after(self._body_timeout):
            return _json(await read_body(scope, receive, self._max_body))
        raise BadBodyError(408)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):  # deep nesting is the latter
        raise APIResponseError("the body is no JSON") from None
