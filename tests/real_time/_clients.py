"""Our client, with an HTTP client of our own or of a caller's."""

from __future__ import annotations

import importlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from finetuning_async import AsyncClient
from tests._raw_server import KEY

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import pytest

WHOSE: Final = ("ours", "httpx", "httpx2")


@asynccontextmanager
async def client_of(
    whose: str, url: str, **options: Any
) -> AsyncGenerator[AsyncClient]:
    """Our client; `options` are for the client that sends."""
    if whose == "ours":
        async with AsyncClient(KEY, base_url=url, **options) as client:
            yield client
        return
    async with importlib.import_module(whose).AsyncClient(**options) as http:
        async with AsyncClient(KEY, base_url=url, http_client=http) as client:
            yield client


def forget_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove all proxies from the environment."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
