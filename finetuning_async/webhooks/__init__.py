"""Webhooks: a URL per job, and the ASGI application that takes what comes there.

    receiver = WebhookReceiver(client, secrets=[os.environ["HOOK_SECRET"]])
    app = Starlette(routes=[Mount("/hooks", app=receiver)])
    await client.generate("rain", webhook=receiver.url("https://me.example/hooks"))

`_tokens` makes and checks the tokens, `_receiver` takes deliveries, `_asgi` reads and
answers, `_access_log` keeps tokens out of uvicorn's log. It needs no framework and
mounts in Starlette, FastAPI and Litestar; `finetuning_async.fastapi` has a router.
"""

from finetuning_async._errors import WebhookVerificationError
from finetuning_async.webhooks._access_log import TokenFilter, hide_tokens
from finetuning_async.webhooks._receiver import WebhookReceiver

__all__ = ["TokenFilter", "WebhookReceiver", "WebhookVerificationError", "hide_tokens"]
