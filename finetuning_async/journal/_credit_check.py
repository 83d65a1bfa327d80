"""Whether the account's credits rule out a charge for creates in doubt. Pure.

The service shows no list of charges, only a balance. So two readings of it are
compared. What went off it between them, less one for each track accepted meanwhile, is

    charged - charged_before - refunded

where `charged` counts the creates in doubt that were charged in between, and
`charged_before` those accepted in between that the first reading had charged already.
None of the three is negative. So where nothing was refunded, and no create that may
have been charged before the first reading was accepted since, nothing went off it means
that nothing in doubt was charged, whatever else was in flight.

Readings between which that holds form a `Span`. A create in doubt was not charged if
one span reaches from before it was sent until the service accepts it no more.

Failed tracks may or may not be refunded; we take it that all are or none is. While that
is not known, a reading after a failure ends its span, since a refund may hide a charge:
what is in doubt then stays undecided, what is sent later is judged by the next span. It
is learned as soon as one of both answers would need more charges, or fewer, than there
were creates to charge. Then the spans that failures ended go on as one.
"""

from __future__ import annotations

import json
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

SLACK: Final = 5.0
"""Seconds by which the service's time may be known too late."""

MAX_SEEN: Final = 60
"""Equal readings that are kept: half an hour of them, at one every 30 s."""

MAX_SPANS: Final = 12
"""Spans that are kept; each but the last ended with a failed track or a charge."""

Key: TypeAlias = tuple[int, int]
"""Names a create: its item's `seq`, and how many of the item's were accepted before."""


@attrs.frozen(kw_only=True)
class CreditReading:
    """The account's credits, and what had happened when they were read.

    Attributes:
        credits: What was left.
        accepts: Tracks accepted for the batch until then.
        fails: How many of them had failed.
    """

    credits: int
    accepts: int
    fails: int


@attrs.frozen(kw_only=True)
class PossibleCharge:
    """A create in doubt, in flight or held.

    Attributes:
        key: Names it.
        sent_at: When it was first sent, in seconds since 1970.
        until: When the service accepts it no more; `inf` while it is in flight.
    """

    key: Key
    sent_at: float
    until: float


@attrs.frozen(kw_only=True)
class Observation:
    """A reading of the credits, and what may have been charged by then.

    Attributes:
        reading: The reading.
        at: When it was taken, in seconds since 1970.
        doubts: All creates that may have been charged without being counted in it.
        dropped: Of the creates that `CreditBaseline.uncleared` names, those that ended
            without a track. The others that are not in doubt count as accepted.
        late: How many of `doubts` have been accepted since, or found.
    """

    reading: CreditReading
    at: float
    doubts: tuple[PossibleCharge, ...] = ()
    dropped: frozenset[Key] = frozenset()
    late: int = 0

    @property
    def excused(self) -> int:
        """How many charges it may show of creates that will be counted soon."""
        return self.late + sum(doubt.until == inf for doubt in self.doubts)


@attrs.frozen(kw_only=True)
class Gap:
    """What happened between the last reading of a span and another reading.

    Attributes:
        unexplained: Credits that went off beyond those of accepted tracks.
        fails: How many tracks failed.
        counted: How many creates that may have been charged before were accepted.
    """

    unexplained: int
    fails: int
    counted: int

    def charges(self, refunds: bool) -> tuple[int, int]:
        """How many creates in doubt were charged, at least and at most.

        A negative one cannot be: something else has changed the balance.

        Args:
            refunds: Whether failed tracks give their credit back.
        """
        least = self.unexplained + self.fails * refunds
        return least, least + self.counted

    def is_clear(self, refunds: bool | None) -> bool:
        """Whether it is certain that nothing in doubt was charged.

        Args:
            refunds: The same; `None` if not known.
        """
        if refunds is None and self.fails:
            return False
        return self.fails >= 0 and self.charges(bool(refunds))[1] == 0

    def allows(self, refunds: bool, most: int) -> bool:
        """Whether it can be that at most so many creates in doubt were charged.

        Args:
            refunds: As above.
            most: How many may have been.
        """
        least, at_most = self.charges(refunds)
        return at_most >= 0 and least <= most

    def is_charged(self, refunds: bool | None) -> bool:
        """Whether something was charged, or has changed the balance otherwise."""
        answers = (False, True) if refunds is None else (refunds,)
        charges = [self.charges(answer) for answer in answers]
        return self.fails < 0 or all(least > 0 or most < 0 for least, most in charges)


