"""The states of an account in Redis or Valkey, replaced by compare-and-set.

A state is a hash: the text, a stamp that each write gives anew, and the clock. Reading
takes one round trip, with the server's time; writing another, done by the server only
if the stamp is still the one that was read.

Where many contend, most would lose that race. So whoever lost one takes a lock, a key
that expires, for the next; and as long as there is a lock, whoever comes stands in a
line, and is handed the lock with what was written last. The stamp fences: one that
slept with the lock, and lost it, overwrites nothing. Of those in the line who die or
give up each holds the rest up for `LOCKED` at most.
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
"""Of what is kept; another one has keys of its own."""

LOCKED: Final = 0.2
"""Seconds for which the lock is held at most; an update takes a few milliseconds."""

PATIENCE: Final = 0.3
"""Seconds in the line after which one looks again; above `LOCKED`."""

KEPT: Final = 86_400
"""Seconds without a word after which all is forgotten: a day."""

_SHOW: Final = """
local state, lock, line = KEYS[1], KEYS[2], KEYS[3]
local me, clock = ARGV[1], redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local function show()
  local kept = redis.call('HMGET', state, 'state', 'stamp', 'at', 'ahead')
  return cjson.encode({kept[1], kept[2], kept[3], kept[4], clock[1], clock[2]})
end
local function give(owner) redis.call('SET', lock, owner, 'PX', LOCKED_MS) end
"""

LOOK: Final = """
local owner = redis.call('GET', lock)
if owner and owner ~= me then
  redis.call('RPUSH', line, (now + PATIENCE_MS) .. ':' .. me)
  redis.call('PEXPIRE', line, 2 * PATIENCE_MS)
  return false
end
if ARGV[2] == '1' then give(me) end
return show()
"""
"""What is kept, and the time; takes the lock, if asked to. Nothing, if another has it:
then the caller stands in the line."""

WRITE: Final = """
local stamp = redis.call('HGET', state, 'stamp') or ''
if stamp ~= ARGV[2] and stamp ~= me then return 0 end
if stamp ~= me then
  redis.call('HSET', state, 'stamp', me, 'state', ARGV[3], 'at', ARGV[4],
    'ahead', ARGV[5])
  redis.call('EXPIRE', state, KEPT)
end
if redis.call('GET', lock) ~= me then return 1 end
redis.call('DEL', lock)
local waits = redis.call('LPOP', line)
while waits do
  local until_ms, id = string.match(waits, '(%d+):(.+)')
  if tonumber(until_ms) > now then
    give(id)
    redis.call('RPUSH', lock .. ':' .. id, show())
    redis.call('PEXPIRE', lock .. ':' .. id, LOCKED_MS)
    break
  end
  waits = redis.call('LPOP', line)
end
return 1
"""
"""Whether it was written; hands the lock on. Said again, since its answer was lost, it
says again that it was done."""


def script(body: str) -> str:
    """A whole one: what all have in common, with the numbers in it, and `body`."""
    text = _SHOW + body
    numbers = {"LOCKED_MS": LOCKED * 1000, "PATIENCE_MS": PATIENCE * 1000, "KEPT": KEPT}
    for name, number in numbers.items():
        text = text.replace(name, f"{number:.0f}")
    return text


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
        self._client = client
        self._read = client.register_script(script(LOOK))
        self._write = client.register_script(script(WRITE))
        self._account = account
        self._rng = rng
        self._clock = clock

    def __repr__(self) -> str:
        return f"<RedisStore {self._account}>"

    def keys_of(self, name: str) -> list[str]:
        """Of a state, its lock and its line; one hash tag, one node of a cluster."""
        key = f"finetuning:{VERSION}:{{{self._account}}}:{name}"
        return [key, f"{key}:lock", f"{key}:line"]

    async def update(self, name: str, step: Step[T]) -> T:
        """As `StateStore.update`.

        Raises:
            redis.exceptions.RedisError: The server did not answer.
        """
        keys, me = self.keys_of(name), f"{self._rng.getrandbits(80):020x}"
        locks = False
        while True:
            told = await self._read(keys=keys, args=[me, int(locks)])
            if told is None:
                locks = True
                told = await self._handed(keys, me)
            if told is None:
                continue
            found = self._found(told)
            after, result = step(found.state, found.now)
            if after == found.state and not locks:
                return result
            args = [me, found.stamp, after, repr(found.now), repr(found.ahead)]
            if await self._write(keys=keys, args=args):
                return result
            locks = True

    async def _handed(self, keys: list[str], me: str) -> Any:
        """Wait in the line; what was written last, `None` if it takes too long."""
        got = await self._client.blpop([f"{keys[1]}:{me}"], timeout=PATIENCE)
        return None if got is None else got[1]

    def _found(self, told: str | bytes) -> _Found:
        state, stamp, at, ahead, seconds, micros = json.loads(told)
        last, later = float(at or 0), float(ahead or 0)
        now = int(seconds) + int(micros) / 1e6 + later
        if self._clock is not None:
            now = self._clock()
        if now < last:  # the server's clock was set back
            later, now = later + last - now, last
        return _Found(None if state is False else state, stamp or "", now, later)
