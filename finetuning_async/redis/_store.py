"""The states of an account in Redis or Valkey, replaced by compare-and-set.

A state is a hash: the text, a stamp that each write gives anew, and the clock. Reading
takes one round trip, with the server's time; writing another, done by the server only
if the stamp is still the one that was read. Whoever lost `RACES` races takes a lock for
the next one, a key that expires; from then on all wait for it, so each has its turn
even where many contend. The stamp fences: one that slept with the lock, or lost it,
overwrites nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import anyio

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from finetuning_async._store_protocol import Step

T = TypeVar("T")

VERSION: Final = 2
"""Of what is kept; another one has keys of its own."""

READ: Final = """
local holder = redis.call('GET', KEYS[2])
if holder and holder ~= ARGV[1] then return {} end
if ARGV[2] ~= '0' then redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2]) end
return {redis.call('HMGET', KEYS[1], 'state', 'stamp', 'at', 'ahead'),
  redis.call('TIME')}
"""
"""The state and the time, unless another holds the lock; takes it, if asked to."""

WRITE: Final = """
local stamp = redis.call('HGET', KEYS[1], 'stamp') or ''
local is_done = stamp == ARGV[2]
if stamp ~= ARGV[1] and not is_done then return 0 end
if not is_done then
  redis.call('HSET', KEYS[1], 'stamp', ARGV[2], 'state', ARGV[3], 'at', ARGV[4],
    'ahead', ARGV[5])
  redis.call('PEXPIRE', KEYS[1], ARGV[6])
end
if redis.call('GET', KEYS[2]) == ARGV[7] then redis.call('DEL', KEYS[2]) end
return 1
"""
"""Said again, because its answer was lost, it says again that it was done."""

RACES: Final = 1
"""Races that may be lost before the lock is taken."""

LOCKED_MS: Final = 200
"""Milliseconds for which the lock is held at most; an update takes a few."""

SHORTEST_LOOK: Final = 0.002
LONGEST_LOOK: Final = 0.008
"""Seconds between two looks at a lock that another holds."""

KEPT_MS: Final = 86_400_000
"""A day without a word, and all is forgotten."""


class _Found(NamedTuple):
    """What was read: the state, its stamp, and the clock, which never goes back."""

    state: str | None
    stamp: str
    now: float
    ahead: float


class RedisStore:
    """The states of an account in one event loop.

    Args:
        client: A `redis.asyncio.Redis`.
        account: A hash, never the API key.
        rng: Where stamps and pauses come from.
        clock: Instead of the server's, for tests.
    """

    def __init__(
        self,
        client: Any,
        account: str,
        rng: random.Random,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._read = client.register_script(READ)
        self._write = client.register_script(WRITE)
        self._account = account
        self._rng = rng
        self._clock = clock

    def __repr__(self) -> str:
        return f"<RedisStore {self._account}>"

    def keys_of(self, name: str) -> list[str]:
        """Of a state and its lock; with one hash tag, to lie together in a cluster."""
        key = f"finetuning:{VERSION}:{{{self._account}}}:{name}"
        return [key, f"{key}:lock"]

    async def update(self, name: str, step: Step[T]) -> T:
        """As `StateStore.update`.

        Raises:
            redis.exceptions.RedisError: The server did not answer.
        """
        keys, stamp = self.keys_of(name), f"{self._rng.getrandbits(80):020x}"
        races = 0
        while True:
            locks = races >= RACES
            found = await self._look(keys, stamp, LOCKED_MS if locks else 0)
            if found is None:  # another holds the lock
                races = RACES
                await anyio.sleep(self._rng.uniform(SHORTEST_LOOK, LONGEST_LOOK))
                continue
            after, result = step(found.state, found.now)
            if after == found.state and not locks:
                return result
            if await self._replace(keys, found, stamp, after):
                return result
            races += 1

    async def _look(self, keys: list[str], holder: str, lock: int) -> _Found | None:
        told = await self._read(keys=keys, args=[holder, lock])
        if not told:
            return None
        (state, stamp, at, ahead), (seconds, micros) = told
        last, ahead = float(at or 0), float(ahead or 0)
        now = int(seconds) + int(micros) / 1e6 + ahead
        if self._clock is not None:
            now = self._clock()
        if now < last:  # the server's clock was set back
            ahead, now = ahead + last - now, last
        return _Found(_text(state), _text(stamp) or "", now, ahead)

    async def _replace(
        self, keys: list[str], found: _Found, stamp: str, state: str
    ) -> bool:
        """Write a state; whether nobody else had written one since it was read."""
        args = [found.stamp, stamp, state, repr(found.now), repr(found.ahead)]
        return bool(await self._write(keys=keys, args=[*args, KEPT_MS, stamp]))


def _text(told: bytes | str | None) -> str | None:
    """What the server said; bytes, unless the URL asks for text."""
    return told.decode() if isinstance(told, bytes) else told
