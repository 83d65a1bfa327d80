"""`Budget`: how many credits may be spent, in all or in any `per` seconds.

A client without a journal counts in its `Budget`. One with a journal does not: its
entries are what was spent, and each of them is checked against the limit in the
transaction that commits it (see `journal`).
"""

from __future__ import annotations

from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Final

from finetuning_async._api import number, whole_number
from finetuning_async._errors import InvalidRequestError
from finetuning_async._pacing._credit_limit import CreditCount, CreditLimit
from finetuning_async._runtime import LoopHandle, machine_now

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

LARGEST: Final = 2**53
"""Credits; more than any account has, and exact in every database."""


class CreditLedger:
    """What the clients of one `Budget` count in, from any thread.

    Args:
        limit: Its rule.

    Attributes:
        limit: As given.
    """

    def __init__(self, limit: CreditLimit) -> None:
        self.limit = limit
        self._count = CreditCount(limit)
        self._seen: tuple[int, int] | None = None
        self._lock = Lock()

    def reserve(self) -> None:
        """Reserve a credit.

        Raises:
            BudgetExceededError: None is left.
        """
        with self._lock:
            self._count.reserve(_now())

    def settle(self, *, is_charged: bool) -> None:
        """Count a reserved credit as spent, or return it."""
        with self._lock:
            self._count.settle(_now(), is_charged=is_charged)

    def see(self, spent: int, reserved: int) -> None:
        """Take over the numbers of a journal."""
        with self._lock:
            self._seen = spent, reserved

    def see_spent(self) -> None:
        """Take note of one credit more that a journal has counted since."""
        with self._lock:
            if self._seen is not None:
                spent, reserved = self._seen
                self._seen = spent + 1, reserved

    def numbers(self) -> tuple[int, int]:
        """Credits spent, and reserved."""
        with self._lock:
            if self._seen is not None:
                return self._seen
            return self._count.spent(_now()), self._count.reserved


class Budget:
    """The most credits that may be spent, in all or in any `per` seconds.

    Of a client, or of a view for one share:

        daily = Budget(100, per=86_400)
        async with AsyncClient(budget=daily, journal="tracks.db") as client:
            guest = client.with_options(share="guest-7", budget=Budget(3))
            await guest.generate("rain")
            print(daily.spent, "spent,", daily.remaining, "left")

    A create that it does not allow raises `BudgetExceededError`, and nothing is sent. A
    credit is reserved when a create is called, and returned if nothing was charged: it
    was refused, timed out or was cancelled before its first byte left. Accepted creates
    count as spent, those in doubt too, and those whose track failed, even if the
    service gives that credit back. Sound effects cost nothing.

    Without a journal it counts what goes through this object, in any event loop or
    thread of the process. So keep it as long as it is to hold: a new `Budget` for each
    call allows each of them. With a journal it holds across restarts and processes: all
    entries of the account count, or of the share if it was given for one, whoever made
    them and with whichever budget, and those that were forgotten too.

    Args:
        credits: The most that may be spent, at least 1.
        per: Seconds, above 0; `None` for no period: then it is spent once.

    Raises:
        InvalidRequestError: A number is out of its range.
    """

    def __init__(self, credits: int, *, per: float | None = None) -> None:
        count = whole_number(credits)
        if count is None or not 1 <= count <= LARGEST:
            allowed = "a whole number of credits from 1 to 2^53"
            raise InvalidRequestError("credits", credits, allowed)
        self._ledger = CreditLedger(CreditLimit(count, _checked_period(per)))

    def __repr__(self) -> str:
        per = "" if self.per is None else f", per={self.per:g}"
        return f"<Budget({self.credits}{per}) {self.spent} spent>"

    @property
    def credits(self) -> int:
        """The most that may be spent."""
        return self._ledger.limit.credits

    @property
    def per(self) -> float | None:
        """In any so many seconds; `None` for in all."""
        return self._ledger.limit.per

    @property
    def spent(self) -> int:
        """Credits that are spent and count now.

        With a journal this is as of the last create of this object's clients.
        """
        return self._ledger.numbers()[0]

    @property
    def reserved(self) -> int:
        """Credits reserved for creates whose call has not ended; likewise."""
        return self._ledger.numbers()[1]

    @property
    def remaining(self) -> int:
        """Credits that are neither spent nor reserved; likewise."""
        return max(self.credits - sum(self._ledger.numbers()), 0)


def ledger_of(budget: Budget) -> CreditLedger:
    """Where a budget counts."""
    return budget._ledger  # noqa: SLF001 - of this file


@contextmanager
def reserved_credit(
    budgets: Iterable[Budget], is_charged: Callable[[], bool]
) -> Generator[None]:
    """Reserve a credit of each budget while the block runs.

    Args:
        budgets: One may be among them twice; one credit of it is reserved.
        is_charged: Says at the end whether the credit was spent, or may have been.

    Raises:
        BudgetExceededError: One of them has none left.
    """
    taken: list[CreditLedger] = []
    try:
        for ledger in map(ledger_of, budgets):
            if ledger not in taken:
                ledger.reserve()
                taken.append(ledger)
        yield
    finally:
        for ledger in taken:
            ledger.settle(is_charged=is_charged())


def _now() -> float:
    """The machine's clock as the running loop shows it, so that a test's may jump."""
    try:
        handle = LoopHandle.current()
    except RuntimeError:  # no loop runs
        return machine_now()
    return handle.now() - (handle.offset or 0.0)


def _checked_period(per: object) -> float | None:
    if per is None:
        return None
    seconds = number(per)
    if seconds is None or seconds <= 0:
        allowed = "a number of seconds, above 0 and finite, or None"
        raise InvalidRequestError("per", per, allowed)
    return float(seconds)
