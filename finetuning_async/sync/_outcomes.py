"""`generate_many` and `resume_all`: a ``with`` block of outcomes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Self, cast

from finetuning_async._api import Outcome
from finetuning_async._errors import ClientClosedError
from finetuning_async.sync._iterators import END, next_of

if TYPE_CHECKING:
    from types import TracebackType

    from finetuning_async._resources import Outcomes as AsyncOutcomes
    from finetuning_async.sync._call import Block
    from finetuning_async.sync._portal import Portal


class Outcomes(Iterator[Outcome]):
    """The outcomes of many requests, as they end; see `Client.generate_many`.

    Callbacks run, and requests that are no list are read, while a thread waits for the
    next outcome: so a long body of the loop delays them.

    Example:
        requests = [GenerationRequest(f"{mood} piano") for mood in ("calm", "bright")]
        with client.generate_many(requests) as outcomes:
            for outcome in outcomes:
                print(outcome.request.prompt, outcome.error or outcome.generation)
                break  # the service goes on with the other one
        print(outcomes.pending)
        for outcome in outcomes.in_doubt:
            print(outcome.error)  # it may have been charged: says what to look for
    """

    def __init__(self, portal: Portal, block: Block, outcomes: AsyncOutcomes) -> None:
        self._portal = portal
        self._block = block
        self._outcomes = outcomes
        self._was_entered = False

    def __repr__(self) -> str:
        return repr(self._outcomes)

    @property
    def pending(self) -> tuple[str, ...]:
        """The ids of accepted tracks whose outcome has not been yielded."""
        return self._outcomes.pending

    @property
    def in_doubt(self) -> tuple[Outcome, ...]:
        """The outcomes of creates that may have been charged, with no track known.

        Each has a `SubmissionUnknownError`. After a block that was left early, they
        include the creates that were in flight or being looked up; these outcomes are
        also yielded if the iteration continues.
        """
        return self._outcomes.in_doubt

    def __enter__(self) -> Self:
        self._portal.check_same(self._block.thread)
        self._block.enter(self._outcomes)
        self._was_entered = True
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with suppress(ClientClosedError):  # that has ended it
            self._block.leave(exc_type, exc, traceback)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Outcome:
        """Wait for the next outcome.

        Raises:
            Exception: An exception of the source of the requests or of a callback; it
                comes after the outcomes of all that was submitted before.
        """
        if not self._was_entered:
            raise RuntimeError(
                "outcomes come in a block; write"
                " `with client.generate_many(...) as outcomes`"
            )
        self._portal.check_same(self._block.thread)
        outcome = self._block.run(next_of(self._outcomes))
        if outcome is END:
            raise StopIteration
        return cast("Outcome", outcome)
