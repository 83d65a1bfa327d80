"""One worker of the backend of the proof `keys`, which may be killed at any moment.

Its environment variables: ``SOCKET`` (the number of the listening socket that it
shares), ``JOURNAL`` (a path, or how to connect to PostgreSQL), ``LIMITS`` (a folder;
none with PostgreSQL), ``OUTCOMES`` (a file), ``SPEED``, ``FINETUNING_API_KEY`` and
``FINETUNING_BASE_URL``.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import uvicorn
from fastapi import FastAPI, HTTPException

from finetuning_async import (
    AsyncClient,
    FinetuningError,
    GenerationRequest,
    RateLimit,
    RateLimits,
)
from finetuning_async.fastapi import Client, add_exception_handlers, client_lifespan
from finetuning_async.journal import SQLiteJournal

if TYPE_CHECKING:
    from finetuning_async import Generation, Outcome

SETTLE: Final = 300.0
LOOK_EVERY: Final = 30.0
"""Seconds at speed 1: the journal's own defaults."""

PATIENCE: Final = 20.0
"""Seconds for which a request waits for a permit, and then for its track."""

LONGEST_REQUEST: Final = 5.0


def key_of(number: int) -> str:
    """The idempotency key of an order."""
    return f"order-{number}"


def prompt_of(number: int) -> str:
    """What an order asks for; some orders ask for the same as the one before."""
    return f"song {number - (number % 5 == 1)}"


def new_client(journal: str, speed: float, limits: str | None = None) -> AsyncClient:
    """A client with the limits and the journal of this speed of the emulator.

    Args:
        journal: A path, or how to connect to PostgreSQL.
        speed: The emulator's.
        limits: The folder in which processes share the limits; `None` for those that
            do it in PostgreSQL.
    """
    per = 60.0 / speed
    scaled = {"settle": SETTLE / speed, "look_every": LOOK_EVERY / speed}
    options: dict[str, Any]
    if limits is None:
        from finetuning_async.postgres import PostgresJournal, PostgresRateLimiter

        options = {
            "journal": PostgresJournal(journal, **scaled),
            "rate_limiter": PostgresRateLimiter(journal, timeout=LONGEST_REQUEST),
        }
    else:
        from finetuning_async.shared import SharedRateLimiter

        options = {
            "journal": SQLiteJournal(journal, **scaled),
            "rate_limiter": SharedRateLimiter(limits, timeout=LONGEST_REQUEST),
        }
    return AsyncClient(
        rate_limits=RateLimits(
            creates=RateLimit(10, per=per), reads=RateLimit(60, per=per)
        ),
        request_timeout=LONGEST_REQUEST,
        **options,
    )


async def create(
    client: AsyncClient, request: GenerationRequest, *, waits: bool
) -> Generation:
    """Make a track for its key; with `waits`, until it has ended."""
    tags, key = request.tags, request.idempotency_key
    if waits:
        return await client.generate(
            tags, idempotency_key=key, timeout=PATIENCE, wait_timeout=PATIENCE
        )
    return await client.generations.create(tags, idempotency_key=key, timeout=PATIENCE)


def build() -> FastAPI:
    """The application."""
    speed, limits = float(os.environ["SPEED"]), os.environ.get("LIMITS")
    outcomes = Path(os.environ["OUTCOMES"])

    def keep(outcome: Outcome) -> None:
        track, error = outcome.generation, outcome.error
        line = {
            "key": outcome.request.idempotency_key,
            "id": track.id
            if track is not None
            else getattr(error, "generation_id", None),
            "error": None if error is None else type(error).__name__,
        }
        with outcomes.open("a") as file:
            file.write(json.dumps(line) + "\n")

    app = FastAPI(
        lifespan=client_lifespan(
            lambda: new_client(os.environ["JOURNAL"], speed, limits),
            resume=True,
            on_outcome=keep,
        )
    )
    add_exception_handlers(app)

    @app.post("/orders/{number}")
    async def order(
        number: int, client: Client, waits: bool = False, within: float | None = None
    ) -> dict[str, str]:
        request = GenerationRequest(prompt_of(number), idempotency_key=key_of(number))
        try:
            async with asyncio.timeout(within):
                track = await create(client, request, waits=waits)
        except TimeoutError as error:
            if isinstance(error, FinetuningError):
                raise
            raise HTTPException(503) from None  # cancelled by its own timeout
        return {"id": track.id}

    return app


def run() -> None:
    """Serve until the process is stopped."""
    listening = socket.socket(fileno=int(os.environ["SOCKET"]))
    config = uvicorn.Config(build(), log_level="warning", access_log=False)
    uvicorn.Server(config).run(sockets=[listening])
