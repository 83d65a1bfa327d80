"""Tracks without vocals: `client.instrumentals`."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from finetuning_async._api import InstrumentalRequest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from finetuning_async._api import Generation
    from finetuning_async._session import Session
    from finetuning_async._types import OnUnknown


class Instrumentals:
    """Instrumentals: ``client.instrumentals``. They are read like other generations.

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
        on_unknown: OnUnknown = "raise",
        on_submitted: Callable[[Generation], Awaitable[None] | None] | None = None,
        validate: bool = True,
        timeout: float | None = None,
        max_retries: int | None = None,
    ) -> Generation:
        """Start one instrumental. Costs one credit.

        No source says which budget it takes from; until an answer tells, it takes a
        turn of both.

        Args:
            prompt: What it shall sound like.
            duration: 30 to 210 seconds; the service snaps it to steps of 15.
            enhance: Whether the service may expand the prompt.
            seed: 0 to 2^31-1; drawn at random when not given.
            webhook: Where the end is announced, an ``https`` URL.
            on_unknown: As for `Generations.create`.
            on_submitted: As for `Generations.create`.
            validate: Whether the parameters are checked here first.
            timeout: Seconds for all of it; `None` for no limit.
            max_retries: How often a failed attempt is repeated, at least 0; `None` for
                the client's own number.

        Returns:
            The track as accepted; `changed_by_service` tells a snapped duration.

        Raises:
            FinetuningError: As for `Generations.create`.
        """
        request = InstrumentalRequest(
            prompt, duration=duration, enhance=enhance, seed=seed, webhook=webhook
        )
        # Its query is a secret, and a traceback may show the locals of this frame.
        del webhook
        session = self._session()
        order = session.new_submission(
            request,
            validate=validate,
            on_unknown=on_unknown,
            on_submitted=on_submitted,
            max_retries=max_retries,
        )
        return cast("Generation", await session.submit(order, timeout))
