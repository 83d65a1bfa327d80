"""The backend, on a machine that takes 0.8 s to send a stream's last event."""

from collections.abc import AsyncGenerator
from typing import Any

import anyio

from finetuning_async.fastapi import _routers
from tests.programs.backend_example import app as app


async def slow_stream(*args: Any, **options: Any) -> AsyncGenerator[Any]:
    async for event in stream(*args, **options):
        if event.event == "problem":
            await anyio.sleep(0.8)
        yield event


stream, _routers.event_stream = _routers.event_stream, slow_stream
