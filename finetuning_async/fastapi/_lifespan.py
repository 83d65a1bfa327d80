"""One client for the life of an application, and the dependency that hands it out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Annotated, Any, Final, TypeAlias

from fastapi import Depends, FastAPI
from starlette.requests import HTTPConnection  # noqa: TC002 - FastAPI reads it

from finetuning_async._client import AsyncClient
from finetuning_async.fastapi._stopping import at_stop

STATE: Final = "finetuning_client"
"""Its name in the state that the lifespan gives to every request."""

PATIENCE: Final = 1.0
"""Seconds that a read under way may still take when the process is asked to end."""

Lifespan: TypeAlias = Callable[[FastAPI], AbstractAsyncContextManager[dict[str, Any]]]


def client_lifespan(client: Callable[[], AsyncClient] = AsyncClient) -> Lifespan:
    """A lifespan that opens one client and closes it at the end.

    All requests share its connections, its poll loop and its budgets. SIGTERM and
    Ctrl-C end waits at once, so that no request holds the server: each raises
    `ClientClosedError`, whose ``generation_id`` says by which id to wait again. A
    create on the wire has 5 s for its answer. To have a lifespan of your own as well::

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
        client: Makes the client; by default from the environment. A client that exists
            already, because a `WebhookReceiver` has it, goes in as ``lambda: client``.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        del app
        async with client() as opened:
            with at_stop(partial(opened._end_calls, PATIENCE)):  # noqa: SLF001 - it is one of us
                yield {STATE: opened}

    return lifespan


def client_of(connection: HTTPConnection) -> AsyncClient:
    """The client of the application that a request came to.

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
        raise RuntimeError("no client: FastAPI(lifespan=client_lifespan()) makes one")  # noqa: TRY004 - a missing lifespan is no wrong type
    return found


Client: TypeAlias = Annotated[AsyncClient, Depends(client_of)]
"""The type of an endpoint's parameter that wants the client.

Example:
    from fastapi import FastAPI
    from finetuning_async.fastapi import Client, client_lifespan

    app = FastAPI(lifespan=client_lifespan())

    @app.get("/credits")
    async def credits(client: Client) -> int | None:
        return (await client.me()).total_remaining
"""
