"""What the async client lets iterate over: lists, their pages, states of a track."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar, cast

import attrs

from finetuning_async._api import Page as AsyncPage
from finetuning_async._errors import ClientClosedError, FinetuningError
from finetuning_async.sync._portal import Portal

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping
    from types import TracebackType

    from finetuning_async._resources import Listing as AsyncListing

T = TypeVar("T")

END: Final = object()


async def next_of(items: AsyncIterator[T]) -> T | object:
    """The next one; `END` at the end."""
    return await anext(items, END)


class Iteration(Iterator[T]):
    """What comes one after another: the states of a track, entries, rows of a list.

    It is used by one thread at a time. Leaving its ``with`` block, or `close`, ends it;
    so does the garbage collector.

    Example:
        track = client.generations.create("rain")
        for state in client.watch(track):
            print(state.status)
        with client.watch(track) as states:
            print(next(states))
        states.close()  # was done already
    """

    def __init__(self, portal: Portal, items: AsyncGenerator[T]) -> None:
        self._is_over = True
        self._portal = portal
        self._thread = portal.thread()
        self._items = items
        self._is_over = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        item = self._portal.run(self._thread, next_of(self._items))
        if item is END:
            self._is_over = True
            raise StopIteration
        return cast("T", item)

    def close(self) -> None:
        """End it. Another call does nothing."""
        self._is_over = True
        with suppress(ClientClosedError):  # that has ended it
            self._portal.run(self._thread, _closed(self._items))

    def __del__(self) -> None:
        if not self._is_over:
            # The loop closes the generator, so its thread has to run it.
            self._thread.wake()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


async def _closed(items: AsyncGenerator[Any]) -> None:
    await items.aclose()


class Listing(Iterable[T]):
    """A list of the service: iterate over all rows, or read the first page of it.

    Rows come newest first and are fetched page by page. Each row comes once, even if
    new tracks shift the pages in the meantime.

    Example:
        page = client.generations.list(status="completed").page()  # the first page
        for track in client.generations.list(status="completed"):  # all of them
            print(track.id, track.title)
    """

    def __init__(self, portal: Portal, listing: AsyncListing[T]) -> None:
        self._portal = portal
        self._listing = listing

    def __iter__(self) -> Iteration[T]:
        """Iterate over all rows from the offset on.

        Raises:
            FinetuningError: A page could not be read.
        """
        return Iteration(self._portal, aiter(self._listing))

    def page(self) -> Page[T]:
        """Read the first page, from the offset on.

        Raises:
            FinetuningError: It could not be read.
        """
        thread = self._portal.thread()
        return Page(self._portal.run(thread, _awaited(self._listing)), self._portal)


async def _awaited(listing: AsyncListing[T]) -> AsyncPage[T]:
    return await listing


@attrs.frozen
class Page(Generic[T]):
    """One page of a list, newest first; see `finetuning_async.Page`.

    Example:
        page = client.generations.list(limit=50).page()
        while page is not None:
            print([track.id for track in page], page.has_more)
            page = page.next_page()
    """

    _page: AsyncPage[T]
    _portal: Portal | None = attrs.field(default=None, repr=False, eq=False)

    @property
    def items(self) -> tuple[T, ...]:
        """The rows."""
        return self._page.items

    @property
    def has_more(self) -> bool:
        """Whether there may be another page; never after an empty page."""
        return self._page.has_more

    @property
    def next_offset(self) -> int:
        """The offset of the next page."""
        return self._page.next_offset

    @property
    def raw(self) -> Mapping[str, Any]:
        """The JSON as received."""
        return self._page.raw

    def __iter__(self) -> Iterator[T]:
        return iter(self._page)

    def __len__(self) -> int:
        return len(self._page)

    def next_page(self) -> Page[T] | None:
        """Fetch the next page; `None` at the end of the list.

        Raises:
            FinetuningError: This page was unpickled and no longer has a client; or the
                next one could not be read.
        """
        if self._portal is None:
            raise FinetuningError(
                "an unpickled page cannot fetch the next one:"
                f" list again with offset={self.next_offset}"
            )
        page = self._portal.run(self._portal.thread(), self._page.next_page())
        return None if page is None else Page(page, self._portal)

    def __reduce__(self) -> tuple[Any, ...]:
        return Page, (self._page,)
