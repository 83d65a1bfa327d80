"""What only the store in Redis does: races, the lock, its queue, the clock."""

from __future__ import annotations

import itertools
import random
import time
from typing import TYPE_CHECKING

import anyio
import pytest

from finetuning_async.redis._store import LOCK_TTL, QUEUE_TIMEOUT, RedisStore
from tests.coordination._store_setups import WaitingRedis
from tests.coordination.test_states import added

if TYPE_CHECKING:
    import redis

ACCOUNTS = itertools.count(1)


@pytest.fixture
def store(redis_connection: redis.Redis) -> RedisStore:
    account = f"states{next(ACCOUNTS)}"
    return RedisStore(WaitingRedis(redis_connection), account, random.Random(1))


async def test_an_update_that_lost_a_race_starts_again_with_what_the_winner_wrote(
    store: RedisStore, redis_connection: redis.Redis
) -> None:
    key, *_ = store.keys_of("limits")
    seen: list[str | None] = []

    def overtaken(state: str | None, now: float) -> tuple[str, None]:
        seen.append(state)
        if len(seen) == 1:
            redis_connection.hset(key, mapping={"state": "theirs", "stamp": "t"})
        return f"{state} and mine", None

    await store.update("limits", overtaken)
    assert seen == [None, "theirs"]
    assert redis_connection.hget(key, "state") == b"theirs and mine"


async def test_an_update_that_slept_past_its_lock_overwrites_nothing(
    store: RedisStore, redis_connection: redis.Redis
) -> None:
    key, lock, _ = store.keys_of("limits")
    calls = itertools.count()

    def slow(state: str | None, now: float) -> tuple[str, None]:
        if next(calls) < 2:  # the first time it has no lock yet
            redis_connection.delete(lock)
            redis_connection.hset(
                key, mapping={"state": f"{state} x", "stamp": f"{now}"}
            )
        return f"{state} mine", None

    await store.update("limits", slow)
    assert redis_connection.hget(key, "state") == b"None x x mine"
    assert not redis_connection.exists(lock)


async def test_dead_updates_that_hold_the_lock_or_queue_for_it_delay_the_others_briefly(
    store: RedisStore, redis_connection: redis.Redis
) -> None:
    _, lock, queue = store.keys_of("limits")
    redis_connection.set(lock, "dead", px=round(LOCK_TTL * 1000))
    over, due = (round((time.time() + s) * 1000) for s in (-1, 60))
    redis_connection.rpush(queue, f"{over}:gave up", f"{due}:died")
    begun = time.monotonic()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(store.update, "limits", added)
                await anyio.sleep(0.001)
            while time.monotonic() < begun + LOCK_TTL + 0.05:  # the server's clock
                time.sleep(0.01)  # noqa: ASYNC251 - the loop's jumps meanwhile
                await anyio.sleep(0.01)
    assert await store.update("limits", added) == 4
    assert time.monotonic() - begun < 3 * QUEUE_TIMEOUT + 4  # not a minute


async def test_a_server_clock_set_back_does_not_turn_back_the_states(
    store: RedisStore, redis_connection: redis.Redis
) -> None:
    key, *_ = store.keys_of("limits")
    await store.update("limits", added)
    ahead = float(redis_connection.hget(key, "at") or 0) + 1000
    redis_connection.hset(key, "at", ahead)
    times = [
        await store.update("limits", lambda state, now: (f"{state}.", now))
        for _ in range(2)
    ]
    assert ahead <= times[0] < times[1] < ahead + 20


async def test_a_server_emptied_during_an_update_accepts_no_old_write(
    store: RedisStore, redis_connection: redis.Redis
) -> None:
    key, *_ = store.keys_of("limits")
    await store.update("limits", added)
    calls = itertools.count()

    def emptied(state: str | None, now: float) -> tuple[str, str | None]:
        if not next(calls):
            redis_connection.delete(key)
        return "new", state

    assert await store.update("limits", emptied) is None
