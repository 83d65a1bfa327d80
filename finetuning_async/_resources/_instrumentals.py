"""Tracks without vocals: `client.instrumentals`."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from finetuning_async._api import InstrumentalRequest
from finetuning_async._resources._other_names import NamesOurs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from finetuning_async._api import Generation
    from finetuning_async._events import CreateWaiting
    from finetuning_async._session import Session
    from finetuning_async._types import OnUnknown, Priority


class Instrumentals(NamesOurs):
    """Tracks without vocals: ``client.instrumentals``.

    Get, list and delete them with ``client.generations``.

    Example:
        track = await client.instrumentals.create("strings, slow", duration=45)
        track = await client.wait_for_completion(track)
    """

    def __init__(self, session: Callable[[], Session]) -> None:
        self._session = session

    async def create(
        self,
        prompt: str,
        *,
        duration: int | None = None,
        enhance: bool = True,
        seed: int | None = None,
        webhook: str | None = None,
        idempotency_key: str | None = None,
        on_unknown: OnUnknown = "raise",
        on_submitted: Callable[[Generation], Awaitable[None] | None] | None = None,
        validate: bool = True,
        timeout: float | None = None,
        max_retries: int | None = None,
        priority: Priority | None = None,
        share: str | None = None,
        max_wait: float | None = None,
        on_waiting: Callable[[CreateWaiting], object] | None = None,
    ) -> Generation:
        """Start one instrumental. Costs one credit.

        No source says which rate limit it counts against: until a response shows it,
        each create takes a permit of both budgets.

        Args:
            prompt: What it should sound like.
            duration: 30 to 210 seconds, rounded to a multiple of 15 by the service;
                `None` lets it choose.
            enhance: Whether the service may expand the prompt.
            seed: 0 to 2^31-1; random by default.
            webhook: An ``https`` URL that the service calls when the track ends.
            idempotency_key: Calls with the same key get one track; 1 to 255 characters;
                needs a `journal`; see `Generations`.
            on_unknown: ``raise`` or ``resubmit`` a lost create; see `Generations`.
            on_submitted: Called with the accepted track, even in a cancelled call.
            validate: Whether to check the parameters before sending them.
            timeout: Seconds for the whole call, waiting for the rate limit and for a
                free slot in the service's queue included; `None` for no limit.
            max_retries: How often a failed attempt is retried, at least 0; `None` for
                the client's number.
            priority: ``high``, ``normal`` or ``low``; `None` for the client's.
            share: For whom it is; `None` for the client's.
            max_wait: Seconds to wait for the rate limit and the queue, or
                `CapacityError`; `None` for the client's.
            on_waiting: A plain function, called with `CreateWaiting` while it waits.

        Returns:
            The accepted track; its `changed_by_service` shows a rounded duration.

        Raises:
            FinetuningError: As for `Generations.create`.
        """
        request = InstrumentalRequest(
            prompt,
            duration=duration,
            enhance=enhance,
            seed=seed,
            webhook=webhook,
            idempotency_key=idempotency_key,
        )
        del webhook  # its query is a secret, and a traceback may show this frame
        session = self._session()
        submission = session.new_submission(
            request,
            validate=validate,
            on_unknown=on_unknown,
            on_submitted=on_submitted,
            max_retries=max_retries,
            priority=priority,
            share=share,
            max_wait=max_wait,
            on_waiting=on_waiting,
        )
        return cast("Generation", await session.create(submission, timeout))
