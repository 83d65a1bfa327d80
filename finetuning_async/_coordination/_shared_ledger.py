"""The ledger of an account that several processes share. Pure: `now` is passed in.

A request is granted its permit as soon as it is next and the budget allows it, in
the exchange of whichever process comes next; its owner claims the permit with its own
next exchange. So a sleeping process delays no other, and a process that died loses its
queue entries shortly after it was expected back. A permit that a dead process had
claimed counts as sent: it ends `ExchangeRequest.timeout` seconds later, and its token
comes back a period after that.

Whose turn it is, a `Dealer` says. Each process states the creates that go next among
its own, and how many wait; the dealer's memory is kept here, so that priorities and
shares hold over all processes.
"""

from __future__ import annotations

from collections import Counter
from math import inf
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from finetuning_async._api import LONGEST_PAUSE, PRIORITIES
from finetuning_async._coordination._exchange_messages import (
    ExchangeReply,
    RateLimitSnapshot,
)
from finetuning_async._coordination._ledger_entries import (
    LeaseEntry,
    Member,
    QueueEntry,
)
from finetuning_async._coordination._outage_hold import (
    MAX_WAIT,
    MIN_WAIT,
    OutageHold,
)
from finetuning_async._pacing import (
    LOW,
    Dealer,
    FairQueue,
    QueueCapacity,
    RateBudget,
)
from finetuning_async._rate_codes import is_queue_full

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Mapping

    from finetuning_async._api import ResponseFacts, Route
    from finetuning_async._coordination._exchange_messages import (
        ExchangeRequest,
        Report,
    )
    from finetuning_async._pacing import RateLimit, RateLimits, Reservation

VERSION: Final = 4
"""Of the stored text. A text of another version is discarded."""

SLACK: Final = 2.0
"""Seconds by which a process may be late before its queue entries are dropped."""

RENEWAL: Final = 0.75
"""Seconds after which the visit of a waiting process is written again, even if nothing
else has changed."""

MEMBER_TTL: Final = 120.0
"""Seconds without an exchange after which a process is no longer counted, nor are its
tracks: the service makes a track in a minute or two."""

TOLERANCE: Final = 1e-6
"""Seconds; float noise."""

BUDGETS: Final[tuple[Route, ...]] = ("creates", "reads")


class _Stored(Protocol):
    def to_state(self) -> dict[str, Any]: ...


