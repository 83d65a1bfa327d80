"""Ask before rushing: how many more the service is known to take.

An answer that says ``X-RateLimit-Remaining: r`` proves that r more were free when it
was counted. Those that may have been counted after it are the ones that were unanswered
when it was *sent*, and those sent since; the rest of r is credit, and each request
spends one. Answers overtake each other, so each is such a proof of its own, and the
best one holds: nobody but us takes from the budget, or `_somebody_else` notices.

While there is no credit, one request goes out and the rest wait for what its answer
says. After some seconds without one, one more goes, and so on. So a program that starts
again within a used-up minute earns one 429 and not ten, and a burst leaves in full one
round trip after the first of it. A credit lasts one period: after that, others may have
come. Once a request that there was room for is refused, the header counts something
else (a sliding counter may tell of its current window only) and gives no more credit.

Where no such header is sent, an answer proves only itself. So the first `SINGLY` go one
at a time, each after the answer of the one before; then the rest at once, with endless
credit. After a refusal it begins anew. A restart in a minute of which 7 of 10 are used
up thus earns one 429 and not seven, for three round trips; all ten would cost nine. Who
has met somebody else so is wary: on a sliding counter those weigh for another minute,
and nothing tells how much. Then all go one at a time, until that is settled.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from finetuning_async._pacing._reservation import Reservation

PATIENCE = 5 / 60
"""Share of a period to wait for an answer before one more request asks: 5 s."""

SINGLY = 4
"""Answers without headers until the rest goes out at once. With a fifth, 60 requests
take 13 % longer than they need on a fixed window, even without a margin."""


class RemainingCredit:
    """Credit, proved by answers.

    Args:
        per: The period, in seconds; above 0.

    Attributes:
        was_refused: Whether nothing was sent since a refusal.
    """

    __slots__ = (
        "_credit",
        "_expires",
        "_hears",
        "_in_flight",
        "_last_number",
        "_last_sent_at",
        "_per",
        "_silent",
        "_was_misled",
        "was_refused",
    )

    def __init__(self, per: float) -> None:
        self._per = per
        self._credit = 0.0
        self._expires = -inf
        self._hears = False
        self._in_flight = 0
        self._last_number = 0  # of the request sent last, and when that was
        self._last_sent_at = -inf
        self._silent = 0  # answers without headers since the last refusal
        self._was_misled = False
        self.was_refused = False

    def __repr__(self) -> str:
        return f"<FirstNews: credit {self._credit:g} until {self._expires:.3f}>"

    def to_state(self) -> dict[str, Any]:
        """What it remembers, as JSON; see `from_state`."""
        return {
            "credit": self._credit,
            "expires": self._expires,
            "hears": self._hears,
            "in_flight": self._in_flight,
            "last_number": self._last_number,
            "last_sent_at": self._last_sent_at,
            "silent": self._silent,
            "was_misled": self._was_misled,
            "was_refused": self.was_refused,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any], per: float) -> Self:
        """One that remembers what `to_state` told."""
        made = cls(per)
        made._credit, made._expires = state["credit"], state["expires"]
        made._hears, made._in_flight = state["hears"], state["in_flight"]
        made._last_number = state["last_number"]
        made._last_sent_at = state["last_sent_at"]
        made._silent, made._was_misled = state["silent"], state["was_misled"]
        made.was_refused = state["was_refused"]
        return made

    @property
    def has_headers(self) -> bool:
        """Whether answers say what is left."""
        return self._hears

    def on_sent(self, ticket: Reservation) -> None:
        """A request goes out."""
        self._in_flight += 1
        ticket.on_credit = 1 <= self.credit(ticket.sent_at) < inf
        self._credit -= 1
        self._last_number, self._last_sent_at = ticket.number, ticket.sent_at
        self.was_refused = False

    def on_unsent(self, ticket: Reservation, now: float) -> None:
        """No byte of it left."""
        self._in_flight -= 1

    def on_abandoned(self, ticket: Reservation, now: float) -> None:
        """Its answer will not be read."""
        self._in_flight -= 1

    def on_response(
        self,
        ticket: Reservation,
        now: float,
        remaining: int | None,
        *,
        wary: bool = False,
    ) -> None:
        """Its answer is in.

        Args:
            ticket: Of the request.
            now: Seconds.
            remaining: What it says is left, if it does.
            wary: Whether an answer that does not say proves only itself, however many
                there were.
        """
        self._in_flight -= 1
        if remaining is None and self._hears:
            return  # some answer from in front of the service: no news
        if remaining is None:
            self._silent += 1
            if wary or self._silent < SINGLY:
                return
        self._hears = remaining is not None
        if now >= self._expires:
            self._credit = -inf
        self._credit = max(self._credit, self._proved(ticket, remaining))
        self._expires = max(self._expires, ticket.sent_at + self._per)

    def on_refused(self, ticket: Reservation | None = None) -> None:
        """A 429 says that there was no room at all.

        Args:
            ticket: Of what was refused, if it took from this budget.
        """
        if ticket is not None and ticket.on_credit:
            self._was_misled = True
        self.forget()
        self.was_refused = True

    def forget(self) -> None:
        """What was heard may be out of date: ask again before rushing."""
        self._credit, self._expires, self._silent = 0.0, -inf, 0

    def credit(self, now: float) -> float:
        """How many more are known to be taken; may be negative or `inf`."""
        return self._credit if now < self._expires else 0.0

    def is_fresh(self, now: float) -> bool:
        """Whether something was heard within the last period."""
        return now < self._expires

    def earliest(self, now: float) -> float:
        """When the next request may go out: `now` or later."""
        if self.credit(now) >= 1 or self._in_flight == 0:
            return now
        return self.next_probe(now)

    def next_probe(self, now: float) -> float:
        """When the last request has been waited for long enough: `now` or later."""
        return max(now, self._last_sent_at + self._per * PATIENCE)

    def _proved(self, ticket: Reservation, remaining: int | None) -> float:
        if remaining is None:
            return inf
        if self._was_misled:
            return 0.0
        sent_since = max(self._last_number - ticket.number, 0)
        return remaining - ticket.others_in_flight - sent_since
