"""A backend with users, whose tracks survive whatever happens to it.

    uvicorn users_backend:app --workers 2

The workers share a journal, a file or a PostgreSQL database, and the account's
limits, in Redis. FINETUNING_API_KEY is the API key, JOURNAL and REDIS_URL say
where those are, and SESSIONS who has which session, as JSON:
``{"a session's token": "a user's id"}``.
"""

import json
import os

from fastapi import FastAPI, HTTPException, Request

from finetuning_async import AsyncClient
from finetuning_async.fastapi import (
    add_exception_handlers,
    client_lifespan,
    tracks_router,
)
from finetuning_async.redis import RedisRateLimiter

SESSIONS: dict[str, str] = json.loads(os.environ["SESSIONS"])


def signed_in(request: Request) -> str:
    user = SESSIONS.get(request.cookies.get("session", ""))
    if user is None:
        raise HTTPException(401)
    return user


def new_client() -> AsyncClient:
    return AsyncClient(
        journal=os.environ["JOURNAL"],
        rate_limiter=RedisRateLimiter(os.environ["REDIS_URL"]),
    )


app = FastAPI(lifespan=client_lifespan(new_client, resume=True))
add_exception_handlers(app)
app.include_router(tracks_router(signed_in))
