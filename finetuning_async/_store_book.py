"""The book of an account that several processes share. Pure: `now` is passed in.

    Book       the two budgets, the lines before them, who has a turn, the queue
    exchange   one step of a store that keeps the book as a text

A place in a line is granted as soon as it is the first and the budget allows it, by
whichever process looks next; its owner fetches the turn when it asks again. So a
process that sleeps holds nobody up, and one that died loses its places a little after
the moment for which it had announced itself. A turn it had fetched counts as sent: it
is taken as over `Request.timeout` seconds later and comes back a period after that.
"""

from __future__ import annotations

import json
import logging
from math import inf
from typing import TYPE_CHECKING, Any, Final

import attrs

from finetuning_async._queue_gate import QueueGate
from finetuning_async._rate_budget import RateBudget
from finetuning_async._rate_codes import is_queue_full
from finetuning_async._rule_memory import memory_of, remember
from finetuning_async._store_words import Reply, Told
from finetuning_async._ticket import Ticket
from finetuning_async._wire import LONGEST_PAUSE

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from finetuning_async._rate_limits import RateLimits
    from finetuning_async._store_words import Note, Request
    from finetuning_async._wire import AnswerFacts, Route

logger = logging.getLogger("finetuning_async")

VERSION: Final = 2
"""Of the text; another one is not read, and the book begins anew."""

SLACK: Final = 2.0
"""Seconds by which a process may be late before its places are given up."""

SILENT: Final = 120.0
"""Seconds after which a process that said nothing is not counted any more, nor are its
tracks: the service makes one in a minute or two."""

LONGEST_WAIT: Final = 2.0
SHORTEST_WAIT: Final = 0.25
"""Seconds between two questions of one process, at a period of a minute: the longest,
in case that others give up; and while it depends on an answer that others wait for."""

TOLERANCE: Final = 1e-6
"""Seconds; float noise."""

UNREADABLE: Final = (
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)
"""What a text raises that is no book."""

MOST_SAID: Final = 200
"""Characters of such an error, in the log."""


@attrs.define(eq=False)
class Place:
    """One that waits in a line."""

    id: str
    process: str
    first: bool


@attrs.define(eq=False)
class Lease:
    """One that may go, or is out.

    Attributes:
        process: Whose.
        budget: From which.
        ticket: Of the budget.
        until: When it is taken as sent and over.
        is_known: Whether its owner was told.
    """

    process: str
    budget: Route
    ticket: Ticket
    until: float
    is_known: bool = False


@attrs.define(eq=False)
class Member:
    """A process.

    Attributes:
        seen_at: When it last said something.
        expected_by: When it will have said something, if it lives and has places.
        number: Of its last request.
        serial: Of its last note.
        under_way: Tracks.
    """

    seen_at: float
    expected_by: float = -inf
    number: int = 0
    serial: int = 0
    under_way: int = 0


