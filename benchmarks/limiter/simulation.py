"""Clients against servers, under a clock that jumps.

One run: `count` tasks each want one request served, all at once. Each request takes a
random delay each way; a refused one waits out ``Retry-After`` (whole seconds, rounded
up) and asks for its turn again. Counted are the refusals and the time until the last
answer.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final, NamedTuple

import attrs

from benchmarks.limiter.servers import KINDS, clairvoyant, whole_seconds
from finetuning_async.testing import JumpingEventLoop

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from benchmarks.limiter.servers import Server

    class Client(Protocol):
        """A way to pace requests."""

        async def request(self, send: Callable[..., object]) -> None:
            """Have one request served."""


TIMERS_LATE: Final = 0.0005


@attrs.frozen(kw_only=True)
class Setting:
    """What a run is like.

    Attributes:
        kind: How the server counts; a key of `KINDS`.
        count: Requests that are wanted.
        delays: Seconds each way, from and to.
        headers: Whether answers carry X-RateLimit headers.
        foreign: Requests of somebody else, counted half a second before the start.
        limit: Requests per `per` seconds.
        per: Seconds.
    """

    kind: str
    count: int = 60
    delays: tuple[float, float] = (0.02, 0.4)
    headers: bool = True
    foreign: int = 0
    limit: int = 10
    per: float = 60.0


class Response(NamedTuple):
    """What a client sees."""

    status: int
    limit: int | None
    remaining: int | None
    retry_after: float | None


class Result(NamedTuple):
    """What came of a run."""

    refusals: int
    seconds: float
    worst_window: int
    """Most refusals within one period."""


class Wire:
    """The way to the server and back, and what happened on it."""

    def __init__(self, setting: Setting, seed: int) -> None:
        self.setting = setting
        self.rng = random.Random(seed)
        phase = self.rng.random() * setting.per
        self.start = 3 * setting.per  # long enough that no window is the first
        self.server = KINDS[setting.kind](setting.limit, setting.per, phase)
        self.phase = phase
        for _ in range(setting.foreign):
            self.server.ask(self.start - 0.5)
        self.refused: list[float] = []

    async def send(self) -> Response:
        """One request and its answer."""
        await asyncio.sleep(self._delay())
        verdict = self.server.ask(self.start + asyncio.get_running_loop().time())
        if not verdict.accepted:
            self.refused.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self._delay())
        headers = self.setting.headers
        return Response(
            202 if verdict.accepted else 429,
            self.setting.limit if headers else None,
            verdict.remaining if headers else None,
            None if verdict.accepted else whole_seconds(verdict),
        )

    def optimum(self) -> float:
        """Seconds that a clairvoyant client without latency would take."""
        kind = self.setting.kind.removesuffix("+rejects")
        server: Server = KINDS[kind](self.setting.limit, self.setting.per, self.phase)
        for _ in range(self.setting.foreign):
            server.ask(self.start - 0.5)
        return clairvoyant(server, self.setting.count, self.start)

    def _delay(self) -> float:
        late = self.rng.random() * TIMERS_LATE
        return self.rng.uniform(*self.setting.delays) + late


def run(setting: Setting, seed: int, make: Callable[[Setting], Client]) -> Result:
    """Run one client once."""
    wire = Wire(setting, seed)

    async def all_of_them() -> float:
        client = make(setting)
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            for _ in range(setting.count):
                group.create_task(client.request(wire.send))
        return loop.time()

    with asyncio.Runner(loop_factory=JumpingEventLoop) as runner:
        seconds = runner.run(all_of_them())
    return Result(len(wire.refused), seconds, _worst(wire.refused, setting.per))


def _worst(times: list[float], per: float) -> int:
    return max((sum(t <= u < t + per for u in times) for t in times), default=0)
