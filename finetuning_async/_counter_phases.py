"""Which sliding counters the service may be: phase by phase, rounded down or not.

A counter of unknown phase must be treated as if every phase were the true one, which
costs a tenth of the speed. What it serves and refuses tells more. A hypothesis is a
phase, to within a cell of a 240th of a period, and whether the estimate is rounded
down. One that is contradicted is struck out; a request may go when all that are left
would take it, so the proof in `_sliding_counter` holds while the true one is left.

Why the true one is not struck out: request i was counted at some s_i in [a_i, b_i],
between its sending and its answer. Of a given set of requests the estimate never rises
with time, and never falls if one of them is counted later. Hence two bounds:

    least   at b, of requests that were surely counted by then, each put at its a_i
    most    at a, of all that were sent by b, each put at its b_i, or weighing 1 if it
            is still out

A phase inside a cell is that of its beginning with all instants shifted by less than a
cell, so the a_i, and for the second the instant, are put one cell earlier. A request
that is served leaves an estimate of at most the limit (below limit + 1, if it is
rounded down): what has a larger least sum after an answer is struck out. So is, when x
was refused somewhere in [a, b], what has room for it by the most it can have met.

Beside what is *proved* so there is what the service *told*: that ``Retry-After`` names
the next free place, perhaps rounded up to seconds; that ``X-RateLimit-Remaining`` is
the room that was left; and that what was refused was not counted. Nothing documents
this, so it is believed until the first contradiction, which costs one refusal, and
never again.

Clocks drift apart: every 40 periods the cells beside those that are left are possible
again, which allows for 100 parts in a million.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

CELLS: Final = 240
"""Phases that are told apart: 250 ms of a minute."""

PERIODS_OF_A_CELL: Final = 40
"""Periods in which the two clocks drift apart by less than one cell, as we assume."""

ALL: Final = frozenset(range(2 * CELLS))
"""Every hypothesis; one set for all accounts of which nothing is known, since it weighs
more than all else that an account holds."""

REMEMBERED: Final = 4
"""Periods; a request weighs for up to two after its answer."""

NOISE: Final = 1e-6
"""Requests that float arithmetic may add or take."""


_Span: TypeAlias = tuple[float, float, bool | None]
"""When a request was sent, and answered, between which it was counted; whether it was
served, if that is known.

