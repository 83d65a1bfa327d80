"""A headless Chromium and the demo on a port; on the real clock, on asyncio.

The tests of a module share one browser and its loop; each opens contexts of its own,
which share neither storage nor cache, on an account of its own, whose limits are new.
"""

from __future__ import annotations

import os
import shutil
import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from finetuning_async import AsyncClient
from finetuning_async.emulator import Emulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser

# The shell paints nothing on a screen, and takes half the processor time.
CHROMIUM = (
    os.environ.get("CHROMIUM")
    or shutil.which("chromium-headless-shell")
    or shutil.which("chromium")
)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"  # playwright and uvicorn support no other loop


@pytest.fixture(scope="module")
async def chromium() -> AsyncIterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium: apt-get install chromium-headless-shell")
    from playwright.async_api import async_playwright

    # The sandbox needs rights that root in a container does not have.
    flags = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=[*flags, "--mute-audio"]
        )
        yield browser
        await browser.close()


@asynccontextmanager
async def demo(**settings: Any) -> AsyncIterator[tuple[Emulator, str]]:
    """The demo on a fast emulator; yields the emulator and the URL."""
    from finetuning_async.demo import create_app, serve

    options: dict[str, Any] = {
        "api_key": f"ft_live_{uuid.uuid4().hex}",
        "speed": 10.0,
        "generation_time": (20.0, 20.0),
        **settings,
    }
    async with Emulator(**options) as emulator:
        async with httpx.AsyncClient(transport=emulator.transport()) as http:
            client = AsyncClient(
                emulator.api_key,
                base_url=emulator.base_url,
                rate_limits=emulator.rate_limits,
                http_client=http,
            )
            app = create_app(client, service="emulator")
            async with serve(app) as url:
                yield emulator, url