class Book:
    """What is known of an account, and what follows from it.

    One that takes the place of another which was lost gives no turns for a moment,
    until all who wait have said what they had sent.

    Args:
        limits: Of the process that asks; `None` for the gates of 429s alone.
        rng: Where jitter comes from.
        epoch: The name of this memory.
    """

    def __init__(
        self, limits: RateLimits | None, rng: random.Random, epoch: str
    ) -> None:
        self.epoch = epoch
        self.budgets = {
            "creates": RateBudget(None if limits is None else limits.creates, rng),
            "reads": RateBudget(None if limits is None else limits.reads, rng),
        }
        self.per = {
            "creates": 60.0 if limits is None else limits.creates.per,
            "reads": 60.0 if limits is None else limits.reads.per,
        }
        self.lines: dict[Route, list[Place]] = {"creates": [], "reads": []}
        self.leases: dict[str, Lease] = {}
        self.members: dict[str, Member] = {}
        self.queue = QueueGate()
        self.held_until = -inf

    def exchange(self, request: Request, now: float) -> Reply:
        """Take what a process says, and answer."""
        is_stranger = request.epoch not in (None, self.epoch)
        if is_stranger and not self.members:
            self.held_until = now + self._until_all_have_spoken()
        member = self.members.setdefault(request.process, Member(now))
        is_late = request.number <= member.number
        if not is_late:
            self._hear(request, member, now)
        self._sweep(now)
        if not is_stranger:  # what it has sent of late is told next
            self._advance(request.timeout, now)
        granted = frozenset() if is_late else self._claim(request, now)
        wait = self._wait(request.process, now)
        member.expected_by = now + wait + SLACK
        return Reply(
            epoch=self.epoch,
            granted=granted,
            wait=wait,
            budgets={name: self._told(name, now) for name in self.budgets},
            processes=len(self.members),
        )

    def _until_all_have_spoken(self) -> float:
        """Seconds after which those who wait have said what the last book held."""
        return (LONGEST_WAIT + 0.5) * max(self.per.values()) / 60

    # What a process says.

    def _hear(self, request: Request, member: Member, now: float) -> None:
        member.seen_at, member.number = now, request.number
        member.expected_by = inf  # it is here
        member.under_way = request.under_way
        ended: dict[tuple[str, Route], Ticket] = {}
        for note in request.notes:
            if note.serial > member.serial:
                member.serial = note.serial
                self._take(note, request, ended, now)
        self._keep_places(request)

    def _take(
        self,
        note: Note,
        request: Request,
        ended: dict[tuple[str, Route], Ticket],
        now: float,
    ) -> None:
        """Book a note; what the book has never heard of, or given up, is charged."""
        budget, at = self.budgets[note.budget], now - max(note.ago, 0.0)
        key = (note.id, note.budget)
        if note.event == "refused":
            budget.refused(at, note.retry_after, ended.get(key))
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

    def _end(self, lease_id: str, note: Note, at: float) -> None:
        lease = self.leases.pop(lease_id)
        budget = self.budgets[lease.budget]
        if note.event == "answered":
            budget.answered(lease.ticket, at, note.facts)
        elif note.event == "unsent":
            budget.unsent(lease.ticket, at)
        else:
            budget.abandoned(lease.ticket, at, note.linger)
        if lease.budget == "creates":
            self._leave_queue(note.facts, at)

    def _leave_queue(self, facts: AnswerFacts | None, at: float) -> None:
        """A create has entered the service's queue, or not."""
        if facts is not None and is_queue_full(facts.status, facts.code):
            self.queue.refused(at, self._under_way(), facts.retry_after or 0.0)
        elif facts is not None and facts.status < 300:
            self.queue.accepted(self._under_way())
        else:
            self.queue.left()

    def _keep_places(self, request: Request) -> None:
        """The places of a process are those it asks for; others are given up."""
        wanted = {ask.id for ask in request.asks}
        for name, line in self.lines.items():
            self.lines[name] = [
                p for p in line if p.process != request.process or p.id in wanted
            ]
        known = {place.id for line in self.lines.values() for place in line}
        for ask in request.asks:
            if ask.id not in known and ask.id not in self.leases:
                self._stand(ask.budget, Place(ask.id, request.process, ask.first))
        for name, lease in self._unfetched(request.process):
            if name not in wanted:
                self._take_back(name, lease)

    def _stand(self, budget: Route, place: Place) -> None:
        line = self.lines[budget]
        behind = sum(p.first for p in line) if place.first else len(line)
        line.insert(behind, place)

    # What time brings.

    def _sweep(self, now: float) -> None:
        """Give up what belongs to processes that are gone."""
        gone = {name for name, m in self.members.items() if m.expected_by < now}
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
                self.budgets[lease.budget].abandoned(lease.ticket, lease.until, 0.0)
                self._drop_entering(lease)

    def _unfetched(self, process: str) -> Iterator[tuple[str, Lease]]:
        for name, lease in list(self.leases.items()):
            if lease.process == process and not lease.is_known:
                yield name, lease

    def _take_back(self, name: str, lease: Lease) -> None:
        """Its owner does not want it, or is gone, and never knew of it."""
        del self.leases[name]
        self.budgets[lease.budget].unsent(lease.ticket, lease.ticket.sent_at)
        self._drop_entering(lease)

    def _drop_entering(self, lease: Lease) -> None:
        if lease.budget == "creates":
            self.queue.left()

    # Who goes next.

    def _advance(self, timeout: float, now: float) -> None:
        for name, line in self.lines.items():
            while line and self._turn(name, now) <= now + TOLERANCE:
                place = line.pop(0)
                ticket = self._send(name, now)
                until = now + timeout
                self.leases[place.id] = Lease(place.process, name, ticket, until)

    def _let_go(self, name: str, budget: Route, request: Request, at: float) -> Lease:
        ticket = self._send(budget, at)
        lease = Lease(request.process, budget, ticket, at + request.timeout)
        self.leases[name] = lease
        return lease

    def _send(self, budget: Route, now: float) -> Ticket:
        if budget == "creates":
            self.queue.entered()
        return self.budgets[budget].send(now)

    def _turn(self, budget: Route, now: float) -> float:
        """When the first of a line may go: `now` or later."""
        turn = max(self.budgets[budget].earliest(now + TOLERANCE), self.held_until)
        if budget == "creates":
            turn = max(turn, self.queue.opens(self._under_way()))
        return turn

    def _under_way(self) -> int:
        return sum(member.under_way for member in self.members.values())

    # What it is told.

    def _claim(self, request: Request, now: float) -> frozenset[str]:
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

    def _told(self, name: Route, now: float) -> Told:
        budget, waiting = self.budgets[name], len(self.lines[name])
        return Told(
            status=budget.status(now, waiting),
            newcomer_in=budget.earliest_behind(now, waiting) - now,
        )

    # As text.

    def to_text(self) -> str:
        """The book as JSON."""
        return json.dumps(
            {
                "version": VERSION,
                "epoch": self.epoch,
                "budgets": {n: memory_of(b) for n, b in self.budgets.items()},
                "lines": {
                    n: [[p.id, p.process, p.first] for p in line]
                    for n, line in self.lines.items()
                },
                "leases": {n: attrs.asdict(le) for n, le in self.leases.items()},
                "members": {n: attrs.asdict(m) for n, m in self.members.items()},
                "queue": vars(self.queue),
                "held_until": self.held_until,
            },
            separators=(",", ":"),
        )

    def load(self, text: str, now: float) -> None:
        """Take what another book of the account wrote.

        Raises:
            Exception: It is no such text; one of `UNREADABLE`.
        """
        data: dict[str, Any] = json.loads(text)
        if data["version"] != VERSION:
            raise ValueError(f"version {data['version']} of a book is not known")
        for name, budget in self.budgets.items():
            remember(budget, data["budgets"][name])
            self.lines[name] = [Place(*row) for row in data["lines"][name]]
        for name, row in data["leases"].items():
            self.leases[name] = Lease(**row | {"ticket": Ticket(**row["ticket"])})
        self.members = {n: Member(**row) for n, row in data["members"].items()}
        vars(self.queue).update(data["queue"])
        self.held_until = data["held_until"]
        self.epoch = data["epoch"]
        holds = [self.held_until, *(b.opens_at for b in self.budgets.values())]
        if not all(hold <= now + LONGEST_PAUSE + SLACK for hold in holds):  # or NaN
            raise ValueError(f"it holds everybody until {holds}, and it is {now}")


def turn_page(
    text: str | None, request: Request, *, now: float, rng: random.Random
) -> tuple[str, Reply]:
    """One exchange of a store that keeps the book as a text.

    Whoever calls it holds a lock from reading the text to writing it.

    Args:
        text: What was written last; `None` if nothing was. What cannot be read counts
            as nothing.
        request: What a process says.
        now: Seconds of the store's own clock, which must not be another one next time.
        rng: Where jitter and the name of a new book come from.

    Returns:
        The text to write, and what to answer.
    """
    epoch = f"{rng.getrandbits(64):016x}"
    if text is not None:
        try:
            book = Book(request.limits, rng, epoch)
            book.load(text, now)
            reply = book.exchange(request, now)
            return book.to_text(), reply
        except UNREADABLE as error:
            logger.warning(
                "what was kept of the rate limits cannot be read (%s: %s); it begins"
                " anew",
                type(error).__name__,
                str(error)[:MOST_SAID],
            )
    book = Book(request.limits, rng, epoch)
    reply = book.exchange(request, now)
    return book.to_text(), reply
