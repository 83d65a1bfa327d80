"""Our limiter, driven as the pipeline drives it."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from finetuning_async._limiter import Limiter
from finetuning_async._rate_limits import RateLimit, RateLimits
from finetuning_async._wire import AnswerFacts

if TYPE_CHECKING:
    from benchmarks.limiter.simulation import Send, Setting


class Ours:
    """A `Limiter` and nothing else."""

    def __init__(self, setting: Setting) -> None:
        limit = RateLimit(setting.limit, per=setting.per)
        self.limiter = Limiter(RateLimits(creates=limit), rng=random.Random(1))

    async def request(self, send: Send) -> None:
        """Have one request served."""
        refused = False
        while True:
            permit = await self.limiter.acquire("creates", first=refused)
            response = await send()
            refused = response.status == 429
            facts = AnswerFacts(
                status=response.status,
                code="GENERATION_RATE_LIMITED" if refused else None,
                limit=response.limit,
                remaining=response.remaining,
                retry_after=response.retry_after,
            )
            permit.answered(facts)
            if not refused:
                return
