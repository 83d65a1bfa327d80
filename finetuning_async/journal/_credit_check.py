"""Whether the account's credits rule out a charge for creates in doubt. Pure.

The service shows no list of charges, only a balance. So two readings of it are
compared, each taken while no create was in flight. Between them the balance must have
gone down by exactly the tracks that were accepted: then no create in doubt was charged.
Failed tracks may or may not be refunded; that is learned from readings taken while
nothing was in doubt.
"""

from __future__ import annotations

import json
from typing import Any, Final

import attrs

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
class CreditBaseline:
    """What later readings are compared with.

    Attributes:
        base: The last reading that shows no charge for a create in doubt.
        refunds: Whether a failed track gives its credit back; `None` if not known.
        seen: When readings equal to `base` were taken, in seconds since 1970.
    """

    base: CreditReading | None = None
    refunds: bool | None = None
    seen: tuple[float, ...] = ()

    def unchanged_for(self, since: float) -> float:
        """Seconds from the first reading equal to `base` after a moment to the last."""
        later = [moment for moment in self.seen if moment >= since]
        return later[-1] - later[0] if later else 0.0

    def advance(self, now: CreditReading, at: float = 0.0) -> CreditBaseline:
        """Move to a reading that shows no charge for a create in doubt.

        Args:
            now: The reading.
            at: When it was taken, in seconds since 1970.
        """
        refunds = self.refunds
        if self.base is not None and now.fails > self.base.fails:
            # Nothing was in doubt, so all that the tracks accepted do not explain is
            # due to refunds: none for any failure, or one for each. Anything else is
            # ambiguous, as when another program spends credits; nothing is learned.
            unexplained = _unexplained(self.base, now)
            if unexplained == 0:
                refunds = False
            elif unexplained == self.base.fails - now.fails:
                refunds = True
        before = self.seen if now == self.base else ()
        return CreditBaseline(base=now, refunds=refunds, seen=(*before, at)[-MAX_SEEN:])

    def rules_out_charge(self, now: CreditReading, doubts: int) -> bool | None:
        """Whether nothing was charged since the baseline but what was accepted.

        Args:
            now: The reading to compare.
            doubts: How many creates may have been charged; at least 1.

        Returns:
            `None` if there is no baseline yet.
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
        return unexplained == -failed or (unexplained == 0 and failed > doubts)

    def to_json(self) -> str:
        """The text of the journal's note; its keys are a stored format."""
        base = self.base
        stored = None if base is None else attrs.asdict(base)
        facts = {"base": stored, "refunds": self.refunds, "seen": self.seen}
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
            seen=tuple(found.get("seen", ())),  # a note of an older version has none
        )


def _unexplained(before: CreditReading, now: CreditReading) -> int:
    """Credits spent beyond those of accepted tracks; negative if some came back."""
    return (before.credits - now.credits) - (now.accepts - before.accepts)
