"""Probe before a burst: how many more requests the service is known to accept.

A response with ``X-RateLimit-Remaining: r`` proves that r more requests were free when
it was counted. Those that the service may have counted after it are the requests that
were in flight when it was *sent*, and those sent since. What is left of r is *credit*,
and each request spends one. Responses overtake each other, so each of them is a proof
of its own, and the one that proves most holds. This assumes that no other client uses
the account; if one does, `_foreign_usage` notices.

Without credit, one request goes out as a probe, and the rest wait for its response.
If none arrives within some seconds, another probe goes, and so on. So a program that is
restarted within a used-up minute earns one 429 instead of ten, and a burst leaves in
full one round trip after its first request. Credit lasts one period; after that, other
clients may have come. If a request that had credit is refused, the header counts
something else (a sliding counter may report its current window only), and headers give
no credit from then on.

A service that sends no such header gives no number, and a response proves only that its
own request was accepted. So the first `SINGLE_PROBES` requests go one at a time, each
after the response to the one before; then all the rest go at once, with infinite
credit. After a refusal this starts again. A restart in a minute of which 7 of 10 are
used up thus earns one 429 instead of seven, at the price of three round trips; sending
all ten singly would cost nine. A client that has seen foreign usage in this way keeps
sending one at a time: on a sliding counter, those requests count for another minute,
and nothing shows how much. It does so until the kind of the service is settled.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from finetuning_async._pacing._reservation import Reservation

PROBE_TIMEOUT = 5 / 60
"""How long to wait for a response before the next probe, as a share of the period: 5 s
of a minute."""

SINGLE_PROBES = 4
"""Responses without headers after which the rest goes at once. With a fifth, 60
requests take 13 % longer than necessary on a fixed window, even without a margin."""


class RemainingCredit:
    """Credit that responses have proved.

    Args:
        per: Period in seconds, above 0.

    Attributes:
        was_refused: Whether nothing was sent since a refusal.
    """

    __slots__ = (
        "_credit",
        "_expires",
        "_has_headers",
        "_headerless",
        "_in_flight",
        "_last_number",
        "_last_sent_at",
        "_per",
        "_was_misled",
        "was_refused",
    )

    def __init__(self, per: float) -> None:
        self._per = per
        self._credit = 0.0
        self._expires = -inf
        self._has_headers = False
        self._in_flight = 0
        self._last_number = 0  # of the request sent last, and when that was
        self._last_sent_at = -inf
        self._headerless = 0  # responses without headers since the last refusal
        self._was_misled = False  # a request with credit was refused
        self.was_refused = False

    def __repr__(self) -> str:
        return f"<RemainingCredit {self._credit:g} until {self._expires:.3f}>"

    def to_state(self) -> dict[str, Any]:
        """Return what it remembers as JSON; see `from_state`."""
        # The keys are those of the stored form: they stay when a name changes.
        return {
            "credit": self._credit,
            "expires": self._expires,
            "hears": self._has_headers,
            "in_flight": self._in_flight,
            "last_number": self._last_number,
            "last_sent_at": self._last_sent_at,
            "silent": self._headerless,
            "was_misled": self._was_misled,
            "was_refused": self.was_refused,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any], per: float) -> Self:
        """Restore what `to_state` returned."""
        made = cls(per)
        made._credit, made._expires = state["credit"], state["expires"]
        made._has_headers, made._in_flight = state["hears"], state["in_flight"]
        made._last_number = state["last_number"]
        made._last_sent_at = state["last_sent_at"]
        made._headerless, made._was_misled = state["silent"], state["was_misled"]
        made.was_refused = state["was_refused"]
        return made

    @property
    def has_headers(self) -> bool:
        """Whether responses say what is left."""
        return self._has_headers

    def on_sent(self, reservation: Reservation) -> None:
        """A request is sent and spends one credit."""
        self._in_flight += 1
        reservation.on_credit = 1 <= self.amount(reservation.sent_at) < inf
        self._credit -= 1
        self._last_number = reservation.number
        self._last_sent_at = reservation.sent_at
        self.was_refused = False

    def on_unsent(self, reservation: Reservation, now: float) -> None:
        """No byte of it was sent.

        Its credit stays spent: a lower number than the truth only costs a probe.
        """
        self._in_flight -= 1

    def on_abandoned(self, reservation: Reservation, now: float) -> None:
        """Its response will not be read."""
        self._in_flight -= 1

    def on_response(
        self,
        reservation: Reservation,
        now: float,
        remaining: int | None,
        *,
        one_at_a_time: bool = False,
    ) -> None:
        """Its response arrived.

        Args:
            reservation: Of the request.
            now: Seconds.
            remaining: How many more it says are free; `None` if it does not say.
            one_at_a_time: Whether a response without a header gives no credit, however
                many of them there were.
        """
        self._in_flight -= 1
        if remaining is None and self._has_headers:
            return  # a response of something before the service, such as a proxy
        if remaining is None:
            self._headerless += 1
            if one_at_a_time or self._headerless < SINGLE_PROBES:
                return
        self._has_headers = remaining is not None
        if now >= self._expires:
            self._credit = -inf  # what was proved before is out of date
        self._credit = max(self._credit, self._proven_credit(reservation, remaining))
        # The proof is as old as the request: it may have been counted when it was sent.
        self._expires = max(self._expires, reservation.sent_at + self._per)

    def on_refused(self, reservation: Reservation | None = None) -> None:
        """A 429 shows that there was no room at all.

        Args:
            reservation: Of the refused request, if it took from this rate budget.
        """
        if reservation is not None and reservation.on_credit:
            self._was_misled = True
        self.forget()
        self.was_refused = True

    def forget(self) -> None:
        """Forget all credit, which may be out of date: probe before the next burst."""
        self._credit, self._expires, self._headerless = 0.0, -inf, 0

    def amount(self, now: float) -> float:
        """Requests that are known to be accepted; may be negative or `inf`."""
        return self._credit if now < self._expires else 0.0

    def is_fresh(self, now: float) -> bool:
        """Whether anything was learned within the last period."""
        return now < self._expires

    def earliest(self, now: float) -> float:
        """When the next request may go out: `now` or later."""
        if self.amount(now) >= 1 or self._in_flight == 0:
            return now
        return self.next_probe(now)

    def next_probe(self, now: float) -> float:
        """When the last request has been in flight for long enough: `now` or later."""
        return max(now, self._last_sent_at + self._per * PROBE_TIMEOUT)

    def _proven_credit(self, reservation: Reservation, remaining: int | None) -> float:
        """How many more requests one response proves to be accepted."""
        if remaining is None:
            return inf
        if self._was_misled:
            return 0.0
        # The service may have counted all of these after it wrote the header.
        sent_since = max(self._last_number - reservation.number, 0)
        return remaining - reservation.others_in_flight - sent_since
