"""What this process remembers of an account's limits, whichever event loop runs.

    Common    one budget of an account, and the lines in which its loops wait
    Shared    the budgets of one account
    Seat      one event loop at an account: its clock, its lines, its requests out

All of it is kept in seconds of the machine's clock and changed under `LOCK`, in steps
of microseconds. It is a lock that its holder may take again, for the garbage collector
may close a coroutine, which ends its permit, at any moment.

A loop may end, or be halted, with requests out: whoever waits for their answers gives
them up for it. A loop whose clock turns out to be another than the machine's takes what
it did away with it. A forked child keeps what was sent, for the service counts it, and
nobody to wait for. An account is forgotten once nothing of it matters any more.
"""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from copy import deepcopy
from math import inf
from threading import RLock
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

import attrs

from finetuning_async._pacing import RateBudget
from finetuning_async._runtime import LoopHandle, machine_now

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from finetuning_async._pacing import RateLimits, Reservation

    Key: TypeAlias = tuple[str, str, bool]
    """Base URL, hash of the key, and whether it is not paced."""

logger = logging.getLogger("finetuning_async")

LOCK: Final = RLock()
"""One for all accounts: what it guards is short, and a fork has one to look after."""

LINGER: Final = 5.0
"""Seconds for which what a loop left on the wire may still arrive."""

HALTED: Final = 60.0
"""Seconds after which a loop that is halted, between two runs, is taken for ended."""

AT_A_TIME: Final = 8
"""Accounts that are looked at, whether they may be forgotten, as a loop comes."""

_accounts: OrderedDict[Key, Shared] = OrderedDict()


class WaitingLine(Protocol):
    """Where one loop waits for one budget; see `ProcessWaitQueue`."""

    def own_length(self) -> int:
        """How many wait in this loop."""

    def rank(self) -> tuple[bool, int]:
        """Whose head comes first: the lowest; to be asked where somebody waits."""

    def call_head(self) -> bool:
        """Wake the head from another loop; whether that one still runs."""

    def call_the_unwilling(self) -> None:
        """Wake those who will not wait for the gate, from whatever loop."""

    def stand_aside(self) -> None:
        """Let the other lines go ahead."""

    def move(self, common: Common) -> None:
        """Wait for the tokens of another budget, or of another's rules."""


class Common:
    """One budget of an account in this process.

    Attributes:
        budget: Its rules, and what they know.
        lines: Those in which somebody waits.
        taken: Tokens taken so far.
    """

    __slots__ = ("budget", "lines", "taken")

    def __init__(self, budget: RateBudget) -> None:
        self.budget = budget
        self.lines: list[WaitingLine] = []
        self.taken = 0

    def first(self) -> WaitingLine | None:
        """The line of whoever waits ahead of all."""
        return min(self.lines, key=_rank, default=None)


def _rank(line: WaitingLine) -> tuple[bool, int]:
    return line.rank()


@attrs.define(eq=False, kw_only=True)
class Seat:
    """One event loop at an account.

    Attributes:
        shared: What it shares with other loops.
        loop: Itself.
        offset: What its clock shows more than the machine's, in seconds.
        entered_at: When it came, on the machine's clock, as all times here.
        used_at: When it last took or ended anything.
        before: What the budgets held when it came, if they held anything.
        lines: Where it waits, by budget.
        out: Its requests that are out, and the names of their budgets.
        is_apart: Whether its clock is another one, so that it shares nothing.
        is_dismissed: Whether it was taken for ended.
    """

    shared: Shared
    loop: LoopHandle
    offset: float
    entered_at: float
    used_at: float
    before: dict[str, RateBudget] | None
    lines: dict[str, WaitingLine] = attrs.field(factory=dict)
    out: dict[Reservation, str] = attrs.field(factory=dict)
    is_apart: bool = False
    is_dismissed: bool = False

    def time(self, shown: float) -> float:
        """The time now, on the machine's clock, or on the loop's own if that is not it.

        To be asked first of all: it may lead to other budgets than those of before.

        Args:
            shown: What the loop's clock shows.
        """
        if self.is_dismissed:
            self.shared.readmit(self)
        if not self.is_apart:
            now = machine_now()
            if shown - now <= self.offset or not self.loop.has_jumped(shown):
                return now
            self.shared.part_with(self)
        return shown - self.offset

    def is_over(self, now: float) -> bool:
        """Whether nobody will settle what it has out."""
        if self.loop.has_ended:
            return True
        return now > self.used_at + HALTED and not self.loop.is_running

    def give_up(self, now: float) -> None:
        """Take it that what is out will not be answered."""
        out, self.out = self.out, {}
        for ticket, name in out.items():
            self.shared.budgets[name].budget.abandoned(ticket, now, LINGER)

    def move(self, shared: Shared) -> None:
        """Take its lines, with those who wait in them, to other budgets."""
        self.shared = shared
        for name, line in self.lines.items():
            line.move(shared.budgets[name])


