"""Who leads, who is told what: the script of the meetings, on a real server."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING, Any

import pytest

from finetuning_async._poll_words import Heard, Seen, Wanted, Words
from finetuning_async.redis._polling import GONE_AFTER, RedisCoordinator, keys_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import redis

ACCOUNTS = itertools.count(1)
TRACK = Wanted(id="t1", kind="music", age=3.0, length=60.0)
ROW = Seen(kind="music", row={"id": "t1", "status": "completed", "tags": []})

pytestmark = pytest.mark.xdist_group("real_time")


class Room:
    """Where the processes of one account meet; the server runs the script."""

    def __init__(self, server: redis.Redis) -> None:
        self._server = server
        self._account = f"meeting{next(ACCOUNTS)}"
        self._rng = random.Random(1)

    def process(self) -> RedisCoordinator:
        return RedisCoordinator(self, self._account, self._rng)

    def register_script(self, script: str) -> Callable[..., Awaitable[Any]]:
        async def run(keys: list[str], args: list[str]) -> Any:
            return self._server.eval(script, len(keys), *keys, *args)

        return run

    def end_the_lead(self) -> None:
        """As if its seconds were over."""
        self._server.delete(keys_of(self._account)[1])

    def forget(self) -> None:
        self._server.delete(*keys_of(self._account))

    def let_all_be_silent(self) -> None:
        """As if nobody had come for long."""
        members = keys_of(self._account)[3]
        rows: Any = self._server.zrange(members, 0, -1, withscores=True)
        for name, seen in rows:
            self._server.zadd(members, {name: seen - GONE_AFTER - 5})


@pytest.fixture
def room(redis_connection: redis.Redis) -> Room:
    return Room(redis_connection)


async def joined(process: RedisCoordinator, *wanted: Wanted) -> Heard:
    return await process.meet(Words(added=wanted))


async def test_the_first_leads_and_hears_what_others_want(room: Room) -> None:
    first, second = room.process(), room.process()
    assert (await joined(first)).leads_for > 1
    heard = await joined(second, TRACK)
    assert heard.leads_for == 0
    assert heard.is_new
    (wanted,) = (await first.meet(Words())).others or ()
    assert (wanted.id, wanted.kind, wanted.length) == ("t1", "music", 60.0)
    assert wanted.age == pytest.approx(3.0, abs=2)
    assert (await first.meet(Words())).others is None, "nothing has changed"


async def test_what_the_leader_saw_is_told_to_the_others_once(room: Room) -> None:
    first, second = room.process(), room.process()
    await joined(first)
    await joined(second, TRACK)
    assert not (await first.meet(Words(seen=[ROW], refused=["t2"]))).seen
    heard = await second.meet(Words())
    assert (list(heard.seen), list(heard.refused)) == ([ROW], ["t2"])
    assert not (await second.meet(Words())).seen


async def test_one_that_lost_the_lead_is_not_listened_to(room: Room) -> None:
    stale, other = room.process(), room.process()
    await joined(stale)
    room.end_the_lead()
    assert (await joined(other, TRACK)).leads_for > 1
    assert (await stale.meet(Words(seen=[ROW]))).leads_for == 0
    assert not (await other.meet(Words())).seen


async def test_nor_is_one_that_leads_again_with_what_it_read_before(room: Room) -> None:
    stale, other = room.process(), room.process()
    await joined(stale)
    await joined(other, TRACK)
    room.end_the_lead()
    assert (await stale.meet(Words(seen=[ROW]))).leads_for > 1
    assert not (await other.meet(Words())).seen


async def test_hints_go_to_everybody_whoever_gives_them(room: Room) -> None:
    first, second, third = (room.process() for _ in range(3))
    for each in (first, second):
        await joined(each)
    await third.meet(Words(hints=["t9"], may_lead=False))
    assert list((await first.meet(Words())).hints) == ["t9"]
    assert list((await second.meet(Words())).hints) == ["t9"]


async def test_who_waits_for_nothing_does_not_lead(room: Room) -> None:
    idle, other = room.process(), room.process()
    assert (await idle.meet(Words(may_lead=False))).leads_for == 0
    assert (await joined(other)).leads_for > 1
    assert (await other.meet(Words(may_lead=False))).leads_for == 0
    assert (await idle.meet(Words())).leads_for > 1, "the lead was given up"


async def test_what_the_dead_waited_for_is_forgotten(room: Room) -> None:
    dead, leader = room.process(), room.process()
    await joined(dead, TRACK)
    room.let_all_be_silent()
    room.end_the_lead()
    assert list((await joined(leader)).others or ()) == []


async def test_a_server_that_forgot_all_asks_for_everything_again(room: Room) -> None:
    first = room.process()
    await joined(first, TRACK)
    assert not (await first.meet(Words())).is_new
    room.forget()
    heard = await first.meet(Words())
    assert heard.is_new
    assert heard.leads_for > 1
