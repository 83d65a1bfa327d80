"""The resources of a client: what can be asked of the service, method by method."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast
from urllib.parse import quote

import attrs

from finetuning_async import _parsing
from finetuning_async._errors import InvalidRequestError
from finetuning_async._requests import GenerationRequest
from finetuning_async._wire import Call

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from collections.abc import Generator as PlainGenerator

    from finetuning_async._models import Generation, Page
    from finetuning_async._session import Session
    from finetuning_async._types import OnUnknown

T = TypeVar("T")

READ_TIMEOUT: Final = 60.0
"""Seconds a read may take, waiting for its turn included, unless the caller says
else."""

LARGEST_PAGE: Final = 99
"""The largest page that every published source allows (Q12)."""

DEFAULT_PAGE: Final = 20


def segment(value: str, field: str) -> str:
    """An id as one segment of a path.

    Raises:
        InvalidRequestError: It is empty, or no text.
    """
    if not isinstance(value, str) or not value.strip(". \t\r\n"):
        raise InvalidRequestError(field, value, "an id, as the service gave it")
    return quote(value, safe="")


class Listing(Generic[T]):
    """A list of the service: await it for the first page, iterate it for all rows.

    Rows come newest first, page by page, each once, even when new tracks shift the
    pages meanwhile.
    """

    def __init__(self, fetch: Callable[[int], Awaitable[Page[T]]], offset: int) -> None:
        self._fetch = fetch
        self._offset = offset

    def __await__(self) -> PlainGenerator[Any, Any, Page[T]]:
        return self._page(self._offset).__await__()

    async def _page(self, offset: int) -> Page[T]:
        page = await self._fetch(offset)
        return attrs.evolve(page, fetch_next=partial(self._page, page.next_offset))

    async def __aiter__(self) -> AsyncGenerator[T]:
        """All rows from the offset on.

        Raises:
            FinetuningError: A page could not be read.
        """
        seen: set[str] = set()
        page: Page[T] | None = await self._page(self._offset)
        while page is not None:
            for row in page.items:
                row_id = cast("Any", row).id
                if row_id not in seen:
                    seen.add(row_id)
                    yield row
            page = await page.next_page()


def list_query(limit: int, offset: int, **filters: str | None) -> dict[str, str | int]:
    """Check the parameters of a list.

    Raises:
        InvalidRequestError: The limit is not 1 to 99, or the offset is negative.
    """
    if not _is_whole(limit) or not 1 <= limit <= LARGEST_PAGE:
        raise InvalidRequestError("limit", limit, f"1 to {LARGEST_PAGE} rows")
    if not _is_whole(offset) or offset < 0:
        raise InvalidRequestError("offset", offset, "a whole number, at least 0")
    given = {name: value for name, value in filters.items() if value is not None}
    return {"limit": limit, "offset": offset, **given}


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


class Generations:
    """Music: ``client.generations``."""

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
            on_unknown: What to do when the fate of the create cannot be learned:
                ``raise``, or ``resubmit`` the same request with the same seed.
            on_submitted: Called with the accepted state as soon as there is one, even
                if this call is being cancelled.
            validate: Whether the parameters are checked here first.
            timeout: Seconds for all of it; `None` for no limit. Time over before a byte
                left costs nothing.

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
        order = session.order(
            request,
            validate=validate,
            on_unknown=on_unknown,
            on_submitted=on_submitted,
        )
        return cast("Generation", await session.submit(order, timeout))

    async def get(
        self, generation_id: str, *, timeout: float | None = READ_TIMEOUT
    ) -> Generation:
        """Read one track, music or instrumental.

        Args:
            generation_id: Its id.
            timeout: Seconds for all of it, waiting for its turn included; `None` for no
                limit.

        Raises:
            NotFoundError: There is no such track, or it is not yours.
            FinetuningError: It could not be read.
        """
        path = f"/v1/generations/{segment(generation_id, 'generation_id')}"
        answer = await self._session().ask(Call(method="GET", path=path), timeout)
        return _parsing.generation(answer)

    def list(
        self,
        *,
        status: str | None = None,
        type: str | None = None,
        limit: int = DEFAULT_PAGE,
        offset: int = 0,
        timeout: float | None = READ_TIMEOUT,
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

        Raises:
            InvalidRequestError: A parameter is outside its range.
        """
        query = list_query(limit, offset, status=status, type=type)

        async def fetch(start: int) -> Page[Generation]:
            call = Call(
                method="GET", path="/v1/generations", query={**query, "offset": start}
            )
            answer = await self._session().ask(call, timeout)
            return _parsing.generation_page(answer, offset=start)

        return Listing(fetch, offset)
