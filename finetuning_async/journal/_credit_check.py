"""Whether the account's credits rule out a charge for creates in doubt. Pure.

The service shows no list of charges, only a balance. So two readings of it are
compared, each taken while no create was in flight. Between them the balance must have
gone down by exactly the tracks that were accepted: then no create in doubt was charged.

Failed tracks may or may not be refunded. While that is not known a comparison may be
ambiguous: no refund and no charge look like as many of one as of the other. It is
learned from two readings between which a track has failed and no create in doubt can
have been charged: none was in doubt, or all had been given up so long before the first
that the service accepts them no more.
"""

from __future__ import annotations

import json
from math import inf
from typing import Any, Final

import attrs

SLACK: Final = 5.0
"""Seconds by which the service's time may be known too late. A reading is never taken
while a create is in flight, so it cannot hide a charge."""

MAX_SEEN: Final = 60
"""Equal readings that are kept: half an hour of them, at one every 30 s."""


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
class EarlierReading:
    """A reading taken beside creates in doubt.

    Attributes:
        reading: The reading.
        at: When it was taken, in seconds since 1970.
        doubts: How many creates were in doubt.
    """

    reading: CreditReading
    at: float
    doubts: int


@attrs.frozen(kw_only=True)
class CreditBaseline:
    """What later readings are compared with.

    Attributes:
        base: The last reading that shows no charge for a create in doubt.
        refunds: Whether a failed track gives its credit back; `None` if not known.
        seen: When readings equal to `base` were taken, in seconds since 1970.
        since: When the first reading was taken from which on nothing was charged but
            what was accepted: these credits prove something for creates sent later.
        beside: The last reading beside creates in doubt, while refunds are not known;
            see `beside_doubts`.
    """

    base: CreditReading | None = None
    refunds: bool | None = None
    seen: tuple[float, ...] = ()
    since: float = inf
    beside: EarlierReading | None = None

    def unchanged_for(self, since: float) -> float:
        """Seconds from the first reading equal to `base` after a moment to the last."""
        later = [moment for moment in self.seen if moment >= since]
        return later[-1] - later[0] if later else 0.0

    def covers(self, sent_at: float) -> bool:
        """Whether a charge for a create that was sent at a moment would have shown.

        A charge that was there before the first reading does not show.
        """
        return self.since - SLACK <= sent_at

    def advance(
        self, now: CreditReading, at: float = 0.0, doubts: int = 1
    ) -> CreditBaseline:
        """Move to a reading before which nothing was charged for a create in doubt.

        Held ones may have been charged before: see `since`.

        Args:
            now: The reading.
            at: When it was taken, in seconds since 1970.
            doubts: As for `rules_out_charge`.
        """
        since = self.since if self.rules_out_charge(now, doubts) else at
        # Nothing was in doubt, so all that the tracks accepted do not explain is due to
        # refunds.
        refunds = self.refunds if self.base is None else self._learned(self.base, now)
        before = self.seen if now == self.base else ()
        seen = (*before, at)[-MAX_SEEN:]
        return CreditBaseline(base=now, refunds=refunds, seen=seen, since=since)

    def _learned(self, before: CreditReading, now: CreditReading) -> bool | None:
        """Whether failures are refunded, by two readings with no charge in between.

        None for any failure, or one for each. Anything else is ambiguous, as when
        another program spends credits; nothing is learned.
        """
        failed, unexplained = now.fails - before.fails, _unexplained(before, now)
        if failed > 0 and unexplained in (0, -failed):
            return unexplained != 0
        return self.refunds

    def beside_doubts(
        self, now: CreditReading, at: float, doubts: int, lost_at: float, settle: float
    ) -> CreditBaseline:
        """Learn from a reading beside creates in doubt whether failures are refunded.

        Args:
            now: The reading.
            at: When it was taken, in seconds since 1970.
            doubts: How many creates were in doubt then.
            lost_at: When the last of them was given up.
            settle: Seconds after which the service accepts none that was given up.
        """
        if self.refunds is not None:
            return attrs.evolve(self, beside=None)
        before, refunds = self.beside, self.refunds
        # As many as before, none of them new: then they are the same ones, and what
        # they have cost was charged before the first reading.
        if before and before.doubts == doubts and lost_at + settle <= before.at:
            refunds = self._learned(before.reading, now)
        beside = EarlierReading(reading=now, at=at, doubts=doubts)
        return attrs.evolve(self, refunds=refunds, beside=beside)

    def rules_out_charge(self, now: CreditReading, doubts: int) -> bool | None:
        """Whether nothing was charged since the baseline but what was accepted.

        Args:
            now: The reading to compare.
            doubts: How many creates may have been charged; at least 1.

        Returns:
            `None` if there is no baseline yet, or if the comparison is ambiguous: a
            later reading may not be.
        """
        if self.base is None:
            return None
        failed = now.fails - self.base.fails
        unexplained = _unexplained(self.base, now)
        if self.refunds is not None:
            return unexplained == (-failed if self.refunds else 0)
        # Refunds are not known. A refund for every failure leaves no room for a charge.
        # No change at all is ambiguous: no refunds and no charge, or as many of one as
        # of the other. But there cannot be more charges than creates in doubt; so with
        # more failures than those, the second reading is impossible.
        if unexplained == 0 and 0 < failed <= doubts:
            return None
        return unexplained in (0, -failed)

    def to_json(self) -> str:
        """The text of the journal's note; its keys are a stored format."""
        base = self.base
        stored = None if base is None else attrs.asdict(base)
        facts: dict[str, Any] = {
            "base": stored,
            "refunds": self.refunds,
            "seen": self.seen,
        }
        if base is not None:
            facts["since"] = self.since
        if self.beside is not None:
            facts["beside"] = attrs.asdict(self.beside)
        return json.dumps(facts)

    @classmethod
    def from_json(cls, text: str | None) -> CreditBaseline:
        """The baseline of such a note; an empty one for `None`."""
        if text is None:
            return cls()
        found: dict[str, Any] = json.loads(text)
        base = found["base"]
        return cls(
            base=None if base is None else CreditReading(**base),
            refunds=found["refunds"],
            # A note of an older version has neither.
            seen=tuple(found.get("seen", ())),
            since=found.get("since", inf),
            beside=_earlier(found.get("beside")),
        )


def _earlier(stored: dict[str, Any] | None) -> EarlierReading | None:
    if stored is None:
        return None
    return EarlierReading(**stored | {"reading": CreditReading(**stored["reading"])})


def _unexplained(before: CreditReading, now: CreditReading) -> int:
    """Credits spent beyond those of accepted tracks; negative if some came back."""
    return (before.credits - now.credits) - (now.accepts - before.accepts)
