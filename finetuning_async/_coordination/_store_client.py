"""One process and its store: who asks when, what is still to be told, who is gone.

There is no background task. Those who wait for a turn register; one of them drives: it
says everything that there is to say, gives every waiter its news, and sleeps until the
store has said that it is worth asking again. When it leaves, whether served or
cancelled, it hands on to another. What became of requests is noted at once and told
with the next exchange; a note is kept until the store has surely heard it.

A store that fails, or takes longer than `PATIENCE`, is left alone for a while. Who
waited for it is told so and goes on without it (see `_store_limiter`).
"""

from __future__ import annotations

import logging
from collections import deque
from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING, Final

import anyio
import attrs

from finetuning_async._coordination._exchange_messages import (
    PermitRequest,
    Report,
    WaitingRequest,
)
from finetuning_async._pacing import check_pause
from finetuning_async._runtime import Wakeup
from finetuning_async._secrets import scrub

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Generator

    from finetuning_async._api import Route
    from finetuning_async._coordination._exchange_messages import (
        Exchanger,
        ExchangeReply,
        RateLimitSnapshot,
        RequestEvent,
    )
    from finetuning_async._pacing import RateLimits

logger = logging.getLogger("finetuning_async")

PATIENCE: Final = 1.0
"""Seconds that an exchange may take."""

PROBE: Final = 1.0
"""Seconds until a store that is gone is asked again: all who go on without it are to
know within `REPORTING` seconds that it is back."""

PLACES: Final = 10
"""Places of a process in the line of a budget at a time. So the lines stay short, and a
process with many that wait takes turns with the others."""

UNSEEN: Final = 4
"""Processes that are assumed while the store was never reached."""


MOST_SAID: Final = 200
"""Characters of what a store that fails says, in the log."""


class QueuePosition(Wakeup):
    """One call that waits for a turn.

    Attributes:
        ask: What it asks the store.
        max_pause: Seconds that a 429 may ask for.
        is_told: Whether the store may know of it.
        is_granted: Whether it may go.
        error: Why it will not.
    """

    __slots__ = ("ask", "error", "is_granted", "is_told", "max_pause")

    def __init__(self, ask: PermitRequest, max_pause: float) -> None:
        super().__init__()
        self.ask = ask
        self.max_pause = max_pause
        self.is_told = False
        self.is_granted = False
        self.error: Exception | None = None

    @property
    def is_done(self) -> bool:
        """Whether there is something for it."""
        return self.is_granted or self.error is not None


