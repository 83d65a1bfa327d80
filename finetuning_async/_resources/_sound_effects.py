"""Sound effects: `client.sound_effects`."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from finetuning_async._api import Call, SoundEffectRequest, parsing
from finetuning_async._resources._common import (
    DEFAULT_PAGE,
    READ_TIMEOUT,
    Listing,
    list_query,
    path_segment,
)
from finetuning_async._resources._other_names import NamesOurs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from finetuning_async._api import Page, SoundEffect
    from finetuning_async._events import CreateWaiting
    from finetuning_async._session import Session
    from finetuning_async._types import Priority, Status


class SoundEffects(NamesOurs):
    """Sound effects: ``client.sound_effects``.

    Example:
        effect = await client.sound_effects.create("a door creaks", duration=2)
        effect = await client.sound_effects.get(effect.id)
        async for other in client.sound_effects.list(status="completed"):
            print(other.prompt, other.audio_url)
    """

    def __init__(self, session: Callable[[], Session]) -> None:
        self._session = session

    async def create(
        self,
        prompt: str,
        *,
        duration: float | None = None,
        enhance: bool = True,
        webhook: str | None = None,
        idempotency_key: str | None = None,
        on_submitted: Callable[[SoundEffect], Awaitable[None] | None] | None = None,
        validate: bool = True,
        timeout: float | None = None,
        max_retries: int | None = None,
        priority: Priority | None = None,
        share: str | None = None,
        max_wait: float | None = None,
        on_waiting: Callable[[CreateWaiting], object] | None = None,
    ) -> SoundEffect:
        """Start one sound effect. Costs one of the account's 100 per day (UTC).

        A sound effect has no seed to recognize it by. If the response is lost, it is
        neither looked up nor sent again: `SubmissionUnknownError` is raised. With an
        `idempotency_key` the next call raises it too, until a person has looked and
        calls ``client.journal.release`` or ``forget``.

        Args:
            prompt: What it should sound like.
            duration: 1 to 8 seconds, rounded to a multiple of 0.5 by the service;
                `None` lets it choose.
            enhance: Whether the service may expand the prompt.
            webhook: An ``https`` URL that the service calls when the effect ends.
            idempotency_key: Calls with the same key get one effect; 1 to 255
                characters; needs a `journal`; see `Generations`.
            on_submitted: Called with the accepted effect, even in a cancelled call.
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
            The accepted effect, with `daily_remaining`.

        Raises:
            RateLimitError: The day's effects are used up.
            FinetuningError: As for `Generations.create`.
        """
        request = SoundEffectRequest(
            prompt,
            duration=duration,
            enhance=enhance,
            webhook=webhook,
            idempotency_key=idempotency_key,
        )
        del webhook  # its query is a secret, and a traceback may show this frame
        session = self._session()
        submission = session.new_submission(
            request,
            validate=validate,
            on_submitted=on_submitted,
            max_retries=max_retries,
            priority=priority,
            share=share,
            max_wait=max_wait,
            on_waiting=on_waiting,
        )
        return cast("SoundEffect", await session.create(submission, timeout))

    async def get(
        self,
        sound_effect_id: str,
        *,
        timeout: float | None = READ_TIMEOUT,
        max_retries: int | None = None,
    ) -> SoundEffect:
        """Read one sound effect.

        Args:
            sound_effect_id: Its id.
            timeout: Seconds for the whole call, waiting for the rate limit included;
                `None` for no limit.
            max_retries: How often a failed attempt is retried, at least 0; `None` for
                the client's number.

        Raises:
            NotFoundError: The account has no such effect.
            FinetuningError: The request failed.
        """
        path = f"/v1/sound-effects/{path_segment(sound_effect_id, 'sound_effect_id')}"
        session = self._session()
        call = Call(
            method="GET", path=path, track_id=sound_effect_id, shows=sound_effect_id
        )
        effect = parsing.sound_effect(await session.request(call, timeout, max_retries))
        session.observe(effect)
        if session.keyed is not None and effect.is_final:
            await session.keyed.journal.record_final(effect)
        return effect

    def list(
        self,
        *,
        status: Status | None = None,
        limit: int = DEFAULT_PAGE,
        offset: int = 0,
        timeout: float | None = READ_TIMEOUT,
        max_retries: int | None = None,
    ) -> Listing[SoundEffect]:
        """List sound effects, newest first; await it or iterate it.

        Args:
            status: Only those with this status, such as ``completed``.
            limit: Rows per page, 1 to 99.
            offset: How many rows to skip, at least 0.
            timeout: Seconds for each page, waiting for the rate limit included; `None`
                for no limit.
            max_retries: How often a failed attempt is retried, at least 0; `None` for
                the client's number.

        Raises:
            InvalidRequestError: A parameter is out of its range.
        """
        query = list_query(limit, offset, status=status)

        async def fetch(start: int) -> Page[SoundEffect]:
            call = Call(
                method="GET",
                path="/v1/sound-effects",
                query={**query, "offset": start},
            )
            session = self._session()
            response = await session.request(call, timeout, max_retries)
            page = parsing.sound_effect_page(response, offset=start)
            for effect in page.items:
                session.observe(effect)
            return page

        return Listing(fetch, offset)
