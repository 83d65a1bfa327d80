"""Whose turn it is: by priority, then in turn to the shares that wait. Pure.

Two rules, each of which keeps a little memory of what was dealt before.

Between the priorities the highest that waits goes, but one that waits is passed over at
most `MAX_SKIPPED` times in a row. So of ten permits at least one goes to each lower
priority that waits: with all three waiting 8, 1 and 1. Weighted fair queueing would
give the same shares, but could let a high create wait behind two low ones.

Between the shares of one priority each has one turn after another. A share that begins
to wait joins the turn that is under way, behind those that still have it before them;
one that had it waits for the next. This is start-time fair queueing (Goyal, Vin and
Cheng, 1996) where every request costs the same.

The requests themselves are elsewhere: in one queue, in those of several event loops, or
in a ledger that processes share. All of them ask the same dealer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Self

from finetuning_async._api import PRIORITIES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

RANKS: Final[dict[str, int]] = {name: rank for rank, name in enumerate(PRIORITIES)}
"""The place of each priority, the highest first."""

HIGH: Final = RANKS["high"]
NORMAL: Final = RANKS["normal"]
LOW: Final = RANKS["low"]

MAX_SKIPPED: Final = 9
"""How often in a row a priority that waits may be passed over."""


class Dealer:
    """The memory of what was dealt, from which the next turn follows.

    Ranks are those of `RANKS`. `waiting` is always the ranks at which requests wait, in
    ascending order, the one that is dealt to included.

    Attributes:
        changes: How often it was told of something that may change whose turn it is.
    """

    __slots__ = ("_later", "_skipped", "_turns", "changes")

    def __init__(self) -> None:
        self.changes = 0
        self._skipped = [0] * len(PRIORITIES)
        # By rank: the turn under way, and of the shares that had it already, the turn
        # that is their next one.
        self._turns = [0] * len(PRIORITIES)
        self._later: list[dict[str | None, int]] = [{} for _ in PRIORITIES]

    def __repr__(self) -> str:
        return f"<Dealer skipped {self._skipped}, turns {self._turns}>"

    def copy(self) -> Dealer:
        """Return another dealer with the same memory, to look ahead with."""
        made = Dealer()
        made._skipped, made._turns = self._skipped.copy(), self._turns.copy()
        made._later = [later.copy() for later in self._later]
        return made

    def next_rank(self, waiting: Sequence[int]) -> int:
        """Return the rank that the next permit goes to; `waiting` is not empty."""
        if len(waiting) == 1:
            return waiting[0]
        skipped, lower = self._skipped, waiting[1:]
        due = [rank for rank in lower if skipped[rank] >= MAX_SKIPPED]
        if not due:
            # Two that would be due at once: one of them goes a permit earlier, or the
            # other would be passed over once too often.
            due = [rank for rank in lower if skipped[rank] >= MAX_SKIPPED - 1]
            if len(due) < 2:
                return waiting[0]
        return max(due, key=lambda rank: (skipped[rank], -rank))

    def turn_of(self, rank: int, share: str | None) -> int:
        """Return the turn in which the next request of a share is; the lowest goes."""
        turn = self._turns[rank]
        return max(self._later[rank].get(share, turn), turn)

    def on_dealt(self, rank: int, share: str | None, waiting: Sequence[int]) -> None:
        """Record that a request of a rank and a share goes out."""
        self.count_skipped(rank, waiting)
        turn, later = self.turn_of(rank, share), self._later[rank]
        if turn > self._turns[rank]:
            self._turns[rank] = turn
            # Shares come and go by the thousands; what says nothing any more is
            # dropped once a turn, so that it costs each of them one step.
            for known in [s for s, next_turn in later.items() if next_turn <= turn]:
                del later[known]
        later[share] = turn + 1
        self.changes += 1

    def count_skipped(self, dealt: int, waiting: Sequence[int]) -> None:
        """Record which ranks a permit passes over that goes to rank `dealt`."""
        if len(waiting) == 1:
            self._skipped = [0] * len(PRIORITIES)
            return
        for rank in range(len(PRIORITIES)):
            passed_over = rank != dealt and rank in waiting
            self._skipped[rank] = self._skipped[rank] + 1 if passed_over else 0

    def forget(self, rank: int) -> None:
        """Begin afresh at a rank where nothing waits any more."""
        self._skipped[rank] = 0
        self._later[rank].clear()
        self.changes += 1

    def deals_before(self, rank: int, own: int, counts: Sequence[int]) -> int:
        """Return how many permits are dealt before one of a rank.

        Args:
            rank: Of that request.
            own: How many of the same rank go before it.
            counts: How many wait at each rank; with that request at its own, or not.
        """
        left, ahead = list(counts), 0
        left[rank] = own + 1
        dealer = self.copy()
        while True:
            waiting = [r for r, count in enumerate(left) if count]
            dealt = dealer.next_rank(waiting)
            left[dealt] -= 1
            if not left[rank]:
                return ahead
            dealer.count_skipped(dealt, waiting)
            ahead += 1

    def to_state(self) -> dict[str, Any]:
        """Return what it remembers as JSON; see `from_state`."""
        return {
            "skipped": self._skipped,
            "turns": self._turns,
            "later": [[[s, turn] for s, turn in each.items()] for each in self._later],
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Restore what `to_state` returned.

        Raises:
            LookupError: It is no such state.
            TypeError: It is no such state.
            ValueError: It is no such state.
        """
        made = cls()
        made._skipped = _whole_numbers(state["skipped"])
        made._turns = _whole_numbers(state["turns"])
        made._later = [dict(each) for each in state["later"]]
        if not len(made._skipped) == len(made._turns) == len(made._later) == 3:
            raise ValueError("a dealer has three ranks")
        return made


def _whole_numbers(values: Iterable[object]) -> list[int]:
    return [int(value) for value in values]  # type: ignore[call-overload]  # raises TypeError as documented
