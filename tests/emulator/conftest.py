"""A client of the emulator that is not ours: plain httpx, in-process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from finetuning_async.emulator import Emulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(generation_time=(20.0, 20.0)) as emulator:
        yield emulator


@pytest.fixture
async def http(emulator: Emulator) -> AsyncIterator[httpx.AsyncClient]:
    async with connect(emulator) as client:
        yield client


def connect(emulator: Emulator) -> httpx.AsyncClient:
    """A plain client with the emulator's key."""
    return httpx.AsyncClient(
        transport=emulator.transport(),
        base_url=emulator.base_url,
        headers={"X-API-Key": emulator.api_key},
    )
