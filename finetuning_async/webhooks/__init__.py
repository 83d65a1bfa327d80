"""Webhooks: a URL for each create, and the ASGI application that receives deliveries.

    import os
    from starlette.applications import Starlette
    from starlette.routing import Route
    from finetuning_async.webhooks import WebhookReceiver

    receiver = WebhookReceiver(client, secrets=[os.environ["HOOK_SECRET"]])
    app = Starlette(routes=[Route("/hooks", receiver)])
    await client.generate("rain", webhook=receiver.url("https://me.example/hooks"))

With several worker processes a delivery may reach another one than the one that waits.
The waiting process then learns of the end by polling: with two workers on half of the
rate limits each, 1.5 s after it in the median and 5.5 s at most, where a delivery to
the right process takes 0.1 s (``python -m benchmarks webhooks``).

It needs no framework and runs in Starlette, FastAPI and Litestar;
`finetuning_async.fastapi` has a router. The files:

    _receiver     the ASGI application: checks a delivery, then marks its track
    _asgi         reads a request body and sends responses, without a framework
    _access_log   keeps tokens out of the access logs of servers
    _tokens       makes and checks tokens, by HMAC; pure

A *token* is a parameter of the webhook URL that only we can make. Its *nonce* is the
random half, which identifies it and is not a secret. A *hint* is all that a delivery is
worth: the track may have changed, so the poll loop reads it soon.
"""

from finetuning_async._errors import WebhookVerificationError
from finetuning_async.webhooks._access_log import TokenFilter, hide_tokens
from finetuning_async.webhooks._receiver import WebhookReceiver

__all__ = ["TokenFilter", "WebhookReceiver", "WebhookVerificationError", "hide_tokens"]