@attrs.frozen(kw_only=True)
class Span:
    """Readings between which nothing in doubt was charged.

    Attributes:
        since: When the first of them was taken, in seconds since 1970.
        last: The last of them.
        at: When it was taken.
        uncleared: Creates in doubt that may have been charged before the first.
        counted: How many of these have been accepted since `last`.
        gap: What lies between the span before and this one; `None` for the first.
    """

    since: float
    last: CreditReading
    at: float
    uncleared: tuple[Key, ...] = ()
    counted: int = 0
    gap: Gap | None = None

    def gap_to(self, reading: CreditReading) -> Gap:
        """What lies between it and a later reading."""
        spent = self.last.credits - reading.credits
        return Gap(
            unexplained=spent - (reading.accepts - self.last.accepts),
            fails=reading.fails - self.last.fails,
            counted=self.counted,
        )

    def without(self, in_doubt: Collection[Key], dropped: Collection[Key]) -> Span:
        """The same, once only some creates are in doubt and some made no track."""
        left = tuple(key for key in self.uncleared if key in in_doubt)
        ended = [key for key in self.uncleared if key not in in_doubt]
        counted = self.counted + sum(key not in dropped for key in ended)
        return attrs.evolve(self, uncleared=left, counted=counted)

    def clears(self, doubt: PossibleCharge) -> bool:
        """Whether its last reading shows no charge for a create."""
        return self.since - SLACK <= doubt.sent_at and doubt.key not in self.uncleared


@attrs.frozen(kw_only=True)
class CreditBaseline:
    """What all readings so far say.

    Attributes:
        spans: In their order; readings go on with the last.
        refunds: Whether a failed track gives its credit back; `None` if not known.
        seen: When readings equal to the last were taken, in seconds since 1970.
    """

    spans: tuple[Span, ...] = ()
    refunds: bool | None = None
    seen: tuple[float, ...] = ()

    @property
    def uncleared(self) -> frozenset[Key]:
        """Creates of which an `Observation` has to say whether they were accepted."""
        return frozenset(key for span in self.spans for key in span.uncleared)

    @property
    def fails(self) -> int | None:
        """How many tracks had failed at the last reading; `None` before the first."""
        return self.spans[-1].last.fails if self.spans else None

    def read_ago(self, now: float) -> float:
        """Seconds since the last reading that could be compared."""
        return now - self.spans[-1].at if self.spans else inf

    def unchanged_for(self, since: float) -> float:
        """Seconds from the first reading equal to the last after a moment to that."""
        later = [moment for moment in self.seen if moment >= since]
        return later[-1] - later[0] if later else 0.0

    def covers(self, sent_at: float) -> bool:
        """Whether there was a reading before a create that was sent at a moment."""
        return bool(self.spans) and self.spans[0].since - SLACK <= sent_at

    def rules_out_charge(self, doubt: PossibleCharge) -> bool | None:
        """Whether the credits rule out that a create in doubt was ever charged.

        Returns:
            `False` if they show a charge that may be its own; `None` if that cannot be
            known now: a later reading may show it.
        """
        if any(span.clears(doubt) and span.at >= doubt.until for span in self.spans):
            return True
        if not self.covers(doubt.sent_at):
            return None
        gaps = (
            after.gap
            for before, after in pairwise(self.spans)
            if before.at < doubt.until and after.since > doubt.sent_at - SLACK
        )
        is_charged = any(gap and gap.is_charged(self.refunds) for gap in gaps)
        return False if is_charged else None

    def observe(self, seen: Observation) -> CreditBaseline:
        """Take a reading into account."""
        if not self.spans:
            # The first one compares with nothing; a create in flight would stay
            # undecided without need.
            return self if seen.excused else _ending_with(seen, self, (_first(seen),))
        last, reading = self.spans[-1], seen.reading
        is_older = seen.at <= last.at and reading.accepts <= last.last.accepts
        if is_older:
            return self  # another process was faster, or it is the same one again
        in_doubt = {doubt.key for doubt in seen.doubts}
        spans = tuple(span.without(in_doubt, seen.dropped) for span in self.spans)
        refunds = self.refunds
        if refunds is None:
            refunds = _learn_refunds(spans, seen)
        return _go_on(attrs.evolve(self, refunds=refunds), spans, seen)

    def to_json(self) -> str:
        """The text of the journal's note; its keys are a stored format."""
        spans = [attrs.asdict(span) for span in self.spans]
        return json.dumps({"spans": spans, "refunds": self.refunds, "seen": self.seen})

    @classmethod
    def from_json(cls, text: str | None) -> CreditBaseline:
        """The baseline of such a note; an empty one for `None`."""
        if text is None:
            return cls()
        found: dict[str, Any] = json.loads(text)
        stored = found["spans"] if "spans" in found else _of_older_version(found)
        return cls(
            spans=tuple(map(_span, stored)),
            refunds=found["refunds"],
            seen=tuple(found.get("seen", ())),
        )


