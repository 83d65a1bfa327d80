"""One account, several programs on one machine: one budget, kept in a file.

    async with AsyncClient(rate_limiter="shared") as client:
        track = await client.generate("lofi chill piano night", duration=120)

Workers of a server, a cron job and a shell of the same user keep the account's limits
together, first come, first served, and one of them polls for all. It runs on asyncio
and trio; it needs ``filelock`` (``pip install 'finetuning-async[shared]'``).

    _limiter    SharedRateLimiter: which file, and the rest from ``_coordination``
    _store      the states of an account in a SQLite file, one process at a time
    _clock      the machine's clock, and its name: the only place that reads it
"""

from finetuning_async.shared._clock import Clock, SystemClock
from finetuning_async.shared._limiter import SharedRateLimiter

__all__ = ["Clock", "SharedRateLimiter", "SystemClock"]
