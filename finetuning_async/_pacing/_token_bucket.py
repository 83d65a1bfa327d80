"""The leased token bucket: the one idea that keeps every window below the limit.

A bucket holds `limit` tokens. A request takes one when it is sent and returns it `per`
seconds after its *response* arrived. In between, the token is *leased*.

Why no window of `per` seconds holds more than `limit` requests: the service counts
request i at an instant s_i between its sending a_i and the arrival of its response b_i.
Nothing else about s_i is known, and nothing else is needed. Take any window
[t - per, t] of the service. A request counted in it has a_i <= s_i <= t, so it was sent
by t. It also has b_i + per >= s_i + per >= t, so at t its token is not back. Hence
every request of the window holds a token at t, and there are only `limit` of them.

So a service that keeps a log of the last `per` seconds refuses nothing. Neither does
one with fixed windows, whenever they begin, since each of them is such a window. As
nothing is refused, a service that counts refused requests too sees the same. An
interval of length d is covered by floor(d / per) + 1 windows and thus holds at most
limit + limit * d / per requests, which is what a token bucket of `limit` refilled at
`limit / per` allows. Only durations of the client's own clock are used, so that no two
clocks need to agree.

A textbook bucket, refilled from the moment of sending, lets 2 * limit - 1 requests
through in one window. What the leased bucket does not cover is a sliding counter, which
remembers 2 * `per` seconds: see `_sliding_window_counter`.
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
        limit: Number of tokens, at least 1. May be changed while requests are in
            flight.
        per: Seconds from a response until its token is back, above 0.
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
        """Return what it remembers as JSON; see `from_state`."""
        return {"in_flight": self._in_flight, "returns": list(self._returns)}

    @classmethod
    def from_state(cls, state: dict[str, Any], limit: int, per: float) -> Self:
        """Restore what `to_state` returned."""
        made = cls(limit, per)
        made._in_flight = state["in_flight"]
        made._returns.extend(state["returns"])
        return made

    def on_sent(self, reservation: Reservation) -> None:
        """A request is sent and takes a token."""
        self._in_flight += 1

    def on_unsent(self, reservation: Reservation, now: float) -> None:
        """No byte of it was sent: its token is back at once."""
        self._in_flight -= 1

    def on_response(self, reservation: Reservation, now: float) -> None:
        """Its response arrived: its token comes back `per` seconds from now."""
        self._in_flight -= 1
        back = now + self.per
        if self._returns and self._returns[-1] > back:  # after a long `linger`
            insort(self._returns, back)
        else:
            self._returns.append(back)

    def on_abandoned(self, reservation: Reservation, now: float, linger: float) -> None:
        """Its response will not be read.

        The service may still count it for `linger` seconds (at least 0), as long as its
        bytes may arrive.
        """
        self.on_response(reservation, now + linger)

    def earliest(self, now: float, taken: int = 0) -> float:
        """When the next request may go out.

        Args:
            now: Seconds.
            taken: Tokens that others hold; at least 0.

        Returns:
            `now` or later; `inf` if that depends on a response still in flight.
        """
        self._collect(now)
        # One token more than this must come back before the next request may go.
        missing = self._in_flight + len(self._returns) + taken - self.limit
        if missing < 0:
            return now
        return self._returns[missing] if missing < len(self._returns) else inf

    def free(self, now: float) -> int:
        """Number of free tokens; negative after the limit was lowered."""
        self._collect(now)
        return self.limit - self._in_flight - len(self._returns)

    def earliest_behind(self, now: float, ahead: int) -> float:
        """When a new request may go out behind `ahead` others that are all sent.

        A lower bound: a request in flight may turn out not to have been sent, so that
        its token may be back at any moment. Each further `limit` requests take `per`
        seconds.
        """
        self._collect(now)
        # Place in the sequence of tokens that come back; below 0, one is free now.
        place = ahead - (self.limit - len(self._returns))
        if place < 0:
            return now
        if place < len(self._returns):
            return self._returns[place]
        rounds = (place - len(self._returns)) // self.limit + 1
        return now + self.per * rounds

    def token_times(self, now: float) -> list[float]:
        """When each token is back, if the requests in flight are answered now."""
        self._collect(now)
        times = [*self._returns, *[now + self.per] * self._in_flight]
        free = [now] * (self.limit - len(times))
        return free + times[max(len(times) - self.limit, 0) :]

    def _collect(self, now: float) -> None:
        returns = self._returns
        while returns and returns[0] <= now:
            returns.popleft()