def _first(seen: Observation, gap: Gap | None = None) -> Span:
    """A span that begins with a reading."""
    keys = tuple(doubt.key for doubt in seen.doubts)
    return Span(since=seen.at, last=seen.reading, at=seen.at, uncleared=keys, gap=gap)


def _learn_refunds(spans: tuple[Span, ...], seen: Observation) -> bool | None:
    """Whether failures are refunded, if only one answer is possible."""
    last = spans[-1]
    goes_on = last.gap_to(seen.reading).is_clear(None)
    doubts = [d for d in seen.doubts if not (goes_on and last.clears(d))]
    for span in spans:
        gap = span.gap_to(seen.reading)
        most = sum(doubt.until > span.at for doubt in doubts)
        possible = [answer for answer in (False, True) if gap.allows(answer, most)]
        if gap.fails > 0 and len(possible) == 1:
            return possible[0]
    return None


def _go_on(
    known: CreditBaseline, spans: tuple[Span, ...], seen: Observation
) -> CreditBaseline:
    """Go on with the first span that can, or begin another if none can."""
    reading = seen.reading
    for number, span in enumerate(spans):
        if span.gap_to(reading).is_clear(known.refunds):
            longer = attrs.evolve(span, last=reading, at=seen.at, counted=0)
            return _ending_with(seen, known, (*spans[:number], longer))
    gap = spans[-1].gap_to(reading)
    if 0 < gap.charges(bool(known.refunds))[0] <= seen.excused:
        # A create in flight was charged. It will be counted at the next one.
        return attrs.evolve(known, spans=spans)
    if spans[-1].since == spans[-1].at and len(spans) > 1:
        # It never was more than one reading: this one takes its place.
        spans = spans[:-1]
        gap = spans[-1].gap_to(reading)
    return _ending_with(seen, known, (*spans, _first(seen, gap))[-MAX_SPANS:])


def _ending_with(
    seen: Observation, known: CreditBaseline, spans: tuple[Span, ...]
) -> CreditBaseline:
    """A baseline whose last reading is this one."""
    is_equal = bool(known.spans) and known.spans[-1].last == seen.reading
    moments = (*(known.seen if is_equal else ()), seen.at)
    return attrs.evolve(known, spans=spans, seen=moments[-MAX_SEEN:])


def _span(stored: dict[str, Any]) -> Span:
    gap = stored.get("gap")
    return Span(
        **stored
        | {
            "last": CreditReading(**stored["last"]),
            "uncleared": tuple((seq, accepts) for seq, accepts in stored["uncleared"]),
            "gap": None if gap is None else Gap(**gap),
        }
    )


def _of_older_version(found: dict[str, Any]) -> Iterable[dict[str, Any]]:
    """The one span that notes of older versions held, without what may precede it."""
    base, seen = found["base"], found.get("seen", ())
    if base is not None and seen and found.get("since", inf) < inf:
        span = {"since": found["since"], "last": base, "at": seen[-1]}
        yield span | {"uncleared": []}
