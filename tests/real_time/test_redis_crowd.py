"""Many processes that write one state of a real Redis at once."""

from __future__ import annotations

import random
import time

import anyio
import pytest
from redis.asyncio import Redis

from benchmarks.shared._crowd import crowd
from finetuning_async.redis._store import RedisStore
from tests.coordination.test_states import added


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # the redis library supports no other


async def test_no_concurrent_write_is_lost_or_starves(redis_url: str) -> None:
    async def writes(number: int) -> None:
        async with Redis.from_url(redis_url) as client:
            store = RedisStore(client, "many at once", random.Random(number))
            for _ in range(5):
                await store.update("limits", added)

    begun = time.monotonic()
    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(writes, number)
    async with Redis.from_url(redis_url) as client:
        store = RedisStore(client, "many at once", random.Random(99))
        assert await store.update("limits", added) == 101
        _, lock, queue = store.keys_of("limits")
        assert await client.exists(lock, queue) == 0
    assert time.monotonic() - begun < 5


def test_exchanges_of_processes_that_all_write_take_little_longer_than_a_round_trip(
    redis_url: str,
) -> None:
    found = crowd(redis_url, writing=True, processes=3, seconds=2)
    assert len(found.exchanges) == 3 * 2 * 4
    assert found.exchanges[len(found.exchanges) // 2] < 0.1
