"""Budgets of a client that has a journal: what counts is what the journal knows.

An entry of the journal is checked against them where it is committed. A batch keeps a
journal of its own; its creates count all the same. Each has a *booking* in the client's
journal: reserved before it waits for its permit, spent right before its first byte
leaves, and removed if nothing was charged. One whose process dies in flight stays
booked, like any create in doubt.
"""

from __future__ import annotations

import secrets
import sys
from typing import TYPE_CHECKING, Any

import attrs

from finetuning_async._logging import log_exceptions
from finetuning_async._pacing import ledger_of
from finetuning_async.journal import LATE, Booking

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from finetuning_async._pacing import CreditLimit
    from finetuning_async._session._open_journal import OpenJournal
    from finetuning_async._session._settings import Settings
    from finetuning_async._submission import Submission


class JournalBudgets:
    """The budgets of one create.

    Args:
        settings: Those of its client.
        submission: The create.

    Attributes:
        limits: What they allow.
    """

    def __init__(self, settings: Settings, submission: Submission) -> None:
        found = settings.budgets_for(submission.share)
        given = [(ledger_of(budget), share) for share, budget in found]
        self._ledgers = [ledger for ledger, _ in given if submission.costs_credits]
        self.limits: tuple[CreditLimit, ...] = tuple(
            attrs.evolve(ledger.limit, share=share)
            for ledger, share in given
            if submission.costs_credits
        )

    async def show(self, opened: OpenJournal) -> None:
        """Let the budgets show what the journal counts before the create."""
        for ledger, limit in zip(self._ledgers, self.limits, strict=True):
            usage = await opened.journal.call(opened.journal.store.usage, limit)
            ledger.see(usage.spent, usage.reserved)

    def count(self, submission: Submission) -> None:
        """Let them show what became of it, without another reading."""
        for ledger in self._ledgers if submission.is_charged else ():
            ledger.see_spent()


async def book_and_submit(
    opened: OpenJournal,
    budgets: JournalBudgets,
    submission: Submission,
    submit: Callable[[], Awaitable[Any]],
) -> Any:
    """Send a create whose credit is booked.

    Args:
        opened: The client's journal.
        budgets: The client's.
        submission: The create.
        submit: Sends it.

    Raises:
        BudgetExceededError: A budget does not allow it; nothing was sent.
        JournalError: The journal cannot be used; nothing was sent.
        FinetuningError: As `submit`.
    """
    name, store = f"booking {secrets.token_hex(16)}", opened.journal.store
    reserved = Booking(name=name, share=submission.share, holder=opened.holder)
    spent = attrs.evolve(reserved, holder=None)

    async def book_sent() -> None:
        in_flight = attrs.evolve(spent, delay=LATE)
        await opened.journal.call(store.book, in_flight, budgets.limits)

    def settle() -> None:  # in the journal's thread
        with log_exceptions("booking the credit of a create"):
            if submission.accepted is not None:
                store.book(spent)
            elif not submission.is_charged:
                store.unbook(name)

    submission.before_send = _then(submission.before_send, book_sent)
    await budgets.show(opened)
    async with opened.alive():
        try:
            await opened.journal.call(store.book, reserved, budgets.limits)
            return await submit()
        finally:
            budgets.count(submission)
            # Closed from outside, a coroutine can await nothing; then it stays booked.
            if not isinstance(sys.exception(), GeneratorExit):
                await opened.journal.start(settle).linger()


def _then(
    first: Callable[[], Awaitable[None]] | None, second: Callable[[], Awaitable[None]]
) -> Callable[[], Awaitable[None]]:
    """Both, the second before the first: what it refuses is not recorded as sent."""

    async def both() -> None:
        await second()
        if first is not None:
            await first()

    return both
