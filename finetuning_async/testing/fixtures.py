"""Fixtures for a suite of your own: `emulator` and `client`.

In ``conftest.py``, with anyio's pytest plugin:

    pytest_plugins = ["finetuning_async.testing.fixtures"]

    import pytest
    from finetuning_async.testing import jumping_backend

    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(request):
        return jumping_backend(request.param)  # a clock that jumps; or a plain name

Then each test has an account of its own, with 2000 credits:

    async def test_a_track_costs_a_credit(emulator, client):
        await client.generate("lofi chill piano night")
        assert len(emulator.ledger) == 1

Override `emulator_settings` to have another service.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from finetuning_async._client import AsyncClient
from finetuning_async.emulator import Emulator

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


@pytest.fixture
def emulator_settings() -> dict[str, Any]:
    """The keyword arguments of `Emulator`; none by default."""
    return {}


@pytest.fixture
async def emulator(
    anyio_backend: object, emulator_settings: dict[str, Any]
) -> AsyncGenerator[Emulator]:
    """The service, in this process, for one test."""
    async with Emulator(**emulator_settings) as service:
        yield service


@pytest.fixture
async def client(emulator: Emulator) -> AsyncGenerator[AsyncClient]:
    """A client of the emulator."""
    async with (
        httpx.AsyncClient(transport=emulator.transport()) as http,
        AsyncClient(
            emulator.api_key,
            base_url=emulator.base_url,
            rate_limits=emulator.rate_limits,
            http_client=http,
        ) as made,
    ):
        yield made
