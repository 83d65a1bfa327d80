"""Clients against servers, in virtual time.

In one run, `count` tasks start at once, and each of them needs one request served. A
request takes a random delay each way. One that is refused waits for ``Retry-After``
(whole seconds, rounded up) and acquires another permit. A run measures the refusals and
the time until the last response.
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
    """The parameters of a run.

    Attributes:
        kind: How the server counts; a key of `KINDS`.
        count: Requests that must be served.
        delays: Range of the delay each way, in seconds.
        headers: Whether responses have X-RateLimit headers.
        foreign: Requests of another client, counted half a second before the start.
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
    def timeout(self) -> float:
        """Seconds after which a run is over; some clients never finish."""
        return 4 * self.per * self.count / self.limit


class Response(NamedTuple):
    """A response as the client sees it."""

    status: int
    limit: int | None
    remaining: int | None
    retry_after: float | None


class Client(Protocol):
    """A way to pace requests."""

    async def request(self, send: Send) -> None:
        """Call `send`, which is one attempt, until a request is served."""


class Result(NamedTuple):
    """What a run measured."""

    refusals: int
    seconds: float
    worst_window: int
    """Most refusals within one period."""


class TickingLoop(JumpingEventLoop):
    """Virtual time that also advances a little whenever it is read, as real time does.

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
    """The network and the server, and the refusals so far."""

    def __init__(self, setting: Setting, seed: int, seeds: int = 1) -> None:
        self.setting = setting
        self.rng = random.Random(seed)
        phase = (seed + self.rng.random()) / seeds * setting.per
        self.start = 3 * setting.per  # long enough that no window is the first
        self.server = KINDS[setting.kind](setting.limit, setting.per, phase)
        self.phase = phase
        for _ in range(setting.foreign):
            self.server.receive(self.start - 0.5)
        self.refused: list[float] = []

    async def send(self) -> Response:
        """Send one request and return its response."""
        await asyncio.sleep(self._delay())
        verdict = self.server.receive(self.start + asyncio.get_running_loop().time())
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
        """Seconds that a clairvoyant client would take, without latency."""
        kind = self.setting.kind.removesuffix("+rejects")
        server: Server = KINDS[kind](self.setting.limit, self.setting.per, self.phase)
        for _ in range(self.setting.foreign):
            server.receive(self.start - 0.5)
        return clairvoyant(server, self.setting.count, self.start)

    def _delay(self) -> float:
        late = self.rng.random() * TIMERS_LATE
        return self.rng.uniform(*self.setting.delays) + late


def run(
    setting: Setting, seed: int, seeds: int, make: Callable[[Setting], Client]
) -> Result:
    """Run one client once.

    Args:
        setting: Parameters of the run.
        seed: Seed of the delays, and the part of the period, out of `seeds` parts, in
            which the phase of the windows lies.
        seeds: How many runs there are in all.
        make: Makes the client, inside the event loop.
    """
    wire = Wire(setting, seed, seeds)

    async def run_all() -> float:
        client = make(setting)
        loop = asyncio.get_running_loop()
        with suppress(TimeoutError):
            async with asyncio.timeout(setting.timeout), asyncio.TaskGroup() as group:
                for _ in range(setting.count):
                    group.create_task(client.request(wire.send))
            return loop.time()
        return inf

    with asyncio.Runner(loop_factory=TickingLoop) as runner:
        seconds = runner.run(run_all())
    return Result(len(wire.refused), seconds, _worst(wire.refused, setting.per))


def _worst(times: list[float], per: float) -> int:
    """The largest number of `times`, which are ascending, within any `per` seconds."""
    recent: deque[float] = deque()
    most = 0
    for time in times:
        recent.append(time)
        while recent[0] <= time - per:
            recent.popleft()
        most = max(most, len(recent))
    return most
