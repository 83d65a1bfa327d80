"""Music: `client.generations`."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from finetuning_async._api import Call, GenerationRequest, parsing
from finetuning_async._resources._common import (
    DEFAULT_PAGE,
    READ_TIMEOUT,
    Bulk,
    Listing,
    list_query,
    segment,
    unique_ids,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from finetuning_async._api import BulkResult, Generation, Page
    from finetuning_async._session import Session
    from finetuning_async._types import OnUnknown


class Generations:
    """Music: ``client.generations``.

    Example:
        track = await client.generations.create("lofi chill", duration=30)
        track = await client.generations.get(track.id)
        async for other in client.generations.list(type="music"):
            print(other.id, other.status)
        await client.generations.delete([track.id])
    """

    def __init__(self, session: Callable[[], Session]) -> None:
        self._session = session

    async def create(
        self,
        tags: str,
        *,
        lyrics: str | None = None,
        duration: float | None = None,
        bpm: float | None = None,
        language: str | None = None,
        key: str | None = None,
        scale: str | None = None,
        timesignature: int | str | None = None,
        seed: int | None = None,
        webhook: str | None = None,
        on_unknown: OnUnknown = "raise",
        on_submitted: Callable[[Generation], Awaitable[None] | None] | None = None,
        validate: bool = True,
        timeout: float | None = None,
        max_retries: int | None = None,
    ) -> Generation:
        """Start one track of music. Costs one credit.

        It waits for its turn, and for a place in the service's queue. If its answer is
        lost, it is looked up by its seed, not sent again.

        Args:
            tags: What it shall sound like, 1 to 700 characters.
            lyrics: What is sung, at most 2000 characters.
            duration: 5 to 210 seconds; the service's default is 60.
            bpm: 60 to 200 beats per minute; the service's default is 120.
            language: Of the vocals: ``en ja de fr es zh ko pt it ru``.
            key: ``C C# D D# E F F# G G# A A# B``, or a flat.
            scale: ``major`` or ``minor``.
            timesignature: 2 to 7 beats per bar.
            seed: 0 to 2^31-1; drawn at random when not given.
            webhook: Where the end is announced, an ``https`` URL.
            on_unknown: What to do when the create is not found: ``raise``, or
                ``resubmit`` the same request with the same seed. It is sent again only
                if it is proved that it made no track: half a minute later at least, by
                a complete list that shows, with its seed, a create of this client that
                was sent later. Without one, `SubmissionUnknownError` is raised, too; so
                a lone create is never sent again.
            on_submitted: Called with the accepted state as soon as there is one, even
                if this call is being cancelled.
            validate: Whether the parameters are checked here first.
            timeout: Seconds for all of it; `None` for no limit. Time over before a byte
                left costs nothing.
            max_retries: How often a failed attempt is repeated, at least 0; `None` for
                the client's own number.

        Returns:
            The track as accepted, with `credits_remaining`.

        Raises:
            InvalidRequestError: A parameter is outside its range; nothing was sent.
            InsufficientCreditsError: No credits are left.
            SubmissionUnknownError: It may be paid, and could not be found.
            APITimeoutError: Time was over before a byte left.
            APIStatusError: The service refused it.
            APIConnectionError: It could not be sent.
            ClientClosedError: The client was closed before a byte left.
        """
        request = GenerationRequest(
            tags,
            lyrics=lyrics,
            duration=duration,
            bpm=bpm,
            language=language,
            key=key,
            scale=scale,
            timesignature=timesignature,
            seed=seed,
            webhook=webhook,
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

    async def get(
        self,
        generation_id: str,
        *,
        timeout: float | None = READ_TIMEOUT,
        max_retries: int | None = None,
    ) -> Generation:
        """Read one track, music or instrumental.

        Args:
            generation_id: Its id.
            timeout: Seconds for all of it, waiting for its turn included; `None` for no
                limit.
            max_retries: How often a failed attempt is repeated, at least 0; `None` for
                the client's own number.

        Raises:
            NotFoundError: There is no such track, or it is not yours.
            FinetuningError: It could not be read.
        """
        path = f"/v1/generations/{segment(generation_id, 'generation_id')}"
        session = self._session()
        call = Call(
            method="GET", path=path, track_id=generation_id, shows=generation_id
        )
        track = parsing.generation(await session.request(call, timeout, max_retries))
        session.observe(track)
        return track

    def list(
        self,
        *,
        status: str | None = None,
        type: str | None = None,
        limit: int = DEFAULT_PAGE,
        offset: int = 0,
        timeout: float | None = READ_TIMEOUT,
        max_retries: int | None = None,
    ) -> Listing[Generation]:
        """List tracks, newest first.

        ``await client.generations.list()`` gives the first `Page`;
        ``async for track in client.generations.list()`` gives all, page by page.

        Args:
            status: Only those with this status.
            type: Only ``music`` or ``instrumental``.
            limit: Rows per page, 1 to 99.
            offset: How many rows to pass over, at least 0.
            timeout: Seconds for each page; `None` for no limit.
            max_retries: How often a failed attempt is repeated, at least 0; `None` for
                the client's own number.

        Raises:
            InvalidRequestError: A parameter is outside its range.
        """
        query = list_query(limit, offset, status=status, type=type)

        async def fetch(start: int) -> Page[Generation]:
            call = Call(
                method="GET", path="/v1/generations", query={**query, "offset": start}
            )
            session = self._session()
            answer = await session.request(call, timeout, max_retries)
            page = parsing.generation_page(answer, offset=start)
            session.account.inflight.mark_listed(track.id for track in page.items)
            for track in page.items:
                session.observe(track)
            return page

        return Listing(fetch, offset)

    async def delete(
        self,
        ids: Iterable[str],
        *,
        timeout: float | None = READ_TIMEOUT,
        max_retries: int | None = None,
    ) -> BulkResult:
        """Delete tracks for good; there is no undo.

        Args:
            ids: Any number, each counted once; a hundred go into one request.
            timeout: Seconds for each request; `None` for no limit.
            max_retries: How often a failed attempt is repeated, at least 0; `None` for
                the client's own number.

        Returns:
            What was deleted, and what was not and why.

        Raises:
            InvalidRequestError: It is no list of ids.
            FinetuningError: The first request could not be made.
        """
        bulk = Bulk(path="/v1/generations/bulk-delete", field="ids", done="deleted")
        return await bulk.run(
            self._session(), unique_ids(ids, "ids"), timeout, max_retries
        )
