"""`BatchJournal`: batches in a journal that the workers of any job queue share.

It adds items and reads them; `Worker` works on them.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from finetuning_async._constants import POSTGRES_SCHEMES
from finetuning_async._errors import InvalidRequestError
from finetuning_async._runtime import in_thread
from finetuning_async.batch._admin import release_items, retry_items
from finetuning_async.batch._input import check_rows
from finetuning_async.batch._item import BatchItem
from finetuning_async.journal import (
    NEXT,
    STATES,
    Action,
    ItemFactory,
    SQLiteStore,
    Summary,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from finetuning_async.journal import Item, JournalStore, NewItem, RowLike, State

T = TypeVar("T")

_BATCH: Final = re.compile(r"(?![-.])[A-Za-z0-9._-]{1,100}")
_LOCATION: Final = "a path or a postgresql:// URL"
_UNFINISHED: Final = [state for state in STATES if NEXT[state] is not Action.REPORT]


class BatchJournal:
    """Batches of tracks in a journal that the workers of any job queue share.

    Add requests to it, and queue a job for each number that it returns; a job hands its
    number to `Worker.process_item`. Every item ends once, as ``downloaded``, ``failed``
    or ``held``, and the credits spent equal the items accepted, however often a job
    runs, and whichever worker dies when.

        from finetuning_async.batch import BatchJournal, Worker, into

        journal = BatchJournal("tracks.db")
        numbers = await journal.add("album", [GenerationRequest("rain")])
        worker = Worker(client, journal, save=into("music"))
        for number in numbers:  # a job queue does this, on any machine, all at once
            while (progress := await worker.process_item(number)).again_in is not None:
                await anyio.sleep(progress.again_in)
        print((await journal.summary("album")).as_dict())
        for item in await journal.items("album", "failed", "held"):
            print(item.custom_id, item.error)
        await journal.retry_failed()
        print(await journal.unfinished("album"), "need a job")
        await journal.aclose()

    It is opened when first used, and can be used from any thread and event loop.

    Args:
        location: A file, for processes of one machine; or a database, as a URL that
            begins with ``postgresql://``. Created if needed.
        name: The name of the journal there; one for each account.

    Raises:
        InvalidRequestError: The location is not valid; a URL is not shown.
    """

    def __init__(
        self, location: str | os.PathLike[str], *, name: str = "default"
    ) -> None:
        self._open = _opener(location, name)
        self._name = name
        # By process: a forked child opens its own. Without a lock, which the child
        # might find held for ever.
        self._stores: dict[int, JournalStore] = {}

    def __repr__(self) -> str:
        return f"<BatchJournal {self._name!r}>"

    async def add(self, batch: str, requests: Iterable[RowLike]) -> list[int]:
        """Add requests, all or none. Queue a job for each number that is returned.

        Those that are known in this batch stay as they are, so the same call can be
        repeated if it is not known whether it went through, or whether all jobs were
        queued.

        Args:
            batch: The name of the batch: letters, digits, ``._-``. Its files go into a
                folder of this name.
            requests: What to make: requests, prompts, or mappings of parameters; a
                `Row` or the mapping adds a `custom_id`. Their webhooks must have no
                query, login or fragment: these are secrets and not stored, and the
                workers send what is stored.

        Returns:
            The numbers of these items, in their order, without those that have ended.

        Raises:
            BatchInputError: Some are invalid; nothing was added.
            InvalidRequestError: It is one request, not a list; nothing was added.
            JournalError: A `custom_id` is known with different content, or the journal
                cannot be used.
            ValueError: The name is not valid.
        """
        items = list(new_items(batch, requests))
        return await self._call(partial(_add, items=items))

    async def unfinished(self, batch: str | None = None) -> list[int]:
        """The numbers of items that have not ended: those that need a job.

        Args:
            batch: The name of a batch; `None` for all.
        """

        def work(store: JournalStore) -> list[int]:
            return [item.seq for item in _in_batch(store, batch, *_UNFINISHED)]

        return await self._call(work)

    async def summary(self, batch: str | None = None) -> Summary:
        """A batch in numbers.

        Args:
            batch: Its name; `None` for all batches together.
        """
        return await self._call(partial(_summary, batch=batch))

    async def items(self, batch: str | None = None, *states: State) -> list[BatchItem]:
        """The items of a batch, in their order.

        Args:
            batch: Its name; `None` for all batches.
            states: Only items in one of these states; by default all.
        """

        def work(store: JournalStore) -> list[BatchItem]:
            return [BatchItem.of(item) for item in _in_batch(store, batch, *states)]

        return await self._call(work)

    async def retry_failed(self) -> int:
        """Plan failed items again; each costs another credit. Returns how many.

        They need a job again: see `unfinished`.
        """
        return await self._call(retry_items)

    async def release(self, *names: str) -> int:
        """Declare that held items made no track: they are planned again.

        If one did make a track, it is charged twice: check with the service first.
        They need a job again: see `unfinished`.

        Args:
            names: Their `custom_id` or key.

        Returns:
            How many were released.

        Raises:
            BatchError: One does not exist or is not held; none was released.
        """
        return await self._call(partial(release_items, names=names))

    async def aclose(self) -> None:
        """Close what this process has opened; it is opened again when needed."""
        await in_thread(self._close)

    async def _call(self, work: Callable[[JournalStore], T]) -> T:
        return await in_thread(lambda: work(self._opened()))

    def _opened(self) -> JournalStore:
        process = os.getpid()
        store = self._stores.get(process)
        if store is None:
            made = self._open()
            store = self._stores.setdefault(process, made)
            if store is not made:  # another thread has opened it meanwhile
                made.close()
        return store

    def _close(self) -> None:
        store = self._stores.pop(os.getpid(), None)
        if store is not None:
            store.close()


async def open_store(journal: BatchJournal | JournalStore) -> JournalStore:
    """What a journal is kept in.

    Raises:
        JournalError: It cannot be opened.
    """
    if isinstance(journal, BatchJournal):
        return await journal._call(lambda store: store)  # noqa: SLF001 - a friend
    return journal


def new_items(batch: str, requests: Iterable[RowLike]) -> Iterator[NewItem]:
    """Requests as a journal of several batches stores them.

    Raises:
        BatchInputError: Some are invalid; raised at the end.
        ValueError: The name of the batch is not valid.
    """
    if not _BATCH.fullmatch(batch):
        raise ValueError(
            "the name of a batch must be 1 to 100 letters, digits, dots, hyphens or"
            " underscores, and must not begin with a dot or a hyphen, got"
            f" {batch!r}"
        )
    factory = ItemFactory(batch)
    rows = check_rows(requests, is_sent_elsewhere=True)
    return (factory.item(row) for row in rows)


def _opener(location: str | os.PathLike[str], name: str) -> Callable[[], JournalStore]:
    """A function that opens a journal.

    Raises:
        InvalidRequestError: The location is not valid; a URL is not shown.
    """
    given = os.fspath(location) if isinstance(location, os.PathLike) else location
    if not isinstance(given, str) or not given or "\0" in given:
        raise InvalidRequestError("location", location, _LOCATION)
    opener: Callable[[], JournalStore]
    if given.startswith(POSTGRES_SCHEMES):
        # By name, because `postgres` is a layer beside this one and needs an extra.
        postgres = import_module("finetuning_async.postgres")
        postgres.check_conninfo(given)
        opener = partial(postgres.PostgresStore, given, journal=name)
    elif "://" in given:
        raise InvalidRequestError.hidden("location", _LOCATION)
    else:
        # Absolute, since the program may change its folder before the first use.
        opener = partial(SQLiteStore, Path(given).absolute(), journal=name)
    return opener


def _add(store: JournalStore, *, items: list[NewItem]) -> list[int]:
    store.add(items)
    stored = (store.find_key(item.key) for item in items)
    return [item.seq for item in stored if item is not None and _is_unfinished(item)]


def _is_unfinished(item: Item) -> bool:
    return item.entry.state in _UNFINISHED


def _summary(store: JournalStore, *, batch: str | None) -> Summary:
    if batch is None:
        return store.summary()
    entries = [item.entry for item in _in_batch(store, batch)]
    counts = Counter(entry.state for entry in entries)
    return Summary(
        states={state: counts[state] for state in STATES},
        accepts=sum(entry.accepts for entry in entries),
        fails=sum(entry.fails for entry in entries),
    )


def _in_batch(store: JournalStore, batch: str | None, *states: State) -> Iterator[Item]:
    """The items of a batch, or of all, in these states; by default in all."""
    prefix = "" if batch is None else f"{batch}/"
    return (item for item in store.rows(*states) if item.key.startswith(prefix))
