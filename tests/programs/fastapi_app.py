"""FastAPI: one client per process, opened and closed by the application's lifespan."""

from typing import Any

from fastapi import FastAPI

import finetuning_async.fastapi as music
from finetuning_async import AsyncClient

app = FastAPI(lifespan=music.client_lifespan(AsyncClient))
music.add_exception_handlers(app)


@app.post("/tracks")
async def make(tags: str, client: music.Client) -> dict[str, Any]:
    return music.public(await client.generate(tags, duration=30, timeout=60))