class SharedLedger:
    """What is known of an account, and which requests may go out.

    A ledger that replaces a lost one, or that no process could reach for a while,
    grants no permits for `REPORT_WINDOW` seconds, until all live processes have
    reported what they sent. Then it starts as a new process does, with one request.

    Args:
        limits: Those of the process that exchanges; `None` if only the gates of 429s
            hold.
        rng: Where jitter comes from.
        epoch: The name of this ledger.
    """

    def __init__(
        self, limits: RateLimits | None, rng: random.Random, epoch: str
    ) -> None:
        self.epoch = epoch
        self.budgets: dict[Route, RateBudget] = {
            name: RateBudget(_limit_of(limits, name), rng) for name in BUDGETS
        }
        self.per = {name: _period_of(limits, name) for name in BUDGETS}
        self.queues: dict[Route, list[QueueEntry]] = {name: [] for name in BUDGETS}
        self.dealer = Dealer()  # of the creates
        self.leases: dict[str, LeaseEntry] = {}
        self.members: dict[str, Member] = {}
        self.queue_capacity = QueueCapacity(_queue_of(limits))
        self.hold = OutageHold(max(1.0, *(per / 60 for per in self.per.values())))

    def exchange(self, request: ExchangeRequest, now: float) -> ExchangeReply:
        """Apply what a process sends, and reply.

        `record_visit` has to follow, unless nothing else has changed and
        `is_visit_recorded`.
        """
        knew_another = request.epoch not in (None, self.epoch)
        queues = self.queues.values()
        self.hold.detect(request, now, knew_another, self.members, queues)
        member = self.members.setdefault(request.process, Member(now))
        # The process has given up on this exchange and sent a later one. What it
        # withdrew there must not return, and a permit claimed here would reach no one.
        is_outdated = request.number < member.number
        if not is_outdated:
            self._apply_reports(request, member, now)
        self._expire(request.process, now)
        if self.hold.has_ended(now):  # all processes have had the time to report
            for budget in self.budgets.values():
                # What they sent in the outage looked like another client's usage when
                # the service's headers counted it. Now it is charged as ours.
                budget.forget_observations()
        lines = {name: self._line(name) for name in self.queues}
        # A process that knew another ledger reports what it sent with its next exchange
        # only; no permit may be granted on its account before that.
        if not knew_another:
            self._grant(lines, request.timeout, now)
        granted = frozenset() if is_outdated else self._claim(request, now)
        return ExchangeReply(
            epoch=self.epoch,
            granted=granted,
            wait=self._next_exchange_in(lines, request.process, now),
            snapshots={name: self._snapshot(name, now) for name in self.budgets},
            processes=len(self.members),
        )

    def is_visit_recorded(
        self, request: ExchangeRequest, reply: ExchangeReply, now: float
    ) -> bool:
        """Whether the process is expected back late enough if nothing is written."""
        member = self.members[request.process]
        return member.expected_by >= now + reply.wait + SLACK - RENEWAL

    def record_visit(
        self, request: ExchangeRequest, reply: ExchangeReply, now: float
    ) -> None:
        """Record that a process exchanged, and when it is expected back."""
        member = self.members[request.process]
        member.seen_at, member.expected_by = now, now + reply.wait + SLACK
        member.number = max(member.number, request.number)

    # What a process sends.

    def _apply_reports(
        self, request: ExchangeRequest, member: Member, now: float
    ) -> None:
        member.tracks_in_progress = request.tracks_in_progress
        member.creates_waiting = request.creates_waiting
        ended: dict[tuple[str, Route], Reservation] = {}
        for report in request.reports:
            if report.serial > member.serial:  # else it was applied before
                member.serial = report.serial
                self._apply_report(report, request, ended, now)
        self._update_entries(request)

    def _apply_report(
        self,
        report: Report,
        request: ExchangeRequest,
        ended: dict[tuple[str, Route], Reservation],
        now: float,
    ) -> None:
        """Apply a report; a request without a lease here is charged now."""
        budget, at = self.budgets[report.budget], now - max(report.ago, 0.0)
        key = (report.id, report.budget)
        if report.event == "refused":  # reported after "answered", of the same request
            budget.on_refused(at, report.retry_after, ended.get(key))
            return
        lease = self.leases.get(report.id)
        if lease is None:
            # It was sent in an outage, or under a ledger that was lost, or its lease
            # has expired. The service has counted it, so it is charged here, too.
            if report.event == "unsent":
                return
            lease = self._charge(report.id, report.budget, request, at)
            lease.is_claimed = True
        if report.event != "sent":
            ended[key] = lease.reservation
            self._end_lease(report.id, report, max(at, lease.reservation.sent_at))

    def _end_lease(self, lease_id: str, report: Report, at: float) -> None:
        lease = self.leases.pop(lease_id)
        budget = self.budgets[lease.budget]
        if report.event == "answered":
            budget.on_response(lease.reservation, at, report.facts)
        elif report.event == "unsent":
            budget.on_unsent(lease.reservation, at)
        else:
            budget.on_abandoned(lease.reservation, at, report.linger)
        if lease.budget == "creates":
            self._update_queue_capacity(report.facts, at)

    def _update_queue_capacity(self, facts: ResponseFacts | None, at: float) -> None:
        """Note whether a create was accepted into the service's queue."""
        tracks = self._tracks_in_progress()
        if facts is not None and is_queue_full(facts.status, facts.code):
            self.queue_capacity.on_refused(at, tracks, facts.retry_after or 0.0)
        elif facts is not None and facts.status < 300:
            self.queue_capacity.on_accepted(tracks)
        else:
            self.queue_capacity.on_other_outcome()

    def _update_entries(self, request: ExchangeRequest) -> None:
        """Make the queue entries of a process those that it requests now."""
        requested = {each.id for each in request.permit_requests}
        for name, queue in self.queues.items():
            self.queues[name] = [
                e for e in queue if e.process != request.process or e.id in requested
            ]
        known = {entry.id for queue in self.queues.values() for entry in queue}
        for each in request.permit_requests:
            if each.id not in known and each.id not in self.leases:
                entry = QueueEntry(
                    id=each.id,
                    process=request.process,
                    is_repetition=each.first,
                    rank=each.rank,
                    share=each.share,
                )
                self.queues[each.budget].append(entry)
        # A permit that was granted and not claimed, for a request that no longer waits.
        for lease_id, lease in self._unclaimed(request.process):
            if lease_id not in requested:
                self._revoke(lease_id, lease)

    # What time does.

    def _expire(self, present: str, now: float) -> None:
        """Drop what belongs to processes that are overdue; `present` is not.

        An overdue process may be alive: a suspended laptop, a long garbage collection.
        It loses its place in the queues and unclaimed permits, and joins again. Claimed
        permits may have been sent, so they stay until they expire.
        """
        members = self.members.items()
        overdue = {n for n, m in members if m.expected_by < now and n != present}
        for budget, queue in self.queues.items():
            self.queues[budget] = [e for e in queue if e.process not in overdue]
        for process in overdue:
            self.members[process].creates_waiting = (0, 0, 0)
            for lease_id, lease in self._unclaimed(process):
                self._revoke(lease_id, lease)
            # It stays a member for longer: it may only have nothing to send, and its
            # number and serial are what makes repeated messages harmless.
            if self.members[process].seen_at < now - MEMBER_TTL:
                del self.members[process]
        for lease_id, lease in list(self.leases.items()):
            if lease.is_claimed and lease.expires_at <= now:
                del self.leases[lease_id]
                rate_budget = self.budgets[lease.budget]
                rate_budget.on_abandoned(lease.reservation, lease.expires_at, 0.0)
                self._release_queue_place(lease)

    def _unclaimed(self, process: str) -> Iterator[tuple[str, LeaseEntry]]:
        for lease_id, lease in list(self.leases.items()):
            if lease.process == process and not lease.is_claimed:
                yield lease_id, lease

    def _revoke(self, lease_id: str, lease: LeaseEntry) -> None:
        """Take back a permit whose owner was never given it, so never sent it."""
        del self.leases[lease_id]
        budget = self.budgets[lease.budget]
        budget.on_unsent(lease.reservation, lease.reservation.sent_at)
        self._release_queue_place(lease)

    def _release_queue_place(self, lease: LeaseEntry) -> None:
        if lease.budget == "creates":
            self.queue_capacity.on_other_outcome()

    # Which requests may go out.

    def _grant(
        self, lines: Mapping[Route, FairQueue[QueueEntry]], timeout: float, now: float
    ) -> None:
        for name, line in lines.items():
            queue = self.queues[name]
            while line and self._next_permit_at(name, line, now) <= now + TOLERANCE:
                entry = line.head()
                if entry is None:
                    break
                line.deal(entry)
                queue.remove(entry)
                reservation = self._reserve(name, now, is_low=entry.rank == LOW)
                self.leases[entry.id] = LeaseEntry(
                    entry.process, name, reservation, now + timeout
                )
            if name == "creates":
                for rank in set(range(len(PRIORITIES))) - set(line.ranks):
                    self.dealer.forget(rank)

    def _line(self, budget: Route) -> FairQueue[QueueEntry]:
        """Return the entries of a queue as they are dealt their turns."""
        is_dealt = budget == "creates"
        line = FairQueue[QueueEntry](self.dealer if is_dealt else Dealer())
        for arrival, entry in enumerate(self.queues[budget]):
            entry.arrival = arrival
            line.add(entry)
        return line

    def _charge(
        self, lease_id: str, budget: Route, request: ExchangeRequest, at: float
    ) -> LeaseEntry:
        reservation = self._reserve(budget, at)
        lease = LeaseEntry(request.process, budget, reservation, at + request.timeout)
        self.leases[lease_id] = lease
        return lease

    def _reserve(
        self, budget: Route, now: float, *, is_low: bool = False
    ) -> Reservation:
        if budget == "creates":
            self.queue_capacity.on_sent()
        return self.budgets[budget].send(now, is_low=is_low)

    def _next_permit_at(
        self, budget: Route, line: FairQueue[QueueEntry], now: float
    ) -> float:
        """When the first of a line may go out: `now` or later."""
        at = max(self.budgets[budget].earliest(now + TOLERANCE), self.hold.until)
        if budget == "creates":
            at = max(at, self.queue_capacity.opens_at(self._tracks_in_progress()))
            waiting = self._creates_waiting()
            if not any(waiting[:LOW]) and line.ranks == (LOW,):
                at = max(at, self.budgets[budget].spaced(now + TOLERANCE, waiting[LOW]))
        return at

    def _creates_waiting(self) -> list[int]:
        """Return how many creates wait in all processes, by rank."""
        stated = [member.creates_waiting for member in self.members.values()]
        return [sum(each[rank] for each in stated) for rank in range(len(PRIORITIES))]

    def _tracks_in_progress(self) -> int:
        return sum(member.tracks_in_progress for member in self.members.values())

    # The reply.

    def _claim(self, request: ExchangeRequest, now: float) -> frozenset[str]:
        """Mark the permits that a process receives with this reply.

        Permits that it claimed before are among them: the reply may have been lost.
        """
        granted = [e.id for e in request.permit_requests if e.id in self.leases]
        for lease_id in granted:
            lease = self.leases[lease_id]
            lease.is_claimed, lease.expires_at = True, now + request.timeout
        return frozenset(granted)

    def _next_exchange_in(
        self, lines: Mapping[Route, FairQueue[QueueEntry]], process: str, now: float
    ) -> float:
        """Seconds until a process should exchange again."""
        waits = [MAX_WAIT]
        for name, line in lines.items():
            owners = (entry.process for entry in line.in_order())
            ahead = next((n for n, owner in enumerate(owners) if owner == process), -1)
            if ahead >= 0:
                waits.append(self._wait_in(name, process, line, ahead, now))
        return min(waits)

    def _wait_in(
        self,
        budget: Route,
        process: str,
        line: FairQueue[QueueEntry],
        ahead: int,
        now: float,
    ) -> float:
        scale = self.per[budget] / 60
        longest = MAX_WAIT
        if self._others_in_flight(budget, process):
            # Their responses may open the budget here. No process can be called by
            # another, so this one has to look.
            longest = MIN_WAIT
        behind = self.budgets[budget].earliest_behind(now, ahead)
        at = max(self._next_permit_at(budget, line, now), behind)
        if at == inf:
            return MIN_WAIT * scale
        return min(max(at - now, 0.001 * scale), longest * scale)

    def _others_in_flight(self, budget: Route, process: str) -> bool:
        leases = self.leases.values()
        return any(le.budget == budget and le.process != process for le in leases)

    def _snapshot(self, name: Route, now: float) -> RateLimitSnapshot:
        budget, waiting = self.budgets[name], len(self.queues[name])
        ranks = Counter(entry.rank for entry in self.queues[name])
        counts = [ranks[rank] for rank in range(len(PRIORITIES))]
        if name == "creates":  # of which a process states only those that go next
            stated = zip(counts, self._creates_waiting(), strict=True)
            counts = [max(each) for each in stated]
            waiting = sum(counts)
        return RateLimitSnapshot(
            status=budget.status(now, waiting),
            newcomer_in=budget.earliest_behind(now, waiting) - now,
            free=budget.free(now),
            tokens=tuple(at - now for at in budget.token_times(now)),
            waiting=tuple(counts),
        )

    # The stored form. Its keys stay when an attribute is renamed.

    def to_state(self) -> dict[str, Any]:
        """Return the ledger as JSON with infinities; see `from_state`."""
        return {
            "version": VERSION,
            "epoch": self.epoch,
            "budgets": _states(self.budgets),
            "dealer": self.dealer.to_state(),
            "lines": {n: [e.to_state() for e in q] for n, q in self.queues.items()},
            "leases": _states(self.leases),
            "members": _states(self.members),
            "queue": self.queue_capacity.to_state(),
            **self.hold.to_state(),
        }

    @classmethod
    def from_state(
        cls, state: dict[str, Any], limits: RateLimits | None, rng: random.Random
    ) -> Self:
        """Restore what `to_state` returned, for the process that exchanges.

        Raises:
            Exception: It is not such a state; one of `UNREADABLE`.
        """
        if state["version"] != VERSION:
            raise ValueError(f"version must be {VERSION}, got {state['version']}")
        ledger = cls(limits, rng, state["epoch"])
        for name in BUDGETS:
            budget, queue = state["budgets"][name], state["lines"][name]
            ledger.budgets[name] = RateBudget.from_state(
                budget, _limit_of(limits, name), rng
            )
            ledger.queues[name] = [QueueEntry.from_state(entry) for entry in queue]
        ledger.dealer = Dealer.from_state(state["dealer"])
        leases, members = state["leases"].items(), state["members"].items()
        ledger.leases = {name: LeaseEntry.from_state(each) for name, each in leases}
        ledger.members = {name: Member.from_state(each) for name, each in members}
        ledger.queue_capacity = QueueCapacity.from_state(
            state["queue"], _queue_of(limits)
        )
        ledger.hold.restore(state)
        return ledger

    def check_holds(self, now: float) -> None:
        """Check that no hold and no gate is longer than the rules ever make one.

        A damaged number must not stop all processes for years.

        Raises:
            ValueError: One is, or its end is not a number.
        """
        holds = [self.hold.until, *(b.opens_at for b in self.budgets.values())]
        if not all(hold <= now + LONGEST_PAUSE + SLACK for hold in holds):
            raise ValueError(f"permits are held until {holds}, and it is {now}")


def _limit_of(limits: RateLimits | None, name: Route) -> RateLimit | None:
    if limits is None:
        return None
    return limits.creates if name == "creates" else limits.reads


def _queue_of(limits: RateLimits | None) -> int | None:
    return None if limits is None else limits.queue


def _period_of(limits: RateLimits | None, name: Route) -> float:
    limit = _limit_of(limits, name)
    return 60.0 if limit is None else limit.per


def _states(each: Mapping[str, _Stored]) -> dict[str, Any]:
    return {name: stored.to_state() for name, stored in each.items()}
