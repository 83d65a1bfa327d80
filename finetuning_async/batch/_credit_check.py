"""Whether the account's credits show a charge for creates in doubt. Pure.

A reading compares two moments at which no create was on the wire: the balance must have
gone down by exactly the tracks that were accepted between. Failed tracks may or may not
be refunded; that is learned from readings while nothing is in doubt.
"""

from __future__ import annotations

import json
from typing import Any

import attrs


@attrs.frozen(kw_only=True)
class Reading:
    """One look at the account, while no create was on the wire.

    Attributes:
        credits: What is left.
        accepts: Tracks accepted for the batch so far.
        fails: How many of them failed.
    """

    credits: int
    accepts: int
    fails: int


@attrs.frozen(kw_only=True)
class Balance:
    """What readings have told.

    Attributes:
        base: The last reading at which nothing in doubt was charged.
        refunds: Whether a failed track gives its credit back; `None` if not known.
    """

    base: Reading | None = None
    refunds: bool | None = None

    def read(self, now: Reading) -> Balance:
        """Take a reading at which nothing in doubt was charged."""
        learned = self.refunds
        if self.base is not None and now.fails > self.base.fails:
            charged = _charged(self.base, now)
            if charged == 0:
                learned = False
            elif charged == self.base.fails - now.fails:
                learned = True
        return Balance(base=now, refunds=learned)

    def is_clear(self, now: Reading, doubts: int) -> bool | None:
        """Whether nothing was charged since but what was accepted.

        Until refunds are known, no charge and no refund looks like as many charges as
        refunds. But there cannot be more charges than creates in doubt.

        Args:
            now: The balance.
            doubts: How many creates may have been charged; at least 1.

        Returns:
            `None` if there is nothing to compare with.
        """
        if self.base is None:
            return None
        failed = now.fails - self.base.fails
        charged = _charged(self.base, now)
        if self.refunds is not None:
            return charged == (-failed if self.refunds else 0)
        return charged == -failed or (charged == 0 and failed > doubts)

    def to_json(self) -> str:
        """For a note in the journal."""
        return json.dumps(attrs.asdict(self))

    @classmethod
    def from_json(cls, text: str | None) -> Balance:
        """From such a note."""
        if text is None:
            return cls()
        found: dict[str, Any] = json.loads(text)
        base = found["base"]
        return cls(
            base=None if base is None else Reading(**base), refunds=found["refunds"]
        )


def _charged(before: Reading, now: Reading) -> int:
    """Credits gone beyond those of accepted tracks; negative if some came back."""
    return (before.credits - now.credits) - (now.accepts - before.accepts)
