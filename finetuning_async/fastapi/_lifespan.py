"""One client for the life of an application, and the dependency that provides it."""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Annotated, Any, Final, TypeAlias

import anyio
from fastapi import Depends, FastAPI
from starlette.requests import HTTPConnection  # noqa: TC002 - FastAPI reads it

from finetuning_async._api import CompletedOutcome, FailedOutcome, check_callback
from finetuning_async._client import AsyncClient
from finetuning_async._errors import ClientClosedError, InvalidRequestError
from finetuning_async._logging import log_exceptions
from finetuning_async._resources import Outcomes  # noqa: TC001 - as above
from finetuning_async.fastapi._followers import Followers
from finetuning_async.fastapi._stop_signals import on_stop_signal

logger = logging.getLogger("finetuning_async")

STATE: Final = "finetuning_client"
"""The client's name in the lifespan's state, which every request has."""

STOP_GRACE: Final = 1.0
"""Seconds that a read in flight may still take when the process is asked to stop."""

OnOutcome: TypeAlias = Callable[
    [CompletedOutcome | FailedOutcome], Awaitable[None] | None
]
Lifespan: TypeAlias = Callable[[FastAPI], AbstractAsyncContextManager[dict[str, Any]]]


def client_lifespan(
    client: Callable[[], AsyncClient] = AsyncClient,
    *,
    resume: bool = False,
    on_outcome: OnOutcome | None = None,
) -> Lifespan:
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

    With a journal, an application goes on with what an earlier process left::

        from typing import Any
        from fastapi import FastAPI
        from finetuning_async import AsyncClient, Outcome
        from finetuning_async.fastapi import Client, client_lifespan, public

        async def deliver(outcome: Outcome) -> None:
            order = outcome.request.idempotency_key
            print(order, outcome.error or outcome.generation)

        app = FastAPI(
            lifespan=client_lifespan(
                lambda: AsyncClient(journal="tracks.db"),
                resume=True,
                on_outcome=deliver,
            )
        )

        @app.post("/orders/{order}")
        async def make(order: str, tags: str, client: Client) -> dict[str, Any]:
            return public(await client.generate(tags, idempotency_key=order))

    Args:
        client: Creates the client; by default from the environment. To use a client
            that already exists, as for a `WebhookReceiver`, pass ``lambda: client``.
        resume: Whether to run `AsyncClient.resume_all` beside the application, in a
            task that ends with the lifespan. Of several workers one does it.
        on_outcome: Called with each outcome of that, one after another; plain or async.
            What it raises is logged, and that outcome does not come again:
            `AsyncClient.journal` has it. An outcome may be one that a request of this
            application has waited for as well.

    Raises:
        InvalidRequestError: `on_outcome` is not callable, or given without `resume`; on
            entering, `resume` is set and the client has no journal.
    """
    check_callback(on_outcome, "on_outcome")
    if on_outcome is not None and not resume:
        raise InvalidRequestError("resume", resume, "True if on_outcome is given")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        del app
        async with client() as opened:
            # The waits end at the signal. The server waits for open requests, and only
            # then ends this lifespan, which closes the client.
            with on_stop_signal(partial(opened._end_calls, STOP_GRACE)):  # noqa: SLF001 - our own class
                outcomes = opened.resume_all() if resume else None
                async with (
                    _resuming(outcomes, on_outcome),
                    Followers(opened).running(),
                ):
                    yield {STATE: opened}

    return lifespan


@asynccontextmanager
async def _resuming(
    outcomes: Outcomes | None, on_outcome: OnOutcome | None
) -> AsyncIterator[None]:
    """Iterate over outcomes beside the block, until it ends."""
    if outcomes is None:
        yield
        return
    group = await anyio.create_task_group().__aenter__()
    group.start_soon(_deliver, outcomes, on_outcome)
    try:
        yield
    finally:
        group.cancel_scope.cancel()
        # Given to the group, an exception of the block would come out in a group.
        await group.__aexit__(None, None, None)


async def _deliver(outcomes: Outcomes, on_outcome: OnOutcome | None) -> None:
    try:
        async with outcomes:
            async for outcome in outcomes:
                with log_exceptions("on_outcome, called with a resumed track"):
                    result = on_outcome(outcome) if on_outcome else None
                    if inspect.isawaitable(result):
                        await result
    except ClientClosedError:
        pass  # the rest is resumed by the next process
    except Exception:
        # The application itself can do without.
        logger.exception("what earlier processes began could not be resumed")


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
