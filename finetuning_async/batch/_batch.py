"""`Batch`: thousands of tracks into one folder, across crashes."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, ParamSpec, Self

import anyio

from finetuning_async._errors import FinetuningError
from finetuning_async._runtime import in_thread
from finetuning_async._session import session_of
from finetuning_async.batch._admin import release_items, retry_items
from finetuning_async.batch._existing import Existing, check_tracks, existing_error
from finetuning_async.batch._input import check_rows
from finetuning_async.batch._item import BatchItem
from finetuning_async.batch._object_folder import folder_of
from finetuning_async.batch._options import OnExisting, Options
from finetuning_async.batch._outputs import Outputs
from finetuning_async.batch._run import Run
from finetuning_async.batch._runner import Runner
from finetuning_async.journal import (
    ACCOUNT,
    BatchError,
    Engine,
    Entry,
    ItemFactory,
    Journal,
    NewItem,
    Row,
    SQLiteStore,
    UsedNames,
    bind_account,
    step,
    with_free_name,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from anyio.abc import TaskGroup

    from finetuning_async._client import AsyncClient
    from finetuning_async.journal import Added, JournalStore, OnDoubt, RowLike, Summary

logger = logging.getLogger("finetuning_async")

P = ParamSpec("P")


class Batch:
    """Makes many tracks into one folder, each made once and charged once.

        from finetuning_async.batch import Batch

        requests = [GenerationRequest("rain"), GenerationRequest("wind", duration=30)]
        async with Batch(client, "album") as batch:
            await batch.add(requests)
            async for item in batch.run():
                print(item.path or item.error)

    Progress is kept in the folder's journal, ``batch-journal``, so the same program
    starts a batch and resumes it. The journal belongs to the client's account. Move a
    batch as a whole; one runner at a time works in a folder. The client's own journal
    counts its credits, for a `Budget`, and else is not used: the same key in a row and
    in a call makes two tracks. Where a budget of the client allows no more, the run
    creates nothing more, or waits if the budget says for how long.

    Args:
        client: Creates and downloads; not closed here.
        folder: Where files are saved, created if needed; or the URL of an object store,
            such as ``s3://bucket/album/`` (extra ``objects``).
        journal: For an object store, where the journal is: a folder, or a
            ``postgresql://`` URL (extra ``postgres``). By default it is in a folder of
            the user's state directory. Two runs with one journal know of each other.
        on_unknown: What to do with a create whose response was lost and that is not
            listed. It is sent again if, at least five minutes later, a complete listing
            shows a later create of this batch and the credits show no charge; or, if
            none is to come, if the credits have stayed the same for five minutes; else
            it is held. With ``resubmit`` it is also sent again where the credits cannot
            be compared, if a later create is listed.
        max_credits: The most credits of all runs together, creates in doubt
            included; `None` for no limit.
        metadata: Whether the MP3s say what they are, in ID3 tags; see `Options`.
        tags: The same; what `metadata` was called before.
        check: Whether to check each file; see `Options`.
        existing: What to do if the folder holds files or results of rows that its
            journal does not know, as after a move without the journal: ``refuse`` to
            start; ``adopt`` them as done; or make the rows ``anew``, for further
            credits and under other names.
        options: All of these and more in one object; the others are then ignored.

    Raises:
        BatchLockedError: Another runner is working there (on entering).
        BatchError: The folder cannot be used (on entering).
    """

    def __init__(
        self,
        client: AsyncClient,
        folder: str | os.PathLike[str],
        *,
        journal: str | os.PathLike[str] | None = None,
        on_unknown: OnDoubt = "hold",
        max_credits: int | None = None,
        metadata: bool = False,
        tags: bool = False,
        check: bool = False,
        existing: OnExisting = "refuse",
        options: Options | None = None,
    ) -> None:
        self._client = client
        self._folder = folder_of(folder, journal)
        self._options = options or Options(
            on_unknown=on_unknown,
            max_credits=max_credits,
            metadata=metadata,
            tags=tags,
            check=check,
            existing=existing,
        )
        self._factory = ItemFactory()
        self._existing: Existing | None = None
        self._run: Run | None = None
        self._last_run: Run | None = None
        self._store: JournalStore
        self._journal: Journal
        self._outputs = Outputs(self._folder)
        self._tasks: TaskGroup

    def __repr__(self) -> str:
        return f"<Batch {self._folder.location}>"

    async def __aenter__(self) -> Self:
        await in_thread(self._open)
        self._journal = Journal(self._store)
        # From here on the lock is held, so any failure must release it.
        try:
            await self._journal.refresh_counts()
        except BaseException:
            self._close()
            raise
        self._tasks = await anyio.create_task_group().__aenter__()
        return self

    def _open(self) -> None:
        self._folder.open()
        try:
            kind = self._folder.network_file_system()
            if kind is not None:
                logger.warning(
                    "%s is on a network file system (%s), where a crash may damage the"
                    " journal; use a local folder",
                    self._folder.path,
                    kind,
                )
            take_over = self._options.existing != "refuse"
            self._store = self._folder.open_store(take_over=take_over)
        except BaseException:
            self._folder.remove_if_new()
            self._folder.close()
            raise

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave: creates in flight get a few seconds; the next run does the rest."""
        # An error of the block is not passed on to the task group: it is raised as it
        # is, and not within an exception group.
        self._tasks.cancel_scope.cancel()
        try:
            await self._tasks.__aexit__(None, None, None)
        finally:
            self._close()

    def _close(self) -> None:
        self._outputs.close()
        self._journal.close()
        self._store.close()
        if not self._journal.summary.total:
            self._folder.remove_if_new()
        self._folder.close()

    async def add(self, requests: Iterable[RowLike]) -> Added:
        """Add requests, all or none; those that are known stay as they are.

        A run that still creates makes them too; otherwise the next run does.

        Args:
            requests: What to make: requests, prompts, or mappings of parameters as a
                line of a JSONL file has them; a `Row` or the mapping adds a
                `custom_id`. They are read and checked in a worker thread.

        Returns:
            How many are new, and how many were known.

        Raises:
            BatchInputError: Some are invalid; nothing was added.
            InvalidRequestError: It is one request, not a list; nothing was added.
            BatchError: The folder holds files or results of some while `existing` is
                ``refuse``, or it belongs to another account; nothing was added.
            JournalError: A `custom_id` is known with different content.
        """
        lenient = session_of(self._client).settings.is_on_loopback
        return await self.add_rows(check_rows(requests, allow_http_webhook=lenient))

    async def add_rows(self, rows: Iterable[Row]) -> Added:
        """Add rows that are checked already, as `read_rows` yields them."""
        await self._check_account()
        added = await self._add(await self._unknown_results(), rows)
        await self._journal.refresh_counts()
        if self._run is not None:
            self._run.notify()
        return added

    async def _unknown_results(self) -> Existing:
        """What the folder held at first that the journal does not know."""
        # Read before the first row is added: later, the folder also holds files that
        # this batch has made.
        if self._existing is None:
            existing = await in_thread(Existing.read, self._folder)
            self._existing = await self._journal.call(
                lambda: existing.without(self._store.rows())
            )
        return self._existing

    async def _add(self, existing: Existing, rows: Iterable[Row]) -> Added:
        """Add rows; the folder may show that some of them were made before.

        Raises:
            BatchError: It does, and `existing` is ``refuse``.
        """
        add = self._store.add
        items: Iterable[NewItem] = map(self._factory.item, rows)
        # In an empty folder, rows go into the journal as they are read. A large input
        # is then never in memory as a whole.
        if not (existing.lines or existing.files):
            return await self._journal.call(add, items)
        items = await in_thread(list, items)
        outcomes = existing.outcomes(items)
        self._existing = None  # it is out of date once these rows are added
        mode = self._options.existing
        if outcomes and mode == "refuse":
            raise existing_error(self._folder.location, outcomes)
        if outcomes and mode == "adopt":
            if not isinstance(self._store, SQLiteStore):
                raise BatchError(
                    'existing="adopt" (--adopt) needs a journal in a folder, not in a'
                    " database"
                )
            await check_tracks(
                self._client, self._folder.location, [one for _, one in outcomes]
            )
            entries = {item.key: step(Entry(), one)[0] for item, one in outcomes}
            return await self._journal.call(self._store.add, items, entries)
        if outcomes:
            await in_thread(self._outputs.set_aside)
        # Items get names that no file there has: the names of the outputs and messages
        # are then the names on the disk.
        used = UsedNames(name for name, _ in existing.files.values())
        items = (with_free_name(item, used) for item in items)
        return await self._journal.call(add, items)

    async def _check_account(self) -> None:
        """Add nothing to the journal of another account, as far as that is known."""
        if await self._journal.call(self._store.read_note, ACCOUNT) is None:
            return
        try:
            session, name = session_of(self._client), self._folder.location
            await bind_account(session, self._journal, name)
        except BatchError:
            raise
        except FinetuningError as error:  # `run` checks again, and raises it
            logger.debug("the account could not be read: %s; retrying later", error)

    def run(self) -> Results:
        """Start or resume; iterate over the items as they end.

        An item ends as ``downloaded``, ``failed`` or ``held``. The iteration ends when
        this run can do no more; `summary` and `paused` show what is left. Leaving the
        iteration early does not stop the run; the end of the ``async with`` block does.

        Raises:
            BatchError: It is running already; or, while iterating, the folder belongs
                to another account.
            AuthenticationError: The API key is not valid (while iterating).
            FinetuningError: The service could not be reached at the start, or the
                journal could not be written (while iterating).
        """
        if self._run is not None:
            raise BatchError(
                "this batch is already running; iterate to the end of that run first"
            )
        results = Results()
        folder = self._folder.audio
        self._run = self._last_run = Run(
            self._client,
            self._folder,
            Engine(
                session_of(self._client),
                self._journal,
                self._options,
                self._factory.request,
            ),
            self._outputs,
            self._options,
            lambda item: results.put(BatchItem.of(item, folder)),
        )
        self._tasks.start_soon(self._work, self._run, results)
        return results

    async def _work(self, run: Run, results: Results) -> None:
        error: Exception | None = None
        try:
            await Runner(run).run()
        except Exception as caught:  # raised where the results are iterated
            error = _first_error(caught)
        finally:
            self._run = None
            results.end(error)

    def stop(self) -> None:
        """Create nothing more; the run ends when the tracks in progress have ended."""
        if self._run is not None:
            self._run.stop("stopped", "stopped on request")

    @property
    def is_running(self) -> bool:
        """Whether a run is in progress."""
        return self._run is not None

    @property
    def summary(self) -> Summary:
        """The journal in numbers, as of now."""
        return self._journal.summary

    @property
    def paused(self) -> tuple[str, str] | None:
        """Why the last run creates nothing more, as a code and as text for people.

        The code is ``stopped``, ``credits``, ``max_credits``, ``budget`` (of the
        client) or ``disk``. `None` if the run was not paused.
        """
        run = self._last_run
        if run is None or run.paused is None:
            return None
        return run.paused, run.pause_message or ""

    async def retry_failed(self) -> int:
        """Plan failed items again; each costs another credit. Returns how many."""
        return await self._replan(retry_items, self._store)

    async def release(self, *names: str) -> int:
        """Declare that held items made no track: they are planned again.

        If one did make a track, it is charged twice: check with the service first.

        Args:
            names: Their `custom_id`, their key as in ``errors.jsonl``, or the name that
                log messages show.

        Raises:
            BatchError: One does not exist or is not held; none was released.
        """
        return await self._replan(release_items, self._store, names)

    async def _replan(
        self, change: Callable[P, int], *args: P.args, **kwargs: P.kwargs
    ) -> int:
        if self._run is not None:
            raise BatchError(
                "items cannot be retried or released while the batch is running; wait"
                " until the run has ended"
            )
        count = await self._journal.call(change, *args, **kwargs)
        await self._journal.refresh_counts()
        return count


class Results:
    """An async iterator over the items of a run, as they end.

    Attributes:
        error: What ended the run early; raised at the end of the iteration.

    Example:
        from finetuning_async.batch import Batch

        async with Batch(client, "album") as batch:
            await batch.add([GenerationRequest("rain")])
            async for item in batch.run():
                print(item.state)
    """

    def __init__(self) -> None:
        self._items: deque[BatchItem] = deque()
        self._changed = anyio.Event()
        self._is_over = False
        self.error: Exception | None = None

    def put(self, item: BatchItem) -> None:
        """Add an item."""
        self._items.append(item)
        self._changed.set()

    def end(self, error: Exception | None = None) -> None:
        """End the iteration, with an `error` if one was the reason."""
        self.error, self._is_over = error, True
        self._changed.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> BatchItem:
        while not self._items and not self._is_over:
            self._changed = anyio.Event()
            await self._changed.wait()
        if self._items:
            return self._items.popleft()
        if self.error is not None:
            raise self.error
        raise StopAsyncIteration


def _first_error(error: Exception) -> Exception:
    """The first error of an exception group, however deeply nested."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
