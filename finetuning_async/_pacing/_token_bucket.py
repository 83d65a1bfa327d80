"""The leased token bucket: the one idea that keeps a limit under every window.

A bucket holds `limit` tokens. A request takes one when it is sent and gives it back
`per` seconds after its *answer* arrived. In between it is *charged*.

Why no window of `per` seconds can hold more than `limit` requests: the service counts
request i at an instant s_i between its sending a_i and the arrival of its answer b_i;
nothing else about s_i is known, nor needed. Take any window [t - per, t] of the
service. A request counted in it has a_i <= s_i <= t, so it was sent by t. It has also
b_i + per >= s_i + per >= t, so at t its token is not back. Hence every request of the
window is charged at t, and at no time are more than `limit` charged.

So a log of the last `per` seconds refuses nothing; nor does a fixed window, at whatever
instant it begins, for it is such a window. Since nothing is refused, a service that
counts refusals as well sees the same. An interval of length d is covered by
floor(d / per) + 1 windows and thus holds at most limit + limit * d / per requests,
which is what a token bucket of `limit` refilled at `limit / per` allows. Only durations
of the client's own clock are used, so no two clocks need agree.

A textbook bucket, refilled from the moment of sending, lets 2 * limit - 1 through in
one window. What this one does not cover is a sliding counter, which remembers
2 * `per` seconds: see `_sliding_counter`.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from math import inf
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from finetuning_async._pacing._reservation import Reservation


class TokenBucket:
    """Tokens that are leased to requests.

    Args:
        limit: Tokens; at least 1. May be changed while requests are out.
        per: Seconds for which a token stays away after its answer; above 0.
    """

    __slots__ = ("_in_flight", "_returns", "limit", "per")

    def __init__(self, limit: int, per: float) -> None:
        self.limit = limit
        self.per = per
        self._in_flight = 0
        self._returns: deque[float] = deque()  # ascending

    def __repr__(self) -> str:
        return (
            f"<TokenBucket {self.limit} per {self.per:g} s:"
            f" {self._in_flight} in flight, {len(self._returns)} coming back>"
        )

    def to_state(self) -> dict[str, Any]:
        """What it remembers, as JSON; see `from_state`."""
        return {"in_flight": self._in_flight, "returns": list(self._returns)}

    @classmethod
    def from_state(cls, state: dict[str, Any], limit: int, per: float) -> Self:
        """One that remembers what `to_state` told."""
        made = cls(limit, per)
        made._in_flight = state["in_flight"]
        made._returns.extend(state["returns"])
        return made

    def on_sent(self, ticket: Reservation) -> None:
        """A request goes out and takes a token."""
        self._in_flight += 1

    def on_unsent(self, ticket: Reservation, now: float) -> None:
        """No byte of it left: its token is back at once."""
        self._in_flight -= 1

    def on_response(self, ticket: Reservation, now: float) -> None:
        """Its answer is in: its token comes back `per` seconds from now."""
        self._in_flight -= 1
        back = now + self.per
        if self._returns and self._returns[-1] > back:
            insort(self._returns, back)
        else:
            self._returns.append(back)

    def on_abandoned(self, ticket: Reservation, now: float, linger: float) -> None:
        """Nobody waits for its answer any more.

        Its bytes may still arrive, for `linger` seconds (at least 0) as we assume.
        """
        self.on_response(ticket, now + linger)

    def earliest(self, now: float, taken: int = 0) -> float:
        """When the next request may go out.

        Args:
            now: Seconds.
            taken: Tokens that somebody else holds; at least 0.

        Returns:
            `now` or later; `inf` if that depends on an answer still out.
        """
        self._collect(now)
        missing = self._in_flight + len(self._returns) + taken - self.limit
        if missing < 0:
            return now
        return self._returns[missing] if missing < len(self._returns) else inf

    def free(self, now: float) -> int:
        """How many tokens are there; negative after the limit was lowered."""
        self._collect(now)
        return self.limit - self._in_flight - len(self._returns)

    def earliest_behind(self, now: float, ahead: int) -> float:
        """When a newcomer may go out behind `ahead` others who all send.

        A lower bound: a request in flight may turn out unsent, so its token may be back
        at any moment; each further `limit` of them take `per` seconds.
        """
        self._collect(now)
        place = ahead - (self.limit - len(self._returns))
        if place < 0:
            return now
        if place < len(self._returns):
            return self._returns[place]
        rounds = (place - len(self._returns)) // self.limit + 1
        return now + self.per * rounds

    def _collect(self, now: float) -> None:
        returns = self._returns
        while returns and returns[0] <= now:
            returns.popleft()