class StoreClient:
    """What one event loop of a process has with its store.

    Args:
        store: The store.
        limits: What this process holds itself to.
        timeout: As `WaitingRequest.timeout`.
        rng: Where names come from.
        under_way: Says how many tracks of this process are under way.
        polling: Says how many processes share their polling: those that let another
            read send nothing, and the store does not hear of them.

    Attributes:
        is_up: Whether the store answered last time, or was not asked yet.
        probe_at: When one that is gone is asked again, on the loop's clock.
        lost_at: When it was asked for the first time in vain.
        told: What it last said of each budget.
        told_at: When it was asked that.
    """

    def __init__(
        self,
        store: Exchanger,
        limits: RateLimits | None,
        *,
        timeout: float,
        rng: random.Random,
        under_way: Callable[[], int],
        polling: Callable[[], int],
    ) -> None:
        self._store = store
        self._limits = limits
        self._timeout = timeout
        self._rng = rng
        self._under_way = under_way
        self._polling = polling
        self._per = (
            60.0 if limits is None else max(limits.creates.per, limits.reads.per)
        )
        self._process = self.new_name()
        self._number = 0
        self._serial = 0
        self._epoch: str | None = None
        self._lock = anyio.Lock(fast_acquire=True)
        self._driver: QueuePosition | None = None
        self._places: dict[Route, list[QueuePosition]] = {"creates": [], "reads": []}
        self._has_news = False
        self._ask_at = -inf
        self._outbox: deque[tuple[float, Report]] = deque()
        self._out: dict[str, tuple[Route, float]] = {}
        self._over: deque[tuple[str, Route, float]] = deque()
        self._alone: dict[anyio.CancelScope, None] = {}
        self.is_up = True
        self.probe_at = -inf
        self.lost_at = -inf
        self._processes = UNSEEN
        self.told: dict[Route, RateLimitSnapshot] = {}
        self.told_at = -inf

    def __repr__(self) -> str:
        state = "up" if self.is_up else "gone"
        waiting = sum(map(len, self._places.values()))
        return f"<Link {state}: {waiting} waiting, {len(self._outbox)} to tell>"

    def new_name(self) -> str:
        """A name that no other process has given."""
        return f"{self._rng.getrandbits(80):020x}"

    @property
    def processes(self) -> int:
        """How many share the store, as far as was heard."""
        return max(self._processes, self._polling())

    def waiting(self, budget: Route) -> int:
        """How many of this process wait for it."""
        return len(self._places[budget])

    # Turns of the store.

    async def ask(self, budget: Route, *, first: bool, max_pause: float) -> str | None:
        """Wait for a turn; its name, or `None` if the store is gone.

        Cancelled, it leaves the line, and a turn that was there goes to the next.

        Raises:
            RateLimitError: A 429 closed the gate for longer than `max_pause` seconds.
        """
        ask = PermitRequest(id=self.new_name(), budget=budget, first=first)
        place = QueuePosition(ask, max_pause)
        self._stand(place)
        try:
            while not place.is_done and self.is_up:
                if self._driver is None:
                    await self._drive(place)
                else:
                    await place.wait()
        except BaseException:
            self._leave(place)
            raise
        if place.is_granted:
            return ask.id
        self._leave(place)
        if place.error is not None:
            raise place.error
        return None

    def _stand(self, place: QueuePosition) -> None:
        places = self._places[place.ask.budget]
        behind = sum(p.ask.first for p in places) if place.ask.first else len(places)
        places.insert(behind, place)
        if behind < PLACES:
            self._stir()

    def _leave(self, place: QueuePosition) -> None:
        places = self._places[place.ask.budget]
        if place in places:
            places.remove(place)
        if place.is_told:
            self.note("unsent", place.ask.id, place.ask.budget)
        self._stir()
        self._hand_on()

    # The wheel.

    async def _drive(self, driver: QueuePosition) -> None:
        self._driver = driver
        try:
            while not driver.is_done and self.is_up:
                if self._has_news or anyio.current_time() >= self._ask_at:
                    await self._exchange()
                else:
                    await driver.wait_until(self._ask_at)
        finally:
            driver.cancel_timer()
            self._driver = None
            self._hand_on()

    def _hand_on(self) -> None:
        if self._driver is None:
            for places in self._places.values():
                if places:
                    places[0].wake()
                    return

    def _stir(self) -> None:
        """There is something to say."""
        self._has_news = True
        if self._driver is not None:
            self._driver.wake()

    async def flush(self) -> None:
        """Tell what was noted, unless a driver does, or the store is gone."""
        if self._outbox and not self.is_up:
            await self.probe()
        while self._outbox and self.is_up and not self._lock.locked():
            if self._driver is not None:
                self._stir()
                return
            await self._exchange()

    # One exchange.

    async def _exchange(self, *, probing: bool = False) -> None:
        async with self._lock:
            if not (self.is_up or probing):
                return
            request = self._request()
            asked_at = anyio.current_time()
            try:
                with anyio.fail_after(PATIENCE):
                    reply = await self._store.exchange(request)
            except Exception as error:  # whatever a store's library raises
                self._lost(error, asked_at)
            except BaseException:  # cancelled, and nobody knows what was heard
                self._has_news = True
                raise
            else:
                self._learn(request, reply, asked_at)

    def _request(self) -> WaitingRequest:
        now = anyio.current_time()
        self._has_news = False
        self._number += 1
        asking = [p for places in self._places.values() for p in places[:PLACES]]
        for place in asking:
            place.is_told = True
        return WaitingRequest(
            process=self._process,
            number=self._number,
            epoch=self._epoch,
            limits=self._limits,
            timeout=self._timeout,
            asks=tuple(place.ask for place in asking),
            notes=tuple(attrs.evolve(n, ago=now - at) for at, n in self._outbox),
            under_way=self._under_way(),
            degraded=0.0 if self.is_up else now - self.lost_at,
        )

    def _learn(
        self, request: WaitingRequest, reply: ExchangeReply, asked_at: float
    ) -> None:
        last = request.notes[-1].serial if request.notes else 0
        while self._outbox and self._outbox[0][1].serial <= last:
            self._outbox.popleft()
        if self._epoch not in (None, reply.epoch):
            self._tell_again()
        self._epoch = reply.epoch
        self.told, self.told_at = dict(reply.budgets), asked_at
        self._processes = max(reply.processes, 1)
        self._ask_at = anyio.current_time() + reply.wait
        self._found()
        for places in self._places.values():
            self._give_out(places, reply)

    def _give_out(self, places: list[QueuePosition], reply: ExchangeReply) -> None:
        now = anyio.current_time()
        for place in list(places):
            if place.ask.id in reply.granted:
                places.remove(place)
                self._out[place.ask.id] = place.ask.budget, now
                place.is_granted = True
                place.wake()
            else:
                self._check_gate(place, now)
        if not all(place.is_told for place in places[:PLACES]):
            self._stir()

    def _check_gate(self, place: QueuePosition, now: float) -> None:
        try:
            budget = place.ask.budget
            check_pause(budget, self.opens_at(budget), now, place.max_pause)
        except Exception as error:  # raised in the task that waits
            place.error = error
            place.wake()

    def opens_at(self, budget: Route) -> float:
        """When the gate opens, as the store last said; in the past if none holds."""
        told = self.told.get(budget)
        if told is None or not told.status.closed_for:
            return -inf
        return self.told_at + told.status.closed_for

    # What is to be told.

    def note(
        self, event: RequestEvent, name: str, budget: Route, **facts: object
    ) -> None:
        """Keep what became of a request until the store has heard it."""
        now = anyio.current_time()
        self._serial += 1
        note = Report(serial=self._serial, id=name, budget=budget, event=event, **facts)  # type: ignore[arg-type]  # named by the callers below
        self._outbox.append((now, note))
        self._remember(event, name, budget, now)
        too_old = now - self._timeout - 2 * self._per
        while self._outbox[0][0] < too_old:  # it would change nothing any more
            self._outbox.popleft()

    def _remember(
        self, event: RequestEvent, name: str, budget: Route, now: float
    ) -> None:
        if event == "sent":
            self._out[name] = budget, now
        elif event != "refused":
            known = self._out.pop(name, None)
            if known is not None and event != "unsent":
                self._over.append((name, budget, now))
        while self._over and self._over[0][2] < now - 2 * self._per:
            self._over.popleft()

    def _tell_again(self) -> None:
        """The store has forgotten all: say what this process has sent of late."""
        told = [(at, "answered", name, budget) for name, budget, at in self._over]
        out = [(at, "sent", name, budget) for name, (budget, at) in self._out.items()]
        waiting, self._outbox = self._outbox, deque()
        self._outbox.extend(
            (at, self._numbered(event, name, budget))
            for at, event, name, budget in [*told, *out]
        )
        self._outbox.extend(
            (at, attrs.evolve(note, serial=self._next_serial())) for at, note in waiting
        )
        self._stir()

    def _next_serial(self) -> int:
        self._serial += 1
        return self._serial

    def _numbered(self, event: str, name: str, budget: Route) -> Report:
        serial = self._next_serial()
        return Report(serial=serial, id=name, budget=budget, event=event)  # type: ignore[arg-type]  # one of two literals

    # Without the store.

    def _lost(self, error: Exception, asked_at: float) -> None:
        if self.is_up:
            self.is_up, self.lost_at = False, asked_at
            logger.warning(
                "the store of the rate limits is gone (%s); going on with a share of"
                " one in %d",
                _in_words(error),
                self.processes,
            )
            for places in self._places.values():
                for place in places:
                    place.wake()
        self.probe_at = anyio.current_time() + PROBE
        self._appoint()

    def _found(self) -> None:
        if not self.is_up:
            self.is_up = True
            logger.warning("the store of the rate limits is back")
            for scope in self._alone:
                scope.cancel()

    async def probe(self) -> None:
        """Ask whether the store is back, if it is time to."""
        now = anyio.current_time()
        if now >= self.probe_at and not self._lock.locked():
            self.probe_at = now + PATIENCE + PROBE  # nobody else does
            await self._exchange(probing=True)

    @contextmanager
    def degraded(self) -> Generator[None]:
        """Wait without the store; left when it is back, or to ask whether it is."""
        scope = anyio.CancelScope()
        self._alone[scope] = None
        self._appoint()
        try:
            with scope:
                yield
        finally:
            del self._alone[scope]
            self._appoint()

    def _appoint(self) -> None:
        """One of those who wait without the store looks after it."""
        for scope in self._alone:
            scope.deadline = self.probe_at
            return


def _in_words(error: Exception) -> str:
    """The class and the first line of what it says: a wrong name or password, say."""
    said = scrub(str(error).strip().partition("\n")[0])[:MOST_SAID]
    name = type(error).__name__
    return f"{name}: {said}" if said else name
