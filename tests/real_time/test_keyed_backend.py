"""A seeded sample of ``python -m benchmarks proofs keys``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.proofs.keys import Harness, Plan, quick_faults

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("warm_programs")

pytest.importorskip("fastapi", reason="the extra fastapi is not installed")

PLAN = Plan(
    orders=12,
    kills=2,
    every=(0.5, 1.5),
    halted=0.0,
    speed=60.0,
    seed=2,
    arrivals=4.0,
    faults=quick_faults(),
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # uvicorn supports no other loop


@pytest.mark.parametrize(
    "database", ["sqlite", pytest.param("postgres", marks=pytest.mark.long)]
)
async def test_each_order_costs_once_while_workers_are_killed(
    request: pytest.FixtureRequest, tmp_path: Path, database: str
) -> None:
    is_shared = database == "postgres"
    conninfo = request.getfixturevalue("postgres") if is_shared else None
    harness = Harness(tmp_path, PLAN, conninfo)
    tally = await harness.run()
    assert tally.failures == [], harness.log.read_text()
    assert tally.held == []
    assert tally.kills >= 1