A plain tuple of numbers, which the garbage collector forgets: there are a hundred for
each account that is in use, and with thousands of accounts it would go through them
again and again.
"""


class CounterPhases:
    """The sliding counters that nothing has contradicted.

    A hypothesis is the number of its cell; those rounded down come after the others.

    Args:
        per: Seconds, above 0; exactly the service's.
        margin: Seconds by which timers may be off; at least 0.
    """

    __slots__ = (
        "_cell",
        "_margin",
        "_per",
        "_proved",
        "_refusals",
        "_spans",
        "_told",
        "_widened_at",
    )

    def __init__(self, per: float, margin: float) -> None:
        self._per = per
        self._cell = per / CELLS
        self._margin = margin
        self._spans: deque[_Span] = deque()
        self._refusals: list[tuple[_Span, float]] = []  # requests beside them are out
        self._proved = ALL
        self._told = ALL  # empty once it is not believed
        self._widened_at = 0.0

    def __repr__(self) -> str:
        return f"<CounterPhases: {len(self._proved)} left, {len(self._told)} told>"

    def memory(self) -> dict[str, Any]:
        """What it knows, as JSON; see `_rule_memory`."""
        known = list(self._spans)
        kept = {id(span) for span in known}  # they are told apart by what they are
        known += [x for x, _ in self._refusals if id(x) not in kept]
        places = {id(span): place for place, span in enumerate(known)}
        return {
            "spans": known,
            "kept": len(self._spans),
            "refusals": [[places[id(x)], pause] for x, pause in self._refusals],
            "proved": _as_digits(self._proved),
            "told": _as_digits(self._told),
            "widened_at": self._widened_at,
        }

    def remember(self, memory: dict[str, Any]) -> None:
        """Take what another of the same period knows."""
        known: list[_Span] = [(a, b, served) for a, b, served in memory["spans"]]
        self._spans = deque(known[: memory["kept"]])
        self._refusals = [(known[at], pause) for at, pause in memory["refusals"]]
        self._proved = _as_cells(memory["proved"])
        self._told = _as_cells(memory["told"])
        self._widened_at = memory["widened_at"]

    @property
    def is_possible(self) -> bool:
        """Whether any is left."""
        return bool(self._proved)

    @property
    def is_narrowed(self) -> bool:
        """Whether some are struck out, but not all."""
        return 0 < len(self._told or self._proved) < 2 * CELLS

    @property
    def is_believed(self) -> bool:
        """Whether what the service told has not been contradicted."""
        return bool(self._told)

    def answered(self, sent: float, answered: float) -> None:
        """A request was counted in between, if it was; `answered` may lie ahead."""
        oldest = answered - REMEMBERED * self._per
        while self._spans and self._spans[0][1] < oldest:
            self._spans.popleft()
        self._spans.append((sent, answered, None))
        if answered > self._widened_at + PERIODS_OF_A_CELL * self._per:
            self._widened_at = answered
            self._proved = _with_neighbours(self._proved)
            self._told = _with_neighbours(self._told)

    def served(self, limit: int, out: int, remaining: int | None) -> None:
        """The one answered last was counted.

        Args:
            limit: Requests.
            out: Those that are still out.
            remaining: What the answer says is left; `None` if it does not, or if others
                may have a part in it.
        """
        x = self._settle(served=True)
        if len(self._spans) <= limit:
            return
        sent = (sent for sent, _, served in self._spans if served)
        least = self._least(sent, x[1])
        self._prove(lambda h: _fits(h, least(h), limit + 1))
        if remaining is not None:
            self._learn_room(x, out, limit - remaining)
        self._learn_refusals(limit, out)

    def refused(self, limit: int, out: int, retry_after: float | None) -> None:
        """The one answered last was refused, because of what we have sent alone.

        Args:
            limit: Requests.
            out: Those that are still out.
            retry_after: Seconds until one is served, if the answer says so.
        """
        x = self._settle(served=False)
        self._refusals.append((x, retry_after or 0.0))
        self._learn_refusals(limit, out)

    def test(self, limit: int, out: int) -> Callable[[float], bool]:
        """A function of an instant: whether one more may be sent then.

        It turns from false to true at most once.
        """
        left = self._told or self._proved
        all_of_them = not self._told
        times = sorted(
            answered
            for _, answered, served in self._spans
            if all_of_them or served is not False
        )

        def fits(at: float) -> bool:
            at -= self._cell + self._margin
            return all(
                _fits(h, out + self._estimate(h, at, times), limit) for h in left
            )

        return fits

    def _settle(self, *, served: bool) -> _Span:
        """Note what became of the one answered last."""
        sent, answered, _ = self._spans[-1]
        self._spans[-1] = settled = (sent, answered, served)
        return settled

    def _learn_room(self, x: _Span, out: int, used: int) -> None:
        """Take it that `x` would have been served with a limit of `used`, not below."""
        x_sent, x_answered, _ = x
        before = (
            span[0]
            for span in self._spans
            if span[2] and span is not x and span[1] <= x_sent
        )
        least = self._least(before, x_answered)
        most = self._most(x, out, x_sent, all_of_them=False)
        self._believe(
            lambda h: _fits(h, least(h), used) and not _fits(h, most(h), used - 1)
        )

    def _learn_refusals(self, limit: int, out: int) -> None:
        """Judge the latest refusals by all that is known of the requests beside them.

        As long as one of those is out, its answer may still tell more; for a period at
        most, since what was counted before is forgotten after `REMEMBERED`.
        """
        oldest = self._spans[-1][1] - self._per
        self._refusals = [pair for pair in self._refusals if pair[0][0] >= oldest]
        for x, pause in self._refusals:
            self._learn_refusal(x, pause, limit, out)
        if not out:
            self._refusals.clear()

    def _learn_refusal(self, x: _Span, pause: float, limit: int, out: int) -> None:
        x_sent, x_answered, _ = x
        most = self._most(x, out, x_sent, all_of_them=True)
        self._prove(lambda h: not _fits(h, most(h), limit))
        early = x_sent + max(pause - 1, 0.0)
        most_told = self._most(x, out, early, all_of_them=False)
        self._believe(lambda h: not _fits(h, most_told(h), limit))
        if pause > 1:
            # Whatever was served by then was counted before x: there was no room after.
            before = (
                sent
                for sent, answered, served in self._spans
                if served and answered <= early
            )
            least = self._least(before, x_answered + pause)
            self._believe(lambda h: _fits(h, least(h), limit))

    def _least(self, sent: Iterable[float], at: float) -> Callable[[int], float]:
        times = sorted(time - self._cell for time in sent)
        return lambda h: self._estimate(h, at, times)

    def _most(
        self, x: _Span, out: int, at: float, *, all_of_them: bool
    ) -> Callable[[int], float]:
        times = sorted(
            span[1]
            for span in self._spans
            if span is not x
            and span[0] <= x[1]
            and (all_of_them or span[2] is not False)
        )
        return lambda h: out + self._estimate(h, at - self._cell, times)

    def _estimate(self, hypothesis: int, at: float, times: list[float]) -> float:
        """What the counter takes the last period to hold; `times` ascend."""
        share = (at / self._per - hypothesis / CELLS) % 1
        begin = at - share * self._per
        this = bisect_left(times, begin)
        before = this - bisect_left(times, begin - self._per)
        return len(times) - this + before * (1 - share)

    def _prove(self, agrees: Callable[[int], bool]) -> None:
        proved = _those(agrees, self._proved)
        if proved is not self._proved:
            self._proved = proved
            self._told &= proved

    def _believe(self, agrees: Callable[[int], bool]) -> None:
        self._told = _those(agrees, self._told)


def _fits(hypothesis: int, estimate: float, limit: int) -> bool:
    """Whether one more is taken beside what is estimated."""
    if hypothesis < CELLS:
        return estimate <= limit - 1 + NOISE
    return estimate < limit - NOISE


def _those(agrees: Callable[[int], bool], cells: frozenset[int]) -> frozenset[int]:
    """Those that agree; the same set, if all do."""
    left = frozenset(filter(agrees, cells))
    return left if len(left) < len(cells) else cells


def _with_neighbours(cells: frozenset[int]) -> frozenset[int]:
    """With those beside them, in the circle of phases of their own kind."""
    if cells is ALL:
        return ALL
    return frozenset(
        cell // CELLS * CELLS + (cell + step) % CELLS
        for cell in cells
        for step in (-1, 0, 1)
    )


def _as_digits(cells: frozenset[int]) -> str:
    """A set of hypotheses as a hexadecimal number; empty for all of them."""
    return "" if cells is ALL else f"{sum(1 << cell for cell in cells):x}"


def _as_cells(digits: str) -> frozenset[int]:
    if not digits:
        return ALL
    bits = int(digits, 16)
    return frozenset(cell for cell in ALL if bits >> cell & 1)
