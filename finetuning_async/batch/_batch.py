"""`Batch`: thousands of tracks into one folder, through any crash."""

from __future__ import annotations

import logging
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, Self

import anyio

from finetuning_async._errors import FinetuningError
from finetuning_async._runtime import in_thread
from finetuning_async.batch._admin import plan_failed, plan_held
from finetuning_async.batch._binding import ACCOUNT, bind, take_place
from finetuning_async.batch._client_access import allows_http_webhook
from finetuning_async.batch._existing import Existing, check_tracks, refusal
from finetuning_async.batch._folder import Folder
from finetuning_async.batch._input import check_rows
from finetuning_async.batch._item import BatchItem
from finetuning_async.batch._options import OnDoubt, OnExisting, Options
from finetuning_async.batch._outputs import Outputs
from finetuning_async.batch._run_context import RunContext
from finetuning_async.batch._runner import Runner
from finetuning_async.journal import (
    BatchError,
    Entry,
    Journal,
    Keys,
    NewItem,
    Request,
    Row,
    SQLiteStore,
    Taken,
    named,
    step,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from anyio.abc import TaskGroup

    from finetuning_async._client import AsyncClient
    from finetuning_async.journal import Added, Summary

logger = logging.getLogger("finetuning_async")

P = ParamSpec("P")


class Batch:
    """Many tracks into one folder: every one once, and paid once.

        from finetuning_async.batch import Batch

        requests = [GenerationRequest("rain"), GenerationRequest("wind", duration=30)]
        async with Batch(client, "album") as batch:
            await batch.add(requests)
            async for item in batch.run():
                print(item.path or item.error)

    What was begun is in the folder's journal, ``batch-journal``, which belongs to the
    client's account; the same program starts and resumes. Move a batch as a whole. One
    runner at a time works in a folder.

    Args:
        client: Creates and downloads; not closed here.
        folder: Where files go; made if need be.
        on_unknown: What becomes of a create that is in no list: sent again if five
            minutes later a complete list shows a later one of this batch and the
            credits show no charge, else held. With ``resubmit`` it is sent again, too,
            where the credits cannot be compared.
        max_credits: The most that all runs together may spend, those in doubt included;
            `None` for no limit.
        tags: Whether the MP3s get ID3 tags: title, tempo, key.
        existing: What to do where the folder holds files or results of rows that its
            journal does not know, as after a move without it: ``refuse``; ``adopt``
            them as done; or make the rows ``anew``, for further credits and under
            other names.
        options: All of these and more at once, instead.

    Raises:
        BatchLockedError: Another runner works there (on entering).
        BatchError: The folder cannot be used (on entering).
    """

    def __init__(
        self,
        client: AsyncClient,
        folder: str | os.PathLike[str],
        *,
        on_unknown: OnDoubt = "hold",
        max_credits: int | None = None,
        tags: bool = False,
        existing: OnExisting = "refuse",
        options: Options | None = None,
    ) -> None:
        self._client = client
        self._folder = Folder(Path(folder))
        self._options = options or Options(
            on_unknown=on_unknown,
            max_credits=max_credits,
            tags=tags,
            existing=existing,
        )
        self._keys = Keys()
        self._existing: Existing | None = None
        self._runner: Runner | None = None
        self._last: Runner | None = None
        self._store: SQLiteStore
        self._journal: Journal
        self._outputs = Outputs(self._folder)
        self._tasks: TaskGroup

    def __repr__(self) -> str:
        return f"<Batch {self._folder.path}>"

    async def __aenter__(self) -> Self:
        await in_thread(self._open)
        self._journal = Journal(self._store)
        try:
            await self._journal.count()
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
                    "%s is on a network file system (%s): a crash may damage the"
                    " journal there; a local folder is safe",
                    self._folder.path,
                    kind,
                )
            self._store = SQLiteStore(self._folder.journal)
            try:
                take_place(self._store, self._folder.journal)
            except BaseException:
                self._store.close()
                raise
        except BaseException:
            self._folder.leave_no_trace()
            self._folder.close()
            raise

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave; creates on the wire get their few seconds, the rest the next run."""
        self._tasks.cancel_scope.cancel()
        try:
            await self._tasks.__aexit__(None, None, None)
        finally:
            self._close()

    def _close(self) -> None:
        self._outputs.close()
        self._store.close()
        if not self._journal.summary.total:
            self._folder.leave_no_trace()
        self._folder.close()

    async def add(self, requests: Iterable[Request | Row]) -> Added:
        """Take requests in, all or none; what is known already stays as it is.

        A run that still creates takes them up; else the next one does.

        Args:
            requests: What to make; a `Row` adds a `custom_id`. They are read and
                checked in a worker thread.

        Returns:
            How many are new, and how many were known.

        Raises:
            BatchInputError: Some are wrong; nothing was taken in.
            BatchError: The folder holds files or results of some, and nobody has said
                what to do with them, or it is another account's; nothing was taken in.
            JournalError: A `custom_id` is known with another content.
        """
        lenient = allows_http_webhook(self._client)
        rows = (r if isinstance(r, Row) else Row(request=r) for r in requests)
        return await self.add_rows(check_rows(rows, allow_http_webhook=lenient))

    async def add_rows(self, rows: Iterable[Row]) -> Added:
        """The same for rows that were checked, as `read_rows` gives them."""
        await self._check_account()
        added = await self._take_in(await self._unknown(), rows)
        await self._journal.count()
        if self._runner is not None:
            self._runner.desk.tell()
        return added

    async def _unknown(self) -> Existing:
        """What the folder held, and the journal did not know, when this began."""
        if self._existing is None:
            existing = await in_thread(Existing.read, self._folder)
            self._existing = await self._journal.call(
                lambda: existing.beyond(self._store.rows())
            )
        return self._existing

    async def _take_in(self, existing: Existing, rows: Iterable[Row]) -> Added:
        """Take rows in, of which the folder may show what became of them before.

        Raises:
            BatchError: It does, and nobody has said what to do.
        """
        add = self._store.add
        items: Iterable[NewItem] = map(self._keys.item, rows)
        if not (existing.lines or existing.files):
            return await self._journal.call(add, items)
        items = await in_thread(list, items)
        told, self._existing = existing.told(items), None  # it changes now
        mode = self._options.existing
        if told and mode == "refuse":
            raise refusal(self._folder.path, told)
        if told and mode == "adopt":
            await check_tracks(
                self._client, self._folder.path, [one for _, one in told]
            )
            entries = {item.key: step(Entry(), one)[0] for item, one in told}
            return await self._journal.call(add, items, entries)
        if told:
            await in_thread(self._outputs.set_aside)
        taken = Taken(name for name, _ in existing.files.values())
        return await self._journal.call(add, (named(item, taken) for item in items))

    async def _check_account(self) -> None:
        """Take nothing into the journal of another account, as far as can be told."""
        if await self._journal.call(self._store.read_note, ACCOUNT) is None:
            return
        try:
            await bind(self._client, self._journal, str(self._folder.path))
        except BatchError:
            raise
        except FinetuningError as error:  # `run` asks again, and raises it
            logger.debug("the account is read later: %s", error)

    def run(self) -> Results:
        """Start or resume; iterate over the items as they end.

        An item ends as ``downloaded``, ``failed`` or ``held``. The iteration ends when
        this run can do no more; `summary` and `paused` tell what is left. Leaving it
        early stops nothing before the ``async with`` block ends.

        Raises:
            BatchError: It runs already; or, while iterating, the folder is another
                account's.
            AuthenticationError: The key does not hold (while iterating).
            FinetuningError: The service could not be asked at the start, or the
                journal not be written (while iterating).
        """
        if self._runner is not None:
            raise BatchError("this batch runs already")
        results = Results()
        folder = self._folder.path
        desk = RunContext(
            self._client,
            self._folder,
            self._journal,
            self._outputs,
            self._options,
            lambda item: results.put(BatchItem.of(item, folder)),
        )
        self._runner = Runner(desk)
        self._tasks.start_soon(self._work, self._runner, results)
        return results

    async def _work(self, runner: Runner, results: Results) -> None:
        error: Exception | None = None
        try:
            await runner.run()
        except Exception as caught:  # told to whoever iterates
            error = _single(caught)
        finally:
            self._last, self._runner = runner, None
            results.end(error)

    def stop(self) -> None:
        """Create nothing more; the run ends when what is under way has ended."""
        if self._runner is not None:
            self._runner.stop()

    @property
    def is_running(self) -> bool:
        """Whether a run is under way."""
        return self._runner is not None

    @property
    def summary(self) -> Summary:
        """The journal in numbers, now."""
        return self._journal.summary

    @property
    def paused(self) -> tuple[str, str] | None:
        """Why the last run creates no more, as a word and for people, if it does not.

        The word is ``stopped``, ``credits``, ``max_credits`` or ``disk``.
        """
        runner = self._runner or self._last
        if runner is None or runner.desk.paused is None:
            return None
        return runner.desk.paused, runner.desk.why or ""

    async def retry_failed(self) -> int:
        """Plan failed items again; each takes another credit. Returns how many."""
        return await self._replan(plan_failed, self._store)

    async def release(self, *names: str) -> int:
        """Say that held items made no track: they are planned again, and may pay twice.

        Args:
            names: Their `custom_id`, key, or the name that ``errors.jsonl`` shows.

        Raises:
            BatchError: One is not held, or not there; none was released.
        """
        return await self._replan(plan_held, self._store, names)

    async def _replan(
        self, change: Callable[P, int], *args: P.args, **kwargs: P.kwargs
    ) -> int:
        if self._runner is not None:
            raise BatchError("not while the batch runs")
        count = await self._journal.call(change, *args, **kwargs)
        await self._journal.count()
        return count


class Results:
    """The items of a run as they end.

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
        self._news = anyio.Event()
        self._is_over = False
        self.error: Exception | None = None

    def put(self, item: BatchItem) -> None:
        """Add an item."""
        self._items.append(item)
        self._news.set()

    def end(self, error: Exception | None = None) -> None:
        """Say that none will follow, and which `error` was the reason, if any."""
        self.error, self._is_over = error, True
        self._news.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> BatchItem:
        while not self._items and not self._is_over:
            self._news = anyio.Event()
            await self._news.wait()
        if self._items:
            return self._items.popleft()
        if self.error is not None:
            raise self.error
        raise StopAsyncIteration


def _single(error: Exception) -> Exception:
    """The first error in a group, or in groups of groups."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
