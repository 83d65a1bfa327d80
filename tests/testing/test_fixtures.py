"""The fixtures that the package ships, used as in another project's suite."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from finetuning_async.testing.fixtures import (
    client as client,
    emulator as emulator,
    emulator_settings as defaults,
)

if TYPE_CHECKING:
    from finetuning_async import AsyncClient
    from finetuning_async.emulator import Emulator

pytestmark = pytest.mark.sampled(2)

assert defaults is not None


@pytest.fixture
def emulator_settings() -> dict[str, Any]:
    return {"generation_time": (900, 900)}


async def test_a_track_costs_a_credit_and_a_quarter_of_an_hour_takes_no_time(
    emulator: Emulator, client: AsyncClient
) -> None:
    await client.generate("slow", wait_timeout=None)
    assert len(emulator.ledger) == 1
    assert 900 <= anyio.current_time() < 1000


async def test_each_test_has_its_own_account(
    emulator: Emulator, client: AsyncClient
) -> None:
    assert len(emulator.ledger) == 0
    assert (await client.me()).total_remaining == 2000
