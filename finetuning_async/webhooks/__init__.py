"""Webhooks: a URL per job, and the ASGI application that takes what comes there.

    import os
    from starlette.applications import Starlette
    from starlette.routing import Route
    from finetuning_async.webhooks import WebhookReceiver

    receiver = WebhookReceiver(client, secrets=[os.environ["HOOK_SECRET"]])
    app = Starlette(routes=[Route("/hooks", receiver)])
    await client.generate("rain", webhook=receiver.url("https://me.example/hooks"))

With several worker processes a delivery may land in another one than the one that
waits. There polling finds the end: with two workers on half of the budgets each, 1.5 s
after it in the median and 5.5 s at most, where a delivery to the right process takes
0.1 s (``python -m benchmarks webhooks``).

`_tokens` makes and checks the tokens, `_receiver` takes deliveries, `_asgi` reads and
answers, `_access_log` keeps tokens out of the logs of servers. It needs no framework
and runs in Starlette, FastAPI and Litestar; `finetuning_async.fastapi` has a router.
"""

from finetuning_async._errors import WebhookVerificationError
from finetuning_async.webhooks._access_log import TokenFilter, hide_tokens
from finetuning_async.webhooks._receiver import WebhookReceiver

__all__ = ["TokenFilter", "WebhookReceiver", "WebhookVerificationError", "hide_tokens"]
