"""What this process remembers of an account's limits, for all of its event loops.

    ProcessAccount   the budgets of one account, and the event loops that use them
    ProcessBudget    one budget, and the queues in which its loops wait
    AttachedLoop     one event loop: its clock, its queues, its requests in flight

All of it is kept in seconds of the machine's clock and changed under `LOCK`, in steps
of microseconds. The lock is reentrant: the garbage collector may close a coroutine at
any moment, also while its thread holds the lock, and that ends a permit.

An event loop may end, or stop running, with requests in flight; other loops that wait
for their responses then abandon these requests for it. A loop whose clock turns out not
to be the machine's is detached, and what it sent goes with it. A forked child keeps
what was sent, because the service counts it, but has no loops. An account is forgotten
once nothing of it matters any more.
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

from finetuning_async._api import PRIORITIES
from finetuning_async._pacing import Dealer, RateBudget, surely_ahead
from finetuning_async._runtime import LoopHandle, machine_now

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from finetuning_async._pacing import (
        FairQueue,
        QueuedRequest,
        RateLimits,
        Reservation,
    )

    AccountKey: TypeAlias = tuple[str, str, bool]
    """Base URL, hash of the API key, and whether it is not paced."""

logger = logging.getLogger("finetuning_async")

LOCK: Final = RLock()
"""One for all accounts: what it guards is short, and a fork has only one to handle."""

LINGER: Final = 5.0
"""Seconds for which requests that an ended loop left on the wire may still arrive."""

STOPPED_AFTER: Final = 60.0
"""Seconds after which a loop that does not run counts as ended; asyncio's can be
between two runs."""

ACCOUNTS_PER_SWEEP: Final = 8
"""Accounts that are checked for being forgotten whenever a loop attaches itself."""

_accounts: OrderedDict[AccountKey, ProcessAccount] = OrderedDict()


class LoopQueue(Protocol):
    """Where one loop waits for one budget; see `ProcessWaitQueue`.

    Attributes:
        waiting: Its requests.
    """

    waiting: FairQueue[QueuedRequest]

    def own_length(self) -> int:
        """Return how many requests wait in this loop."""

    def head(self) -> QueuedRequest | None:
        """Return the first of its requests, if it were the turn of this loop."""

    def wake_head(self) -> bool:
        """Wake the head from another loop; return whether this loop still exists."""

    def wake_impatient(self) -> None:
        """Wake requests that will not wait for the gate, from any loop."""

    def step_aside(self) -> None:
        """Let the queues of other loops go first."""

    def move_to(self, process_budget: ProcessBudget) -> None:
        """Wait for another budget from now on, or for one with other rules."""


class ProcessBudget:
    """One budget of an account in this process.

    Attributes:
        rate_budget: Its rules, and what they know.
        dealer: Whose turn it is, over all loops.
        queues: Those in which requests wait.
        taken: Tokens taken so far.
    """

    __slots__ = ("dealer", "queues", "rate_budget", "taken")

    def __init__(self, rate_budget: RateBudget) -> None:
        self.rate_budget = rate_budget
        self.dealer = Dealer()
        self.queues: list[LoopQueue] = []
        self.taken = 0

    def first_queue(self) -> LoopQueue | None:
        """Return the queue whose head goes first."""
        if len(self.queues) < 2:
            return self.queues[0] if self.queues else None
        rank = self.next_rank()
        heads = [(queue, queue.waiting.head(rank)) for queue in self.queues]
        there = [(queue, head) for queue, head in heads if head is not None]
        first = min(
            (head for _, head in there),
            key=lambda head: (self.dealer.turn_of(head.rank, head.share), head.arrival),
            default=None,
        )
        if first is None:
            return None
        # A repetition goes before others of its share, in whichever loop they wait.
        own = [(queue, head) for queue, head in there if head.share == first.share]
        return min(own, key=lambda each: (not each[1].is_repetition, each[1].arrival))[
            0
        ]

    def next_rank(self) -> int | None:
        """Return the rank of the priority whose turn it is; `None` if none waits."""
        ranks = self.ranks()
        return self.dealer.next_rank(ranks) if ranks else None

    def ranks(self) -> tuple[int, ...]:
        """Return the ranks at which requests wait, in any loop."""
        if len(self.queues) == 1:
            return self.queues[0].waiting.ranks
        ranks = {rank for queue in self.queues for rank in queue.waiting.ranks}
        return tuple(sorted(ranks))

    def count(self, rank: int) -> int:
        """Return how many requests wait at a rank, in all loops."""
        return sum(queue.waiting.count(rank) for queue in self.queues)

    def surely_ahead_of(self, rank: int, share: str | None) -> int:
        """Return a lower bound of how many go before a request that joins now."""
        return surely_ahead((each.waiting for each in self.queues), rank, share)

    def forget_turns(self) -> None:
        """Begin afresh where nothing waits any more."""
        ranks = self.ranks()
        for rank in range(len(PRIORITIES)):
            if rank not in ranks:
                self.dealer.forget(rank)


@attrs.define(eq=False, kw_only=True)
class AttachedLoop:
    """One event loop that uses an account.

    Attributes:
        account: The account.
        handle: The loop.
        offset: Seconds by which its clock is ahead of the machine's.
        attached_at: On the machine's clock, as all times here.
        used_at: When it last took or ended a permit.
        budgets_before: The budgets as they were when it was attached; `None` if
            nothing had been sent.
        queues: Where it waits, by budget.
        in_flight: Its requests in flight, and the names of their budgets.
        has_own_clock: Whether its clock is not the machine's; then it shares nothing.
        is_detached: Whether it counted as ended.
    """

    account: ProcessAccount
    handle: LoopHandle
    offset: float
    attached_at: float
    used_at: float
    budgets_before: dict[str, RateBudget] | None
    queues: dict[str, LoopQueue] = attrs.field(factory=dict)
    in_flight: dict[Reservation, str] = attrs.field(factory=dict)
    has_own_clock: bool = False
    is_detached: bool = False

    def machine_time(self, loop_time: float) -> float:
        """Translate the present time of the loop's clock to the machine's.

        To be called before anything else is read: it may exchange the budgets.

        Args:
            loop_time: What the loop's clock shows now.

        Returns:
            Seconds; of the loop's own clock if that is not the machine's.
        """
        if self.is_detached:
            self.account.reattach(self)
        if not self.has_own_clock:
            now = machine_now()
            # The machine's clock is read, not computed: a loop may show the time at
            # which its last iteration began. A clock that is not ahead of the machine's
            # cannot have jumped, so the longer test is rarely needed.
            if loop_time - now <= self.offset or not self.handle.has_jumped(loop_time):
                return now
            self.account.separate(self)
        return loop_time - self.offset

    def has_ended(self, now: float) -> bool:
        """Whether it will end none of its permits any more."""
        if self.handle.has_ended:
            return True
        return now > self.used_at + STOPPED_AFTER and not self.handle.is_running

    def abandon_in_flight(self, now: float) -> None:
        """Assume that no response of its requests will be read."""
        in_flight, self.in_flight = self.in_flight, {}
        for reservation, name in in_flight.items():
            budget = self.account.budgets[name].rate_budget
            budget.on_abandoned(reservation, now, LINGER)

    def move_to(self, account: ProcessAccount) -> None:
        """Move its queues, with the requests that wait in them, to other budgets."""
        self.account = account
        for name, queue in self.queues.items():
            queue.move_to(account.budgets[name])


class ProcessAccount:
    """The budgets of one account in this process, and the loops that use them.

    Args:
        key: Of the account.
        limits: What it may send; `None` for no pacing.
        rng: Where jitter comes from.

    Attributes:
        learned_budgets: Which budget a route takes from, where a response showed it.
        budgets: By name.
        loops: The loops that use it.
    """

    def __init__(
        self, key: AccountKey, limits: RateLimits | None, rng: random.Random
    ) -> None:
        self.limits = limits
        self.learned_budgets: dict[str, str] = {}
        self.budgets = {
            name: ProcessBudget(RateBudget(getattr(limits, name, None), rng))
            for name in ("creates", "reads")
        }
        self.loops: list[AttachedLoop] = []
        self._key = key
        self._rng = rng
        self._used_at = -inf  # by loops that have ended

    @property
    def used_at(self) -> float:
        """When a permit was last taken or ended; ``-inf`` if none ever was."""
        return max([self._used_at, *(loop.used_at for loop in self.loops)])

    def attach(self, handle: LoopHandle, offset: float, now: float) -> AttachedLoop:
        """Attach a loop; its queues are the caller's to make."""
        is_unused = self.used_at == -inf
        loop = AttachedLoop(
            account=self,
            handle=handle,
            offset=offset,
            attached_at=now,
            used_at=now,
            budgets_before=None if is_unused else self._copy_budgets(),
        )
        self.loops.append(loop)
        return loop

    def _copy_budgets(self) -> dict[str, RateBudget]:
        return {
            name: deepcopy(each.rate_budget, {id(self._rng): self._rng})
            for name, each in self.budgets.items()
        }

    def sweep(self) -> None:
        """Detach the loops that have ended, and those with another clock."""
        now = machine_now()
        for loop in self.loops.copy():
            if loop.handle.has_jumped(loop.handle.now()):
                self.separate(loop)
            elif loop.has_ended(now):
                self._detach(loop, now)

    def _detach(self, loop: AttachedLoop, now: float) -> None:
        self._used_at = max(self._used_at, now if loop.in_flight else loop.used_at)
        self.loops.remove(loop)
        loop.is_detached = True
        for queue in loop.queues.values():
            queue.step_aside()
        loop.abandon_in_flight(now)

    def separate(self, loop: AttachedLoop) -> None:
        """Detach a loop whose clock is not the machine's, as if it had never come.

        A clock that jumps looks like a real one until its first jump, so a test's loop
        may have used the account by then. What it sent was not real and goes with it.
        If other loops have used the account since it came, their requests cannot be
        separated from its own. Then those in flight are taken back, and the rest counts
        for as long as real ones do.
        """
        if loop in self.loops:
            self.loops.remove(loop)
        loop.has_own_clock, loop.is_detached = True, False
        own = ProcessAccount(self._key, self.limits, self._rng)
        if self.used_at < loop.attached_at:
            self._hand_over(loop, own)
        else:
            self._take_back_in_flight(loop)
        loop.move_to(own)

    def _hand_over(self, loop: AttachedLoop, own: ProcessAccount) -> None:
        """Give a loop the budgets that it alone has used, and restore those before."""
        for name, process_budget in self.budgets.items():
            unused = own.budgets[name].rate_budget
            own.budgets[name].rate_budget = process_budget.rate_budget
            before = loop.budgets_before
            self._restore(name, before[name] if before else unused)

    def _take_back_in_flight(self, loop: AttachedLoop) -> None:
        now = machine_now()
        for reservation, name in loop.in_flight.items():
            self.budgets[name].rate_budget.on_unsent(reservation, now)
        loop.in_flight.clear()

    def _restore(self, name: str, rate_budget: RateBudget) -> None:
        process_budget = self.budgets[name]
        process_budget.rate_budget = rate_budget
        for loop in self.loops:
            loop.queues[name].move_to(process_budget)

    def reattach(self, loop: AttachedLoop) -> None:
        """Attach a loop again that ran on after it had counted as ended."""
        account = _accounts.setdefault(self._key, self)
        account.loops.append(loop)
        loop.is_detached = False
        loop.move_to(account)

    def detach_all(self, now: float) -> None:
        """Detach all loops, in a forked child, which has none of them."""
        for loop in self.loops.copy():
            self._detach(loop, now)

    def is_needed(self, now: float) -> bool:
        """Whether a loop uses it, or anything that was sent or learned still counts."""
        if self.loops:
            return True
        opens_at = [each.rate_budget.opens_at for each in self.budgets.values()]
        return now < max(self._used_at + self._retention(), *opens_at)

    def _retention(self) -> float:
        """Seconds for which a request may count: two periods, with their margins."""
        if self.limits is None:
            return 0.0
        return 2.1 * max(self.limits.creates.per, self.limits.reads.per) + LINGER