class Shared:
    """The budgets of one account in this process.

    Args:
        key: Of the account.
        limits: What it may send; `None` for no pacing.
        rng: Where jitter comes from.

    Attributes:
        settled: Which budget a route takes from, where that had to be found out.
        budgets: By name.
        seats: The loops that use it.
    """

    def __init__(self, key: Key, limits: RateLimits | None, rng: random.Random) -> None:
        self.limits = limits
        self.settled: dict[str, str] = {}
        self.budgets = {
            name: Common(RateBudget(getattr(limits, name, None), rng))
            for name in ("creates", "reads")
        }
        self.seats: list[Seat] = []
        self._key = key
        self._rng = rng
        self._used_at = -inf  # by loops that have ended

    @property
    def used_at(self) -> float:
        """When anything was last taken or ended; ``-inf`` if nothing ever was."""
        return max([self._used_at, *(seat.used_at for seat in self.seats)])

    def enter(self, loop: LoopHandle, offset: float, now: float) -> Seat:
        """Give a loop its seat; its lines are the caller's to make."""
        is_fresh = self.used_at == -inf
        seat = Seat(
            shared=self,
            loop=loop,
            offset=offset,
            entered_at=now,
            used_at=now,
            before=None if is_fresh else self._copies(),
        )
        self.seats.append(seat)
        return seat

    def _copies(self) -> dict[str, RateBudget]:
        return {
            name: deepcopy(common.budget, {id(self._rng): self._rng})
            for name, common in self.budgets.items()
        }

    def sweep(self) -> None:
        """Let go of the loops that have ended, and of those with another clock."""
        now = machine_now()
        for seat in self.seats.copy():
            if seat.loop.has_jumped(seat.loop.now()):
                self.part_with(seat)
            elif seat.is_over(now):
                self._dismiss(seat, now)

    def _dismiss(self, seat: Seat, now: float) -> None:
        self._used_at = max(self._used_at, now if seat.out else seat.used_at)
        self.seats.remove(seat)
        seat.is_dismissed = True
        for line in seat.lines.values():
            line.stand_aside()
        seat.give_up(now)

    def part_with(self, seat: Seat) -> None:
        """Let go of a loop whose clock is another one, as if it had never come.

        What it did goes with it. Where others have used the account since it came, that
        cannot be told apart: then what it has out is taken back, and the rest stays for
        as long as such things matter.
        """
        if seat in self.seats:
            self.seats.remove(seat)
        seat.is_apart, seat.is_dismissed = True, False
        apart = Shared(self._key, self.limits, self._rng)
        if self.used_at < seat.entered_at:
            self._hand_over(seat, apart)
        else:
            self._take_back(seat)
        seat.move(apart)

    def _hand_over(self, seat: Seat, apart: Shared) -> None:
        """Give a loop the budgets that it alone has used, and put back what was."""
        for name, common in self.budgets.items():
            fresh = apart.budgets[name].budget
            apart.budgets[name].budget = common.budget
            self._put_back(name, seat.before[name] if seat.before else fresh)

    def _take_back(self, seat: Seat) -> None:
        now = machine_now()
        for ticket, name in seat.out.items():
            self.budgets[name].budget.unsent(ticket, now)
        seat.out.clear()

    def _put_back(self, name: str, budget: RateBudget) -> None:
        common = self.budgets[name]
        common.budget = budget
        for seat in self.seats:
            seat.lines[name].move(common)

    def readmit(self, seat: Seat) -> None:
        """Take back a loop that ran on after it was taken for ended."""
        shared = _accounts.setdefault(self._key, self)
        shared.seats.append(seat)
        seat.is_dismissed = False
        seat.move(shared)

    def lose_everybody(self, now: float) -> None:
        """In a forked child: nobody is there who could settle or wait."""
        for seat in self.seats.copy():
            self._dismiss(seat, now)

    def matters(self, now: float) -> bool:
        """Whether anybody is here, or anything that was sent or said still counts."""
        if self.seats:
            return True
        until = [common.budget.opens_at for common in self.budgets.values()]
        return now < max(self._used_at + self._memory(), *until)

    def _memory(self) -> float:
        """Seconds for which a request may weigh: two periods, with their margins."""
        if self.limits is None:
            return 0.0
        return 2.1 * max(self.limits.creates.per, self.limits.reads.per) + LINGER


def enter(
    key: Key,
    limits: RateLimits | None,
    rng: random.Random,
    new_line: Callable[[str, Seat], WaitingLine],
) -> Seat | None:
    """The seat of the running event loop at an account.

    Args:
        key: Of the account.
        limits: What it may send, if no other loop has said so before.
        rng: Where jitter comes from.
        new_line: Makes a line, given the name of its budget.

    Returns:
        `None` if the loop's clock is not the machine's.
    """
    loop = LoopHandle.current()
    if loop.offset is None or loop.has_jumped(loop.now()):
        return None
    with LOCK:
        _forget()
        shared = _accounts.get(key)
        if shared is not None:
            shared.sweep()
        now = machine_now()
        # A clock that has gone back was no clock, but a test's patch.
        if shared is None or not shared.used_at <= now or not shared.matters(now):
            shared = Shared(key, limits, rng)
        _accounts[key] = shared
        _accounts.move_to_end(key)
        seat = shared.enter(loop, loop.offset, now)
        seat.lines = {name: new_line(name, seat) for name in shared.budgets}
    if shared.limits != limits:  # said without the lock: a log may come back to us
        logger.warning(
            "another client with this key set %s first; it holds for both",
            shared.limits,
        )
    return seat


def _forget() -> None:
    """Forget accounts that do not matter any more, beginning with the oldest."""
    for _ in range(min(AT_A_TIME, len(_accounts))):
        key, shared = _accounts.popitem(last=False)
        shared.sweep()
        if shared.matters(machine_now()):
            _accounts[key] = shared


def _in_child() -> None:
    now = machine_now()
    for shared in _accounts.values():
        shared.lose_everybody(now)
    LOCK.release()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(
        before=LOCK.acquire, after_in_parent=LOCK.release, after_in_child=_in_child
    )
