"""One account, many machines: one budget, kept in Redis or Valkey.

    from finetuning_async.redis import RedisRateLimiter

    async def main() -> None:
        limiter = RedisRateLimiter("redis://cache.internal:6379/0")
        async with limiter, AsyncClient(rate_limiter=limiter) as client:
            track = await client.generate("lofi chill piano night", duration=120)

One of the processes that share it polls for all. It runs on asyncio only, as the
library that it uses, and needs ``redis`` (``pip install 'finetuning-async[redis]'``).

    _limiter    RedisRateLimiter: which server, and the rest from ``_coordination``
    _store      the states of an account, replaced by compare-and-set
"""

from finetuning_async.redis._limiter import RedisRateLimiter

__all__ = ["RedisRateLimiter"]
