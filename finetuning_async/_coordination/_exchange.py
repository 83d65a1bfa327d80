"""An exchange with a book that is kept as a text.

turn_page    from one text to the next; pure
BookStore    exchanges with a store that keeps the text
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Final

from finetuning_async._coordination._shared_ledger import SharedLedger

if TYPE_CHECKING:
    import random

    from finetuning_async._coordination._exchange_messages import (
        ExchangeReply,
        WaitingRequest,
    )
    from finetuning_async._coordination._store_protocol import StateStore

logger = logging.getLogger("finetuning_async")

NAME: Final = "limits"
"""Of the book, among the states of an account."""

UNREADABLE: Final = (
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)
"""What a text raises that is no book."""

MOST_SAID: Final = 200
"""Characters of such an error, in the log."""


def apply_exchange(
    text: str | None, request: WaitingRequest, *, now: float, rng: random.Random
) -> tuple[str, ExchangeReply]:
    """One exchange with a book that is kept as a text.

    Args:
        text: What was written last; `None` if nothing was. What cannot be read counts
            as nothing.
        request: What a process says.
        now: Seconds of the store's own clock, which must not be another one next time.
        rng: Where jitter and the name of a new book come from.

    Returns:
        The text to write, and what to answer.
    """
    if text is not None:
        try:
            book = SharedLedger.from_state(json.loads(text), request.limits, rng)
            book.check_holds(now)
            return _turned(text, book, request, now)
        except UNREADABLE as error:
            logger.warning(
                "what was kept of the rate limits cannot be read (%s: %s); it begins"
                " anew",
                type(error).__name__,
                str(error)[:MOST_SAID],
            )
    book = SharedLedger(request.limits, rng, f"{rng.getrandbits(64):016x}")
    return _turned("", book, request, now)


def _turned(
    text: str, book: SharedLedger, request: WaitingRequest, now: float
) -> tuple[str, ExchangeReply]:
    """The text it was, if nothing happened; of forty that wait few so write."""
    reply = book.exchange(request, now)
    is_quiet = not request.notes and book.is_announced(request, reply, now)
    if is_quiet and _written(book) == text:
        return text, reply
    book.announce(request, reply, now)
    return _written(book), reply


def _written(book: SharedLedger) -> str:
    return json.dumps(book.to_state(), separators=(",", ":"))


class LedgerStore:
    """The book of an account as a `Store`.

    Args:
        states: Where its text is kept.
        rng: Where jitter and the name of a new book come from.
    """

    def __init__(self, states: StateStore, rng: random.Random) -> None:
        self._states = states
        self._rng = rng

    async def exchange(self, request: WaitingRequest) -> ExchangeReply:
        """As `Store.exchange`.

        Raises:
            Exception: Any; see `StateStore.update`.
        """

        def step(text: str | None, now: float) -> tuple[str, ExchangeReply]:
            return apply_exchange(text, request, now=now, rng=self._rng)

        return await self._states.update(NAME, step)
