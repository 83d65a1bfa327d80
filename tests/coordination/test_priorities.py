"""Priorities and shares hold over all processes, on every store.

The stores keep one ledger, which deals the turns: so what takes many creates to see is
shown on one store, and in one process.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import anyio
import attrs
import pytest

from finetuning_async._api._messages import ResponseFacts
from finetuning_async._pacing._dealer import RANKS
from finetuning_async._pacing._limiter import with_terms
from finetuning_async._pacing._queue_protocols import Terms

if TYPE_CHECKING:
    from finetuning_async._pacing._protocols import RateLimiter
    from tests.coordination._store_setups import Shop

pytestmark = pytest.mark.sampled(2)

OK = ResponseFacts(status=202)
GAP = 15.0
"""Seconds from one `low` create to the next, at 4 a minute."""

SOON = 2.5
"""Seconds within which a process notices what another one did."""


IN_MEMORY = pytest.mark.parametrize("shop", ["in-process", "memory"], indirect=True)


@attrs.define(eq=False)
class Creates:
    """Creates of several processes, and when each went out."""

    sent: list[tuple[str, float]] = attrs.Factory(list)

    async def one(
        self, limiter: RateLimiter, name: str, priority: str = "normal", share: str = ""
    ) -> None:
        terms = Terms(RANKS[priority], share or None)
        permit = await with_terms(limiter, terms).acquire("creates")
        self.sent.append((name, anyio.current_time()))
        await anyio.sleep(0.1)
        permit.answered(OK)
        await limiter.flush()

    async def many(
        self,
        count: int,
        limiter: RateLimiter,
        name: str,
        priority: str = "normal",
        share: str = "",
    ) -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(count):
                tasks.start_soon(self.one, limiter, name, priority, share)

    def names(self) -> list[str]:
        return [name for name, _ in self.sent]


@pytest.mark.sampled(2)
async def test_a_person_goes_before_a_batch_in_another_process(shop: Shop) -> None:
    batch, web = shop.process(), shop.process()
    log = Creates()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(log.many, 30, batch, "low", "low")
        await anyio.sleep(110)
        for number in range(2):
            began = anyio.current_time()
            await log.one(web, "person", "high")
            assert anyio.current_time() - began < GAP + SOON, number
            await anyio.sleep(33)
        tasks.cancel_scope.cancel()


@IN_MEMORY
async def test_shares_of_different_processes_have_their_turns(shop: Shop) -> None:
    first, second = shop.process(), shop.process()
    log = Creates()
    async with anyio.create_task_group() as tasks:
        await log.many(4, first, "before")
        tasks.start_soon(log.many, 30, first, "many", "normal", "many")
        await anyio.sleep(5)
        tasks.start_soon(log.many, 4, second, "few", "normal", "few")
        await anyio.sleep(130)
        tasks.cancel_scope.cancel()
    assert Counter(log.names()[4:12]) == {"many": 4, "few": 4}


@pytest.mark.sampled(2)
@IN_MEMORY
async def test_a_batch_gets_every_tenth_permit_beside_high_creates(shop: Shop) -> None:
    batch, web = shop.process(), shop.process()
    log = Creates()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(log.many, 40, web, "high", "high")
        tasks.start_soon(log.many, 40, batch, "low", "low")
        await anyio.sleep(9.5 * 60.5)
        tasks.cancel_scope.cancel()
    names = log.names()
    assert len(names) >= 36
    assert names[4:36].count("low") == pytest.approx(3.5, abs=1)
