"""Short clips: `client.sound_effects`."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from finetuning_async._api import Call, SoundEffectRequest, parsing
from finetuning_async._resources._common import (
    DEFAULT_PAGE,
    READ_TIMEOUT,
    Listing,
    list_query,
    segment,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from finetuning_async._api import Page, SoundEffect
    from finetuning_async._session import Session


class SoundEffects:
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
        on_submitted: Callable[[SoundEffect], Awaitable[None] | None] | None = None,
        validate: bool = True,
        timeout: float | None = None,
        max_retries: int | None = None,
    ) -> SoundEffect:
        """Start one sound effect. Costs one of the account's 100 a day (UTC).

        It has no seed, so one whose answer is lost cannot be told apart: it is neither
        looked up nor sent again.

        Args:
            prompt: What it shall sound like.
            duration: 1 to 8 seconds; the service snaps it to steps of 0.5.
            enhance: Whether the service may expand the prompt.
            webhook: Where the end is announced, an ``https`` URL.
            on_submitted: As for `Generations.create`.
            validate: Whether the parameters are checked here first.
            timeout: Seconds for all of it; `None` for no limit.
            max_retries: How often a failed attempt is repeated, at least 0; `None` for
                the client's own number.

        Returns:
            The effect as accepted, with `daily_remaining`.

        Raises:
            RateLimitError: The day's effects are used up.
            FinetuningError: As for `Generations.create`.
        """
        request = SoundEffectRequest(
            prompt, duration=duration, enhance=enhance, webhook=webhook
        )
        # Its query is a secret, and a traceback may show the locals of this frame.
        del webhook
        session = self._session()
        order = session.new_submission(
            request,
            validate=validate,
            on_submitted=on_submitted,
            max_retries=max_retries,
        )
        return cast("SoundEffect", await session.submit(order, timeout))

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
            timeout: Seconds for all of it, waiting for its turn included.
            max_retries: How often a failed attempt is repeated, at least 0; `None` for
                the client's own number.

        Raises:
            NotFoundError: There is no such effect.
            FinetuningError: It could not be read.
        """
        path = f"/v1/sound-effects/{segment(sound_effect_id, 'sound_effect_id')}"
        session = self._session()
        call = Call(
            method="GET", path=path, track_id=sound_effect_id, shows=sound_effect_id
        )
        effect = parsing.sound_effect(await session.request(call, timeout, max_retries))
        session.observe(effect)
        return effect

    def list(
        self,
        *,
        status: str | None = None,
        limit: int = DEFAULT_PAGE,
        offset: int = 0,
        timeout: float | None = READ_TIMEOUT,
        max_retries: int | None = None,
    ) -> Listing[SoundEffect]:
        """List sound effects, newest first; await it or iterate it.

        Args:
            status: Only those with this status.
            limit: Rows per page, 1 to 99.
            offset: How many rows to pass over, at least 0.
            timeout: Seconds for each page; `None` for no limit.
            max_retries: How often a failed attempt is repeated, at least 0; `None` for
                the client's own number.

        Raises:
            InvalidRequestError: A parameter is outside its range.
        """
        query = list_query(limit, offset, status=status)

        async def fetch(start: int) -> Page[SoundEffect]:
            call = Call(
                method="GET",
                path="/v1/sound-effects",
                query={**query, "offset": start},
            )
            session = self._session()
            answer = await session.request(call, timeout, max_retries)
            page = parsing.sound_effect_page(answer, offset=start)
            for effect in page.items:
                session.observe(effect)
            return page

        return Listing(fetch, offset)
