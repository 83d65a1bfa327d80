"""An emulator and a client of it, which most tests of the client use."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx

from finetuning_async import AsyncClient
from finetuning_async._http._cookies import without_cookies
from finetuning_async.emulator import Emulator

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

SHORT = (10.0, 30.0)
"""Seconds that a track takes where a test does not care. The service takes up to 120,
and each second of a wait costs the suite a read."""

SONG = b"ID3" + bytes(480_000)
"""The bytes of such a track: to render one takes a seventh of a second."""


Cookieless = without_cookies(httpx.AsyncClient)
"""An HTTP client of a test's own. To look for cookies, of which the emulator sends
none, takes httpx a sixth of an in-process request."""


def short(**settings: Any) -> Emulator:
    """An emulator with these settings, whose tracks take `SHORT` and are `SONG`."""
    return Emulator(**{"generation_time": SHORT, "audio": SONG, **settings})


@asynccontextmanager
async def emulated(
    emulator: Emulator | None = None, **options: Any
) -> AsyncGenerator[tuple[Emulator, AsyncClient]]:
    """Yield an in-process emulator and a client of it with the given options.

    Without an emulator of the test's own, tracks take `SHORT`.
    """
    async with emulator or short() as service:
        async with Cookieless(transport=service.transport()) as http:
            async with AsyncClient(
                service.api_key,
                base_url=service.base_url,
                rate_limits=options.pop("rate_limits", service.rate_limits),
                http_client=http,
                **options,
            ) as client:
                yield service, client
