"""A short run of the proof that kills the real program; see benchmarks/proofs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.proofs.batch import prove

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = [
    pytest.mark.timeout(150),  # 40 s alone, most of it waits
    pytest.mark.usefixtures("warm_programs"),
]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # uvicorn runs on asyncio only


async def test_a_batch_survives_kills_and_its_ledger_balances(tmp_path: Path) -> None:
    tally = await prove(tmp_path, items=5, kills=2, seed=4)
    assert tally.failures == []
    assert tally.kills >= 1
