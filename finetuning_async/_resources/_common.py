"""What all resources share: lists, ids in paths, bulk calls."""

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

    from finetuning_async._session import Session

T = TypeVar("T")

LARGEST_PAGE: Final = 99
"""The largest page that every published source allows (Q12)."""

DEFAULT_PAGE: Final = 20


def segment(value: str, field: str) -> str:
    """An id as one segment of a path.

    Raises:
        InvalidRequestError: It is no text, empty, too long, or holds characters that
            cannot be printed, such as half of a surrogate pair.
    """
    problem = validation.identifier(field, value)
    if problem is not None:
        raise problem
    return quote(value, safe="")


class Listing(Generic[T]):
    """A list of the service: await it for the first page, iterate it for all rows.

    Rows come newest first, page by page, each once, even when new tracks shift the
    pages meanwhile.

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
        InvalidRequestError: The limit is not 1 to 99, the offset is negative, or a
            filter is no text that UTF-8 can carry.
    """
    rows, passed = whole_number(limit), whole_number(offset)
    if rows is None or not 1 <= rows <= LARGEST_PAGE:
        raise InvalidRequestError(
            "limit", limit, f"a whole number of rows from 1 to {LARGEST_PAGE}"
        )
    if passed is None or passed < 0:
        raise InvalidRequestError("offset", offset, "a whole number of at least 0")
    for name, value in filters.items():
        problem = validation.characters(name, value, most=validation.MAX_WORD)
        if problem is not None:
            raise problem
    given = {name: value for name, value in filters.items() if value is not None}
    return {"limit": rows, "offset": passed, **given}


LARGEST_BULK: Final = 100
"""Ids per bulk call."""


def unique_ids(ids: Iterable[str], field: str) -> list[str]:
    """The ids given, each once, in their order.

    Raises:
        InvalidRequestError: It is no collection of ids; a single text is none.
    """
    if isinstance(ids, str | bytes) or not hasattr(ids, "__iter__"):
        raise InvalidRequestError(field, ids, "a list of ids")
    given = list(dict.fromkeys(ids))
    for one in given:
        segment(one, field)
    return given


@attrs.frozen(kw_only=True)
class Bulk:
    """One bulk endpoint.

    Attributes:
        path: Where it is.
        field: What it calls the ids it is sent.
        done: What it calls those it is done with.
        more: What else is sent.
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
        """Send the ids, a hundred at a time, and merge the answers.

        When a later hundred cannot be sent, its ids are failures with that reason: what
        was done with the first is not lost.

        Raises:
            FinetuningError: The first hundred could not be sent.
        """
        parts: list[BulkResult] = []
        for start in range(0, len(ids), LARGEST_BULK):
            chunk = ids[start : start + LARGEST_BULK]
            try:
                parts.append(await self._chunk(session, chunk, timeout, max_retries))
            except FinetuningError as error:
                if not parts:
                    raise
                reason = f"not sent, or not known to be done: {error}"
                failed = tuple(BulkFailure(id=i, error=reason) for i in ids[start:])
                parts.append(BulkResult(succeeded=(), failed=failed))
                break
        return BulkResult.merged(parts)

    async def _chunk(
        self,
        session: Session,
        ids: Sequence[str],
        timeout: float | None,
        max_retries: int | None,
    ) -> BulkResult:
        body = {self.field: list(ids), **self.more}
        call = Call(method="POST", path=self.path, body=body)
        try:
            answer = await session.ask(call, timeout, max_retries)
        except BadRequestError as error:
            return parsing.folded(error, ids)
        return parsing.bulk_result(answer, self.done, ids=ids)
