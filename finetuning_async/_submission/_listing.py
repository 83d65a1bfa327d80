"""Reading a list to its end, and knowing whether no row was missed.

The paging of a service cannot be relied on: ``hasMore`` may be wrong, an offset may be
ignored, and rows move from page to page while new ones come in front. So each page is
requested from the last row of the one before, which shows that the two meet, and only
an empty page is the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from finetuning_async._api import Generation, Page, SoundEffect

    Row: TypeAlias = Generation | SoundEffect
    Read: TypeAlias = Callable[[int], Awaitable[Page[Any] | None]]

PAGE_SIZE: Final = 99
"""Rows requested at a time, the most that the service is known to return."""

WELL_BEFORE: Final = 60.0
"""Seconds by which the dates of a page must be before a create to be past it."""


@attrs.frozen
class CompleteListing:
    """What was read of a list.

    Attributes:
        rows: Without duplicates, in the order of the list.
        reached_end: Whether the last page said that it was the last.
        is_whole: Whether it is certain that no row was missed.
    """

    rows: tuple[Row, ...]
    reached_end: bool
    is_whole: bool


async def read_list(
    read: Read,
    *,
    max_pages: int,
    verify_end: bool,
    since: float | None = None,
) -> CompleteListing | None:
    """Read a list page by page.

    Args:
        read: Reads the page at an offset; `None` if that fails.
        max_pages: Pages read at most.
        verify_end: Whether to read beyond the page that says it is the last.
        since: Seconds since 1970. Unless `None`, reading stops at a page that is in
            order, newest first, and goes back to well before this time.

    Returns:
        `None` if a page could not be read.
    """
    rows: list[Row] = []
    offset, is_sound, says_more = 0, True, True
    for _ in range(max_pages):
        page = await read(offset)
        # Some services refuse an offset behind the end; that is no failed read.
        if page is None and not says_more:
            return CompleteListing(tuple(rows), reached_end=True, is_whole=False)
        if page is None:
            return None
        says_more = page.raw.get("hasMore") is True
        if not page.items:
            whole = is_sound and not says_more
            return CompleteListing(tuple(rows), not says_more, whole)
        new = _new(rows, page.items)
        is_sound = is_sound and _joins(rows, page.items, new)
        if not new and (not is_sound or not says_more):
            return CompleteListing(tuple(rows), not says_more, is_whole=False)
        rows += new
        if since is not None and _is_past(page.items, since):
            return CompleteListing(tuple(rows), reached_end=False, is_whole=False)
        if not says_more and not verify_end:
            return CompleteListing(tuple(rows), reached_end=True, is_whole=False)
        # Request the last row again, if there is more, to see that the pages meet.
        offset += len(page.items) - (says_more and len(page.items) > 1)
    return CompleteListing(tuple(rows), reached_end=False, is_whole=False)


def _new(rows: list[Row], page: tuple[Row, ...]) -> list[Row]:
    known = {row.id for row in rows}
    return [row for row in page if row.id not in known]


def _joins(rows: list[Row], page: tuple[Row, ...], new: list[Row]) -> bool:
    """Whether a page continues where the one before ended, without a gap.

    Then it begins with the last row that was read, or with the last few if new rows
    came in front meanwhile. If it shares none, rows were deleted and one may have been
    missed.
    """
    if not rows:
        return len(new) == len({row.id for row in new})
    shared = len(page) - len(new)
    if not 0 < shared < len(rows):  # all of them: the service ignores the offset
        return False
    ids = [row.id for row in page]
    return ids[:shared] == [row.id for row in rows[-shared:]]


def _is_past(page: tuple[Row, ...], since: float) -> bool:
    """Whether a page that is sorted newest first goes back to well before a time."""
    dates = [row.created_at.timestamp() for row in page if row.created_at is not None]
    is_dated = 1 < len(dates) == len(page)
    return (
        is_dated
        and dates == sorted(dates, reverse=True)
        and dates[-1] < since - WELL_BEFORE
    )
