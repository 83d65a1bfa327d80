"""`WebhookReceiver`: receives deliveries and has the poll loop read their tracks.

A delivery is unsigned; the service promises at most one, but it may come twice, early
or never. So it is only a hint. The token proves that the URL is ours, the body names
the track, and the state counts that the poll loop then reads from the service. A leaked
token is worth at most `HINTS_PER_TOKEN` reads.
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
    add_token,
    extract_token,
    new_hmacs,
    nonce_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from finetuning_async._api import Generation, SoundEffect
    from finetuning_async._client import AsyncClient
    from finetuning_async.webhooks._asgi import Receive, Scope, Send

logger = logging.getLogger("finetuning_async")

MAX_BODY: Final = 256 * 1024
BODY_TIMEOUT: Final = 10.0
NONCES_KEPT: Final = 65_536
"""Used tokens that are remembered, about 200 bytes each."""

HINTS_PER_TOKEN: Final = 3
"""One for the track's end, one for its repetition, one that came too early."""


class WebhookReceiver:
    """Makes a webhook URL for each create, and is the ASGI application behind it.

        import os
        from starlette.applications import Starlette
        from starlette.routing import Route
        from finetuning_async.webhooks import WebhookReceiver

        receiver = WebhookReceiver(client, secrets=[os.environ["HOOK_SECRET"]])
        app = Starlette(routes=[Route("/hooks", receiver)])
        hook = receiver.url("https://me.example/hooks")
        track = await client.generate("rain", webhook=hook)

    In Starlette and FastAPI a ``Route`` matches exactly its path. ``Mount("/hooks",
    app=receiver)`` and ``app.mount("/hooks", receiver)`` match paths below it: there
    the URL must end in a slash, ``receiver.url("https://me.example/hooks/")``. Without
    the slash the framework sends a redirect and the receiver gets no delivery.

    It responds to an invalid token with an empty 404, and to a valid one with 204
    before it does anything else. It sends the service no request: it calls
    `AsyncClient.mark_changed`, and the poll loop reads the track within the shared read
    budget. If a delivery is lost, polling finds the end.

    All worker processes with the same secrets accept each other's tokens. A delivery
    that reaches another process than the one that waits has no effect there; the
    waiting process finds the end by polling.

    Args:
        client: The client whose waits deliveries speed up.
        secrets: The newest first: it signs, and all are accepted. Each has at least 32
            characters. To replace a secret, put the new one in front and remove the
            old one a day later.
        max_body: Bytes; a longer body is refused with 413.
        body_timeout: Seconds in which the body must arrive; else it is refused with
            408.

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
        hmacs = new_hmacs(secrets)
        del secrets  # a traceback may show the locals of this frame
        self.client = client
        self._max_body = max_body
        self._body_timeout = body_timeout
        self._hints_by_nonce: OrderedDict[bytes, int] = OrderedDict()
        self._tokens = Tokens(hmacs)

    def __repr__(self) -> str:
        # If `__init__` raised, a traceback that shows locals asks for this repr.
        if not hasattr(self, "_tokens"):
            return "<WebhookReceiver, not initialized>"
        return f"<WebhookReceiver {self._tokens!r} used={len(self._hints_by_nonce)}>"

    def url(self, url: str) -> str:
        """The webhook URL for one create: this endpoint with a new token.

        Args:
            url: Where this application can be reached from outside, ``https``; exact to
                the last slash, because the sender need not follow redirects.

        Raises:
            InvalidRequestError: It already has a ``token``, or is too long for one.
        """
        return add_token(url, self._tokens.new())

    def verify(self, query: bytes) -> bytes:
        """Check the raw query string of a delivery, before anything else.

        Returns:
            The token's nonce: it identifies the token and is not a secret.

        Raises:
            WebhookVerificationError: It does not have exactly one token, or the token
                was not made with one of the secrets.
        """
        token = extract_token(query)
        if not self._tokens.is_valid(token):
            raise WebhookVerificationError(
                "the token was not made with one of this receiver's secrets"
            )
        return nonce_of(token)

    def receive(self, query: bytes, body: bytes) -> Generation | SoundEffect:
        """Process a delivery in your own endpoint, instead of `__call__`.

        Args:
            query: The raw query string.
            body: The whole body; limit its size while you read it.

        Returns:
            The track as the sender describes it. That is unsigned: act only on what the
            client reads.

        Raises:
            WebhookVerificationError: The token is invalid; respond with an empty 404.
            APIResponseError: The body is not a delivery.

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
        self._mark_changed(nonce, track.id)
        return track

    def _mark_changed(self, nonce: bytes, track_id: str) -> None:
        # Popped and set again, so that the token used longest ago is forgotten first.
        # A forgotten one gets its hints again: bounded memory is worth more.
        hints = self._hints_by_nonce.pop(nonce, 0)
        self._hints_by_nonce[nonce] = hints + 1
        while len(self._hints_by_nonce) > NONCES_KEPT:
            self._hints_by_nonce.popitem(last=False)
        if hints < HINTS_PER_TOKEN:
            self.client.mark_changed(track_id)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application."""
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
        elif scope["type"] == "http":
            await self._handle(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The token first: without one, a stranger learns nothing, not even that there
        # is an endpoint, and no byte of the body is read.
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
            logger.warning(
                "refused a webhook delivery with 400: its body is invalid: %s", error
            )
            await respond(send, 400)
            return
        try:
            await respond(send, 204)
        finally:  # even if the sender has disconnected
            self._mark_changed(nonce, track_id)
            await self.client.publish_changes()

    async def _body(self, scope: Scope, receive: Receive) -> Any:
        with anyio.move_on_after(self._body_timeout):
            return _json(await read_body(scope, receive, self._max_body))
        raise BadBodyError(408)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):  # the latter for deeply nested JSON
        raise APIResponseError("the body is not JSON") from None