def attach_loop(
    key: AccountKey,
    limits: RateLimits | None,
    rng: random.Random,
    new_queue: Callable[[str, AttachedLoop], LoopQueue],
) -> AttachedLoop | None:
    """Attach the running event loop to an account.

    Args:
        key: Of the account.
        limits: What it may send, unless another loop has set that before.
        rng: Where jitter comes from.
        new_queue: Makes a queue, given the name of its budget.

    Returns:
        `None` if the loop's clock is not the machine's.
    """
    handle = LoopHandle.current()
    if handle.offset is None:  # one that jumps later is noticed at the next use
        return None
    with LOCK:
        _forget_accounts()
        account = _accounts.get(key)
        if account is not None:
            account.sweep()
        now = machine_now()
        # A machine clock that went back was not one, but patched by a test.
        if account is None or not account.used_at <= now or not account.is_needed(now):
            account = ProcessAccount(key, limits, rng)
        _accounts[key] = account
        _accounts.move_to_end(key)
        loop = account.attach(handle, handle.offset, now)
        loop.queues = {name: new_queue(name, loop) for name in account.budgets}
    if account.limits != limits:  # logged without the lock: a handler may use a client
        logger.warning(
            "rate_limits=%s is ignored: another client with this API key already uses"
            " %s in this process; give both clients the same limits",
            limits,
            account.limits,
        )
    return loop


def _forget_accounts() -> None:
    """Forget accounts that are not needed any more, oldest first."""
    for _ in range(min(ACCOUNTS_PER_SWEEP, len(_accounts))):
        key, account = _accounts.popitem(last=False)
        account.sweep()
        if account.is_needed(machine_now()):
            _accounts[key] = account


def _after_fork_in_child() -> None:
    """Detach all loops: their threads do not exist in the child.

    Their requests in flight are the parent's. The child charges them as abandoned,
    because the service counts them.
    """
    now = machine_now()
    for account in _accounts.values():
        account.detach_all(now)
    LOCK.release()


# The lock is held while the process forks, so that the child never copies budgets that
# another thread is changing, nor a lock that a thread holds which the child lacks.
if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(
        before=LOCK.acquire,
        after_in_parent=LOCK.release,
        after_in_child=_after_fork_in_child,
    )
