"""The states of an account in Redis or Valkey, replaced by compare-and-set.

A state is a Redis hash: the text, a stamp that each write renews, and the clock. An
update takes two round trips: one reads these with the server's time; the other writes,
and the server does it only if the stamp is still the one that was read.

Where many contend, most would lose that race again and again. So a process that lost
one takes a lock, a key that expires, for its next attempt. While a lock exists, every
process that comes queues, and is handed the lock together with what was written last.
The stamp fences: a process that slept through the end of its lock overwrites nothing.
Each queued process that dies or gives up delays the others by `LOCK_TTL` at most.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from finetuning_async._coordination import Step

T = TypeVar("T")

VERSION: Final = 2
"""Of the format; it is part of the keys, so versions do not meet."""

LOCK_TTL: Final = 0.2
"""Seconds after which a lock expires; an update takes a few milliseconds."""

QUEUE_TIMEOUT: Final = 0.3
"""Seconds in the queue after which a process reads again; above `LOCK_TTL`."""

STATE_TTL: Final = 86_400
"""Seconds without a write after which a state is deleted: a day."""

# `me` is the id of one update. It is the value of the lock while that update holds it,
# and the stamp of the state once it has written.
_COMMON: Final = """
local state, lock, queue = KEYS[1], KEYS[2], KEYS[3]
local me, clock = ARGV[1], redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local function read()
  local kept = redis.call('HMGET', state, 'state', 'stamp', 'at', 'ahead')
  return cjson.encode({kept[1], kept[2], kept[3], kept[4], clock[1], clock[2]})
end
local function give_lock(owner)
  redis.call('SET', lock, owner, 'PX', LOCK_TTL_MS)
end
"""

READ: Final = """
local owner = redis.call('GET', lock)
if owner and owner ~= me then
  redis.call('RPUSH', queue, (now + QUEUE_TIMEOUT_MS) .. ':' .. me)
  redis.call('PEXPIRE', queue, 2 * QUEUE_TIMEOUT_MS)
  return false
end
if ARGV[2] == '1' then give_lock(me) end
return read()
"""
"""Returns the state and the time, and takes the lock if ``ARGV[2]`` is 1. Returns false
if another update holds the lock: then this one is in the queue."""

# First the fence: a stamp that is neither the one read nor one's own means that another
# update wrote since. If it is one's own, this very write was done before and its reply
# got lost: it is not done again, but the lock is still handed on.
# Then the lock goes to the first update in the queue whose time is not over, with the
# state, through a list of its own on which it waits with BLPOP. Both expire, so an
# update that is not there any more delays the others by one lock only.
WRITE: Final = """
local stamp = redis.call('HGET', state, 'stamp') or ''
if stamp ~= ARGV[2] and stamp ~= me then return 0 end
if stamp ~= me then
  redis.call('HSET', state, 'stamp', me, 'state', ARGV[3], 'at', ARGV[4],
    'ahead', ARGV[5])
  redis.call('EXPIRE', state, STATE_TTL)
end
if redis.call('GET', lock) ~= me then return 1 end
redis.call('DEL', lock)
local entry = redis.call('LPOP', queue)
while entry do
  local until_ms, id = string.match(entry, '(%d+):(.+)')
  if tonumber(until_ms) > now then
    give_lock(id)
    redis.call('RPUSH', lock .. ':' .. id, read())
    redis.call('PEXPIRE', lock .. ':' .. id, LOCK_TTL_MS)
    break
  end
  entry = redis.call('LPOP', queue)
end
return 1
"""
"""Returns 1 if the state was written, and hands the lock on; 0 if another update wrote
since the read. It can be repeated if its reply was lost."""


def script(body: str) -> str:
    """Return a whole script: the common part and `body`, with the numbers filled in."""
    text = _COMMON + body
    numbers = {
        "LOCK_TTL_MS": LOCK_TTL * 1000,
        "QUEUE_TIMEOUT_MS": QUEUE_TIMEOUT * 1000,
        "STATE_TTL": STATE_TTL,
    }
    for name, number in numbers.items():
        text = text.replace(name, f"{number:.0f}")
    return text


class _Snapshot(NamedTuple):
    """What was read.

    Attributes:
        state: The text; `None` if there is none.
        stamp: Of the update that wrote it.
        now: The state's clock in seconds; it never goes back.
        ahead: Seconds by which that clock is ahead of the server's.
    """

    state: str | None
    stamp: str
    now: float
    ahead: float


class RedisStore:
    """The states of an account, as one event loop reaches them.

    Args:
        client: A `redis.asyncio.Redis`.
        account: A hash, never the API key.
        rng: Where the ids of updates come from.
        clock: Instead of the server's, for tests.
    """

    def __init__(
        self,
        client: Any,
        account: str,
        rng: random.Random,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._client = client
        self._read = client.register_script(script(READ))
        self._write = client.register_script(script(WRITE))
        self._account = account
        self._rng = rng
        self._clock = clock

    def __repr__(self) -> str:
        return f"<RedisStore {self._account}>"

    def keys_of(self, name: str) -> list[str]:
        """Return the keys of a state, its lock and its queue.

        They have the same hash tag, so that a cluster keeps them on one node. A queue
        is called ``line`` there; the name is part of the format.
        """
        key = f"finetuning:{VERSION}:{{{self._account}}}:{name}"
        return [key, f"{key}:lock", f"{key}:line"]

    async def update(self, name: str, step: Step[T]) -> T:
        """As `StateStore.update`.

        Raises:
            redis.exceptions.RedisError: The server did not respond.
        """
        keys, me = self.keys_of(name), f"{self._rng.getrandbits(80):020x}"
        # The first attempt is optimistic: without contention it takes no lock.
        has_lock = False
        while True:
            content = await self._read(keys=keys, args=[me, int(has_lock)])
            if content is None:  # another update holds the lock, and we are queued
                has_lock = True
                content = await self._await_lock(keys, me)
            if content is None:  # it was not handed on in time: start again
                continue
            snapshot = self._parse(content)
            after, result = step(snapshot.state, snapshot.now)
            # Without a lock an unchanged state needs no write. With one it does: the
            # write also hands the lock on.
            if after == snapshot.state and not has_lock:
                return result
            clock = [repr(snapshot.now), repr(snapshot.ahead)]
            args = [me, snapshot.stamp, after, *clock]
            if await self._write(keys=keys, args=args):
                return result
            has_lock = True  # the race was lost: the next read takes the lock

    async def _await_lock(self, keys: list[str], me: str) -> Any:
        """Wait in the queue; return the state, `None` if it takes too long."""
        item = await self._client.blpop([f"{keys[1]}:{me}"], timeout=QUEUE_TIMEOUT)
        return None if item is None else item[1]

    def _parse(self, content: str | bytes) -> _Snapshot:
        state, stamp, at, ahead, seconds, micros = json.loads(content)
        last, offset = float(at or 0), float(ahead or 0)
        now = int(seconds) + int(micros) / 1e6 + offset
        if self._clock is not None:
            now = self._clock()
        if now < last:
            # The server's clock was set back, or another server took over. So that no
            # lease lasts longer for it, the state's clock goes on from where it was.
            offset, now = offset + last - now, last
        return _Snapshot(None if state is False else state, stamp or "", now, offset)
