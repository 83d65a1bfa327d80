"""One exchange with the ledger of an account, which a store keeps as text.

apply_exchange     from one text to the next; pure
LedgerExchanger    does so in a store
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
        ExchangeRequest,
    )
    from finetuning_async._coordination._store_protocol import StateStore

logger = logging.getLogger("finetuning_async")

NAME: Final = "limits"
"""The name of the ledger among the states of an account."""

UNREADABLE: Final = (
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)
"""What a text that is not a ledger raises."""

MAX_ERROR_LENGTH: Final = 200
"""Characters of such an error in the log."""


def apply_exchange(
    text: str | None, request: ExchangeRequest, *, now: float, rng: random.Random
) -> tuple[str, ExchangeReply]:
    """Apply one exchange to the text of a ledger.

    Args:
        text: What was written last; `None` if nothing was. A text that cannot be read
            counts as none.
        request: What a process sends.
        now: Seconds of the store's clock; each exchange has to use the same clock.
        rng: Where jitter and the epoch of a new ledger come from.

    Returns:
        The text to write, and the reply.
    """
    if text is not None:
        try:
            ledger = SharedLedger.from_state(json.loads(text), request.limits, rng)
            ledger.check_holds(now)
            # Within the `try`: a damaged value may raise only once it is used.
            return _apply(text, ledger, request, now)
        except UNREADABLE as error:
            logger.warning(
                "the stored rate limits could not be read (%s: %s); starting with an"
                " empty ledger",
                type(error).__name__,
                str(error)[:MAX_ERROR_LENGTH],
            )
    ledger = SharedLedger(request.limits, rng, f"{rng.getrandbits(64):016x}")
    return _apply("", ledger, request, now)


def _apply(
    text: str, ledger: SharedLedger, request: ExchangeRequest, now: float
) -> tuple[str, ExchangeReply]:
    """Return the text unchanged if nothing happened, so that nothing is written."""
    reply = ledger.exchange(request, now)
    # The visit itself is written only when it has to be, about once a second. Of forty
    # processes that wait, each exchanging four times a second, few then write.
    is_quiet = not request.reports and ledger.is_visit_recorded(request, reply, now)
    if is_quiet and _dump(ledger) == text:
        return text, reply
    ledger.record_visit(request, reply, now)
    return _dump(ledger), reply


def _dump(ledger: SharedLedger) -> str:
    return json.dumps(ledger.to_state(), separators=(",", ":"))


class LedgerExchanger:
    """The ledger of an account in a store, as an `Exchanger`.

    Args:
        states: Where its text is kept.
        rng: Where jitter and the epoch of a new ledger come from.
    """

    def __init__(self, states: StateStore, rng: random.Random) -> None:
        self._states = states
        self._rng = rng

    async def exchange(self, request: ExchangeRequest) -> ExchangeReply:
        """As `Exchanger.exchange`.

        Raises:
            Exception: Any; see `StateStore.update`.
        """

        def step(text: str | None, now: float) -> tuple[str, ExchangeReply]:
            return apply_exchange(text, request, now=now, rng=self._rng)

        return await self._states.update(NAME, step)
