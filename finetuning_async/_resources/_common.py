"""What the resources share: ids in paths, lists, bulk calls."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast
from urllib.parse import quote

import attrs

from finetuning_async._api import (
    BulkFailure,
    BulkResult,
    Call,
    Page,
    parsing,
    validation,
    whole_number,
)
from finetuning_async._constants import READ_TIMEOUT as READ_TIMEOUT
from finetuning_async._errors import (
    BadRequestError,
    FinetuningError,
    GenerationFailedError,
    InvalidRequestError,
)

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        Awaitable,
        Callable,
        Generator as PlainGenerator,
        Iterable,
        Sequence,
    )

    from finetuning_async._api import Generation, SoundEffect
    from finetuning_async._session import Session

T = TypeVar("T")

MAX_PAGE: Final = 99
"""The largest page that every published source allows (Q12)."""

DEFAULT_PAGE: Final = 20

MAX_BULK: Final = 100
"""Ids per bulk request."""


def path_segment(value: str, field: str) -> str:
    """Percent-encode an id as one segment of a path.

    Raises:
        InvalidRequestError: It is not a string, is empty or too long, or has characters
            that are not printable, such as a lone surrogate.
    """
    problem = validation.identifier(field, value)
    if problem is not None:
        raise problem
    return quote(value, safe="")


class Listing(Generic[T]):
    """A list of the service: await it for the first page, iterate it for all rows.

    Rows come newest first and are fetched page by page. Each row comes once, even if
    new tracks shift the pages in the meantime.

    Example:
        page = await client.generations.list(status="completed")  # the first page
        async for track in client.generations.list(status="completed"):  # all of them
            print(track.id, track.title)
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
        """Iterate over all rows from the offset on.

        Raises:
            FinetuningError: A page could not be read.
        """
        # A track created while we iterate pushes rows from one page into the next.
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
    """Check the parameters of a list and make its query.

    Raises:
        InvalidRequestError: The limit is not 1 to 99, the offset is negative, or a
            filter is not a string that UTF-8 can encode.
    """
    rows, skipped = whole_number(limit), whole_number(offset)
    if rows is None or not 1 <= rows <= MAX_PAGE:
        allowed = f"a whole number of rows from 1 to {MAX_PAGE}"
        raise InvalidRequestError("limit", limit, allowed)
    if skipped is None or skipped < 0:
        raise InvalidRequestError("offset", offset, "a whole number of at least 0")
    for name, value in filters.items():
        problem = validation.characters(name, value, most=validation.MAX_WORD)
        if problem is not None:
            raise problem
    given = {name: value for name, value in filters.items() if value is not None}
    return {"limit": rows, "offset": skipped, **given}


def unique_ids(ids: Iterable[str], field: str) -> list[str]:
    """Drop repeated ids and keep the order.

    Raises:
        InvalidRequestError: It is not a collection of ids; a single string is not.
    """
    if isinstance(ids, str | bytes) or not hasattr(ids, "__iter__"):
        raise InvalidRequestError(field, ids, "a list of ids")
    unique = list(dict.fromkeys(ids))
    for value in unique:
        path_segment(value, field)
    return unique


def failed_error(
    track: Generation | SoundEffect, *, has_key: bool = False
) -> GenerationFailedError:
    """Make the error for a track that ended as failed.

    Args:
        track: The track.
        has_key: Whether it was created with an idempotency key.
    """
    reason = track.error_message or "the service gave no reason"
    # The same call would give the same track again.
    advice = "; to try again, use another idempotency key" if has_key else ""
    message = f"{track.id} failed: {reason}{advice}"
    return GenerationFailedError(message, generation=track)


@attrs.frozen(kw_only=True)
class Bulk:
    """One bulk endpoint.

    Attributes:
        path: Its path.
        field: The member of the request that holds the ids.
        done: The member of the response that holds the ids that succeeded.
        more: Further members of the request.
    """

    path: str
    field: str
    done: str
    more: dict[str, str] = attrs.field(factory=dict)

    async def run(
        self,
        session: Session,
        ids: Sequence[str],
        timeout: float | None,
        max_retries: int | None,
    ) -> BulkResult:
        """Send the ids, a hundred per request, and merge the results.

        If a later request fails, its ids and all that follow are failures of the
        result: the successes of the earlier requests must not be lost.

        Raises:
            FinetuningError: The first request failed.
        """
        parts: list[BulkResult] = []
        for start in range(0, len(ids), MAX_BULK):
            chunk = ids[start : start + MAX_BULK]
            try:
                parts.append(await self._send(session, chunk, timeout, max_retries))
            except FinetuningError as error:
                if not parts:
                    raise
                reason = f"not sent, or the response was lost: {error}"
                failed = tuple(BulkFailure(id=i, error=reason) for i in ids[start:])
                parts.append(BulkResult(succeeded=(), failed=failed))
                break
        return BulkResult.merged(parts)

    async def _send(
        self,
        session: Session,
        ids: Sequence[str],
        timeout: float | None,
        max_retries: int | None,
    ) -> BulkResult:
        body = {self.field: list(ids), **self.more}
        call = Call(method="POST", path=self.path, body=body)
        try:
            response = await session.request(call, timeout, max_retries)
        except BadRequestError as error:
            # Some bulk endpoints respond with 400 if no id succeeded (Q13).
            return parsing.all_failed(error, ids)
        return parsing.bulk_result(response, self.done, ids=ids)
