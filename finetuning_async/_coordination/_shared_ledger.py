"""The book of an account that several processes share. Pure: `now` is passed in.

A place in a line is granted as soon as it is the first and the budget allows it, by
whichever process looks next; its owner fetches the turn when it asks again. So a
process that sleeps holds nobody up, and one that died loses its places a little after
the moment for which it had announced itself. A turn it had fetched counts as sent: it
is taken as over `WaitingRequest.timeout` seconds later and comes back a period after
that.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from finetuning_async._api import LONGEST_PAUSE
from finetuning_async._coordination._exchange_messages import (
    ExchangeReply,
    RateLimitSnapshot,
)
from finetuning_async._coordination._ledger_entries import (
    LeaseEntry,
    Member,
    QueueEntry,
)
from finetuning_async._pacing import QueueCapacity, RateBudget
from finetuning_async._rate_codes import is_queue_full

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Mapping

    from finetuning_async._api import ResponseFacts, Route
    from finetuning_async._coordination._exchange_messages import Report, WaitingRequest
    from finetuning_async._pacing import RateLimit, RateLimits, Reservation

VERSION: Final = 3
"""Of the text; another one is not read, and the book begins anew."""

SLACK: Final = 2.0
"""Seconds by which a process may be late before its places are given up."""

RENEWED: Final = 0.75
"""Seconds after which one that waits is written down again, with or without news."""

NOTICED: Final = 1.0
"""Seconds in which one that has lost the store notices it."""

SILENT: Final = 120.0
"""Seconds after which a process that said nothing is not counted any more, nor are its
tracks: the service makes one in a minute or two."""

REPORTING: Final = 2.0
"""Seconds for which nobody has a turn after the store was emptied or paused: those who
live say meanwhile what they have sent without it. Longer than `LONGEST_WAIT`, and than
a process that goes alone takes to notice that the store is back."""

SILENCE: Final = 2.2
"""Seconds without a word from anybody that mean a pause, if somebody waits; a little
longer than `LONGEST_WAIT`."""

LONGEST_WAIT: Final = 1.75
SHORTEST_WAIT: Final = 0.25
"""Seconds between two questions of one process, at a period of a minute: the longest,
in case that others give up; and while it depends on an answer that others wait for."""

TOLERANCE: Final = 1e-6
"""Seconds; float noise."""

BUDGETS: Final[tuple[Route, ...]] = ("creates", "reads")


class _Kept(Protocol):
    def to_state(self) -> dict[str, Any]: ...


class SharedLedger:
    """What is known of an account, and what follows from it.

    One that takes the place of another which was lost, or that nobody could reach for a
    while, gives no turns for `REPORTING` seconds, until those who live have said what
    they had sent. Then it goes on as a fresh process does: one request first.

    Args:
        limits: Of the process that asks; `None` for the gates of 429s alone.
        rng: Where jitter comes from.
        epoch: The name of this memory.
    """

    def __init__(
        self, limits: RateLimits | None, rng: random.Random, epoch: str
    ) -> None:
        self.epoch = epoch
        self.budgets: dict[Route, RateBudget] = {
            name: RateBudget(_limit_of(limits, name), rng) for name in BUDGETS
        }
        self.per = {name: _period_of(limits, name) for name in BUDGETS}
        self.scale = max(1.0, *(per / 60 for per in self.per.values()))
        self.lines: dict[Route, list[QueueEntry]] = {name: [] for name in BUDGETS}
        self.leases: dict[str, LeaseEntry] = {}
        self.members: dict[str, Member] = {}
        self.queue = QueueCapacity()
        self.held_until = -inf
        self.held_since = -inf
        self.silent_until = -inf
        self.is_paused = False

    def exchange(self, request: WaitingRequest, now: float) -> ExchangeReply:
        """Take what a process says, and answer; `announce` is to follow."""
        is_stranger = request.epoch not in (None, self.epoch)
        self._notice_a_loss(request, is_stranger, now)
        member = self.members.setdefault(request.process, Member(now))
        is_late = request.number < member.number  # the same one: its answer was lost
        if not is_late:
            self._hear(request, member, now)
        self._sweep(request.process, now)
        self._go_on(now)
        if not is_stranger:  # what it has sent of late is told next
            self._advance(request.timeout, now)
        granted = frozenset() if is_late else self._claim(request, now)
        return ExchangeReply(
            epoch=self.epoch,
            granted=granted,
            wait=self._wait(request.process, now),
            budgets={name: self._told(name, now) for name in self.budgets},
            processes=len(self.members),
        )

    def is_announced(
        self, request: WaitingRequest, reply: ExchangeReply, now: float
    ) -> bool:
        """Whether its process will be missed late enough if nothing is written."""
        member = self.members[request.process]
        return member.expected_by >= now + reply.wait + SLACK - RENEWED

    def announce(
        self, request: WaitingRequest, reply: ExchangeReply, now: float
    ) -> None:
        """Write down that a process was here, and when it comes back."""
        member = self.members[request.process]
        member.seen_at, member.expected_by = now, now + reply.wait + SLACK
        member.number = max(member.number, request.number)

    # What others may have sent, and could not say.

    def _notice_a_loss(
        self, request: WaitingRequest, is_stranger: bool, now: float
    ) -> None:
        """Hold everybody, once, if some may have gone on without the store."""
        if is_stranger:  # it was emptied, once for this book
            if self.held_since == -inf:
                self._hold(now)
            return
        since = now - request.degraded
        is_paused = self._is_after_silence(request, now)
        if request.degraded and len(self.members) > 1:
            is_paused = is_paused or self._was_paused(request, since)
        if is_paused and (self.held_since < since or not request.degraded):
            self._hold(now)
            self.is_paused = True

    def _hold(self, now: float) -> None:
        self.held_since = now
        self.held_until = now + min(REPORTING * self.scale, LONGEST_PAUSE)

    def _go_on(self, now: float) -> None:
        """All have told what they sent in a pause; it may pass for somebody else's."""
        if self.is_paused and self.held_until <= now:
            self.is_paused = False
            for budget in self.budgets.values():
                budget.forget_observations()

    def _is_after_silence(self, request: WaitingRequest, now: float) -> bool:
        """Whether nobody came for long, although another one waits."""
        last = max((m.seen_at for m in self.members.values()), default=now)
        if last > now - SILENCE * self.scale:
            return False
        self.silent_until = now
        waiting = [place for line in self.lines.values() for place in line]
        return any(place.process != request.process for place in waiting)

    def _was_paused(self, request: WaitingRequest, since: float) -> bool:
        """Whether nobody else had the store while one was without it."""
        others = [m for n, m in self.members.items() if n != request.process]
        came = any(m.seen_at > since + NOTICED for m in others)
        return not came or self.silent_until > since

    # What a process says.

    def _hear(self, request: WaitingRequest, member: Member, now: float) -> None:
        member.under_way = request.under_way
        ended: dict[tuple[str, Route], Reservation] = {}
        for note in request.notes:
            if note.serial > member.serial:
                member.serial = note.serial
                self._take(note, request, ended, now)
        self._keep_places(request)

    def _take(
        self,
        note: Report,
        request: WaitingRequest,
        ended: dict[tuple[str, Route], Reservation],
        now: float,
    ) -> None:
        """Book a note; what the book has never heard of, or given up, is charged."""
        budget, at = self.budgets[note.budget], now - max(note.ago, 0.0)
        key = (note.id, note.budget)
        if note.event == "refused":
            budget.on_refused(at, note.retry_after, ended.get(key))
            return
        lease = self.leases.get(note.id)
        if lease is None:
            if note.event == "unsent":
                return
            lease = self._let_go(note.id, note.budget, request, at)
            lease.is_known = True
        if note.event != "sent":
            ended[key] = lease.ticket
            self._end(note.id, note, max(at, lease.ticket.sent_at))

    def _end(self, lease_id: str, note: Report, at: float) -> None:
        lease = self.leases.pop(lease_id)
        budget = self.budgets[lease.budget]
        if note.event == "answered":
            budget.on_response(lease.ticket, at, note.facts)
        elif note.event == "unsent":
            budget.on_unsent(lease.ticket, at)
        else:
            budget.on_abandoned(lease.ticket, at, note.linger)
        if lease.budget == "creates":
            self._leave_queue(note.facts, at)

    def _leave_queue(self, facts: ResponseFacts | None, at: float) -> None:
        """A create has entered the service's queue, or not."""
        if facts is not None and is_queue_full(facts.status, facts.code):
            self.queue.on_refused(at, self._under_way(), facts.retry_after or 0.0)
        elif facts is not None and facts.status < 300:
            self.queue.on_accepted(self._under_way())
        else:
            self.queue.on_other_outcome()

    def _keep_places(self, request: WaitingRequest) -> None:
        """The places of a process are those it asks for; others are given up."""
        wanted = {ask.id for ask in request.asks}
        for name, line in self.lines.items():
            self.lines[name] = [
                p for p in line if p.process != request.process or p.id in wanted
            ]
        known = {place.id for line in self.lines.values() for place in line}
        for ask in request.asks:
            if ask.id not in known and ask.id not in self.leases:
                self._stand(ask.budget, QueueEntry(ask.id, request.process, ask.first))
        for name, lease in self._unfetched(request.process):
            if name not in wanted:
                self._take_back(name, lease)

    def _stand(self, budget: Route, place: QueueEntry) -> None:
        line = self.lines[budget]
        behind = sum(p.first for p in line) if place.first else len(line)
        line.insert(behind, place)

    # What time brings.

    def _sweep(self, here: str, now: float) -> None:
        """Give up what belongs to processes that are gone; one is `here`."""
        gone = {n for n, m in self.members.items() if m.expected_by < now and n != here}
        for budget, line in self.lines.items():
            self.lines[budget] = [p for p in line if p.process not in gone]
        for process in gone:
            for name, lease in self._unfetched(process):
                self._take_back(name, lease)
            if self.members[process].seen_at < now - SILENT:
                del self.members[process]
        for name, lease in list(self.leases.items()):
            if lease.is_known and lease.until <= now:
                del self.leases[name]
                self.budgets[lease.budget].on_abandoned(lease.ticket, lease.until, 0.0)
                self._drop_entering(lease)

    def _unfetched(self, process: str) -> Iterator[tuple[str, LeaseEntry]]:
        for name, lease in list(self.leases.items()):
            if lease.process == process and not lease.is_known:
                yield name, lease

    def _take_back(self, name: str, lease: LeaseEntry) -> None:
        """Its owner does not want it, or is gone, and never knew of it."""
        del self.leases[name]
        self.budgets[lease.budget].on_unsent(lease.ticket, lease.ticket.sent_at)
        self._drop_entering(lease)

    def _drop_entering(self, lease: LeaseEntry) -> None:
        if lease.budget == "creates":
            self.queue.on_other_outcome()

    # Who goes next.

    def _advance(self, timeout: float, now: float) -> None:
        for name, line in self.lines.items():
            while line and self._turn(name, now) <= now + TOLERANCE:
                place = line.pop(0)
                ticket = self._send(name, now)
                until = now + timeout
                self.leases[place.id] = LeaseEntry(place.process, name, ticket, until)

    def _let_go(
        self, name: str, budget: Route, request: WaitingRequest, at: float
    ) -> LeaseEntry:
        ticket = self._send(budget, at)
        lease = LeaseEntry(request.process, budget, ticket, at + request.timeout)
        self.leases[name] = lease
        return lease

    def _send(self, budget: Route, now: float) -> Reservation:
        if budget == "creates":
            self.queue.on_sent()
        return self.budgets[budget].send(now)

    def _turn(self, budget: Route, now: float) -> float:
        """When the first of a line may go: `now` or later."""
        turn = max(self.budgets[budget].earliest(now + TOLERANCE), self.held_until)
        if budget == "creates":
            turn = max(turn, self.queue.opens_at(self._under_way()))
        return turn

    def _under_way(self) -> int:
        return sum(member.under_way for member in self.members.values())

    # What it is told.

    def _claim(self, request: WaitingRequest, now: float) -> frozenset[str]:
        """The turns that a process fetches with this exchange."""
        granted = [ask.id for ask in request.asks if ask.id in self.leases]
        for name in granted:
            lease = self.leases[name]
            lease.is_known, lease.until = True, now + request.timeout
        return frozenset(granted)

    def _wait(self, process: str, now: float) -> float:
        """Seconds until a process should ask again."""
        waits = [LONGEST_WAIT]
        for name, line in self.lines.items():
            ahead = [p.process for p in line]
            if process in ahead:
                waits.append(self._wait_of(name, process, ahead.index(process), now))
        return min(waits)

    def _wait_of(self, budget: Route, process: str, ahead: int, now: float) -> float:
        scale = self.per[budget] / 60
        longest = LONGEST_WAIT
        if self._others_are_out(budget, process):
            longest = SHORTEST_WAIT  # what another hears may be news for this one
        turn = self._turn(budget, now)
        if ahead and turn < inf:
            turn = max(turn, self.budgets[budget].earliest_behind(now, ahead))
        if turn == inf:
            return SHORTEST_WAIT * scale
        return min(max(turn - now, 0.001 * scale), longest * scale)

    def _others_are_out(self, budget: Route, process: str) -> bool:
        leases = self.leases.values()
        return any(le.budget == budget and le.process != process for le in leases)

    def _told(self, name: Route, now: float) -> RateLimitSnapshot:
        budget, waiting = self.budgets[name], len(self.lines[name])
        return RateLimitSnapshot(
            status=budget.status(now, waiting),
            newcomer_in=budget.earliest_behind(now, waiting) - now,
            free=budget.free(now),
        )

    # As it is kept.

    def to_state(self) -> dict[str, Any]:
        """The book, as JSON with infinities; see `from_state`."""
        return {
            "version": VERSION,
            "epoch": self.epoch,
            "budgets": _states(self.budgets),
            "lines": {n: [p.to_state() for p in ln] for n, ln in self.lines.items()},
            "leases": _states(self.leases),
            "members": _states(self.members),
            "queue": self.queue.to_state(),
            "held_until": self.held_until,
            "held_since": self.held_since,
            "silent_until": self.silent_until,
            "is_paused": self.is_paused,
        }

    @classmethod
    def from_state(
        cls, state: dict[str, Any], limits: RateLimits | None, rng: random.Random
    ) -> Self:
        """The book that `to_state` told, for the process that asks.

        Raises:
            Exception: It is no such state; one of `UNREADABLE`.
        """
        if state["version"] != VERSION:
            raise ValueError(f"version {state['version']} of a book is not known")
        book = cls(limits, rng, state["epoch"])
        for name in BUDGETS:
            budget, line = state["budgets"][name], state["lines"][name]
            book.budgets[name] = RateBudget.from_state(
                budget, _limit_of(limits, name), rng
            )
            book.lines[name] = [QueueEntry.from_state(place) for place in line]
        leases, members = state["leases"].items(), state["members"].items()
        book.leases = {name: LeaseEntry.from_state(each) for name, each in leases}
        book.members = {name: Member.from_state(each) for name, each in members}
        book.queue = QueueCapacity.from_state(state["queue"])
        book.held_until = state["held_until"]
        book.held_since = state["held_since"]
        book.silent_until = state["silent_until"]
        book.is_paused = state["is_paused"]
        return book

    def check_holds(self, now: float) -> None:
        """Check that nobody is held for longer than the rules ever hold.

        Raises:
            ValueError: Somebody is, or for a time that is no number.
        """
        holds = [self.held_until, *(b.opens_at for b in self.budgets.values())]
        if not all(hold <= now + LONGEST_PAUSE + SLACK for hold in holds):
            raise ValueError(f"it holds everybody until {holds}, and it is {now}")


def _limit_of(limits: RateLimits | None, name: Route) -> RateLimit | None:
    if limits is None:
        return None
    return limits.creates if name == "creates" else limits.reads


def _period_of(limits: RateLimits | None, name: Route) -> float:
    limit = _limit_of(limits, name)
    return 60.0 if limit is None else limit.per


def _states(each: Mapping[str, _Kept]) -> dict[str, Any]:
    return {name: kept.to_state() for name, kept in each.items()}
