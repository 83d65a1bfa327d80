"""Clients against servers, under a clock that jumps.

One run: `count` tasks each want one request served, all at once. Each request takes a
random delay each way; a refused one waits out ``Retry-After`` (whole seconds, rounded
up) and asks for its turn again. Counted are the refusals and the time until the last
answer.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import attrs

from benchmarks.limiter.servers import KINDS, clairvoyant, whole_seconds
from finetuning_async.testing import JumpingEventLoop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from benchmarks.limiter.servers import Server

    Send = Callable[[], Awaitable["Response"]]


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

    @property
    def given_up(self) -> float:
        """Seconds after which a run is over; some clients never finish."""
        return 4 * self.per * self.count / self.limit


class Response(NamedTuple):
    """What a client sees."""

    status: int
    limit: int | None
    remaining: int | None
    retry_after: float | None


class Client(Protocol):
    """A way to pace requests."""

    async def request(self, send: Send) -> None:
        """Have one request served; `send` makes one attempt."""


class Result(NamedTuple):
    """What came of a run."""

    refusals: int
    seconds: float
    worst_window: int
    """Most refusals within one period."""


class TickingLoop(JumpingEventLoop):
    """A clock that jumps, and moves a little whenever it is read, as a real one does.

    A peer that sleeps for less than a rounding error would never wake otherwise.
    """

    TICK = 1e-7

    def __init__(self) -> None:
        self._ticked = 0.0
        super().__init__()

    def time(self) -> float:
        """Seconds of virtual time."""
        self._ticked += self.TICK
        return super().time() + self._ticked


class Wire:
    """The way to the server and back, and what happened on it."""

    def __init__(self, setting: Setting, seed: int, seeds: int = 1) -> None:
        self.setting = setting
        self.rng = random.Random(seed)
        phase = (seed + self.rng.random()) / seeds * setting.per
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


def run(
    setting: Setting, seed: int, seeds: int, make: Callable[[Setting], Client]
) -> Result:
    """Run one client once.

    Args:
        setting: What the run is like.
        seed: Of the delays, and which of `seeds` parts of a period the phase lies in.
        seeds: How many runs there are in all.
        make: Makes the client, inside the event loop.
    """
    wire = Wire(setting, seed, seeds)

    async def all_of_them() -> float:
        client = make(setting)
        loop = asyncio.get_running_loop()
        with suppress(TimeoutError):
            async with asyncio.timeout(setting.given_up), asyncio.TaskGroup() as group:
                for _ in range(setting.count):
                    group.create_task(client.request(wire.send))
            return loop.time()
        return inf

    with asyncio.Runner(loop_factory=TickingLoop) as runner:
        seconds = runner.run(all_of_them())
    return Result(len(wire.refused), seconds, _worst(wire.refused, setting.per))


def _worst(times: list[float], per: float) -> int:
    """Most of `times`, which ascend, within any `per` seconds."""
    recent: deque[float] = deque()
    most = 0
    for time in times:
        recent.append(time)
        while recent[0] <= time - per:
            recent.popleft()
        most = max(most, len(recent))
    return most
