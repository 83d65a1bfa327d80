"""One client for the life of an application, and the dependency that provides it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Annotated, Any, Final, TypeAlias

from fastapi import Depends, FastAPI
from starlette.requests import HTTPConnection  # noqa: TC002 - FastAPI reads it

from finetuning_async._client import AsyncClient
from finetuning_async.fastapi._stop_signals import on_stop_signal

STATE: Final = "finetuning_client"
"""The client's name in the lifespan's state, which every request has."""

STOP_GRACE: Final = 1.0
"""Seconds that a read in flight may still take when the process is asked to stop."""

Lifespan: TypeAlias = Callable[[FastAPI], AbstractAsyncContextManager[dict[str, Any]]]


def client_lifespan(client: Callable[[], AsyncClient] = AsyncClient) -> Lifespan:
    """A lifespan that opens one client and closes it at the end.

    All requests share its connections, its poll loop and its rate limits. SIGTERM and
    Ctrl-C end waits at once, so that no request keeps the server from stopping: each
    raises `ClientClosedError`, whose ``generation_id`` is the id to wait for again. A
    create in flight gets 5 s for its response. To combine it with your own lifespan::

        from collections.abc import AsyncIterator
        from contextlib import asynccontextmanager
        from typing import Any
        from fastapi import FastAPI, Request
        from finetuning_async.fastapi import client_lifespan

        @asynccontextmanager
        async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
            async with client_lifespan()(app) as state:
                yield {**state, "motto": "one client for all"}

        app = FastAPI(lifespan=lifespan)

        @app.get("/motto")
        async def motto(request: Request) -> str:
            return request.state.motto

    Args:
        client: Creates the client; by default from the environment. To use a client
            that already exists, as for a `WebhookReceiver`, pass ``lambda: client``.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        del app
        async with client() as opened:
            # The waits end at the signal. The server waits for open requests, and only
            # then ends this lifespan, which closes the client.
            with on_stop_signal(partial(opened._end_calls, STOP_GRACE)):  # noqa: SLF001 - our own class
                yield {STATE: opened}

    return lifespan


def client_of(connection: HTTPConnection) -> AsyncClient:
    """The client of the application that received a request.

    Args:
        connection: The request, or the websocket.

    Raises:
        RuntimeError: The application has no `client_lifespan`.

    Example:
        from fastapi import FastAPI, Request
        from finetuning_async.fastapi import client_lifespan, client_of

        app = FastAPI(lifespan=client_lifespan())

        @app.get("/credits")
        async def credits(request: Request) -> int | None:
            return (await client_of(request).me()).total_remaining
    """
    found = getattr(connection.state, STATE, None)
    if not isinstance(found, AsyncClient):
        raise RuntimeError(  # noqa: TRY004 - a missing lifespan is not a wrong type
            "the application has no client; create it with"
            " FastAPI(lifespan=client_lifespan())"
        )
    return found


Client: TypeAlias = Annotated[AsyncClient, Depends(client_of)]
"""The type of an endpoint's parameter that receives the client.

Example:
    from fastapi import FastAPI
    from finetuning_async.fastapi import Client, client_lifespan

    app = FastAPI(lifespan=client_lifespan())

    @app.get("/credits")
    async def credits(client: Client) -> int | None:
        return (await client.me()).total_remaining
"""
