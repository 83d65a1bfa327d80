"""`Run`: the items of one run of a batch, side by side.

Each item in progress has a task that takes it through the engine. At most two bursts of
creates waits for permits at a time, each without a commit to send it. That commit is
made when the permit is there, just before the first byte leaves; then the next create
may begin to wait. So a crash leaves in doubt those that were in flight, and nothing
else. An item in doubt holds up no other. When nothing more may be spent, the tracks in
progress are still completed.
"""

from __future__ import annotations

import heapq
import logging
from typing import TYPE_CHECKING, Any, Final

import anyio

from finetuning_async._errors import (
    APIStatusError,
    BudgetExceededError,
    FinetuningError,
    InsufficientCreditsError,
)
from finetuning_async._runtime import in_thread
from finetuning_async.batch._audio_files import save
from finetuning_async.batch._options import limits_of
from finetuning_async.batch._outputs import result_json
from finetuning_async.journal import (
    Door,
    Pause,
    Retry,
    is_fatal,
    lookalike_key,
    retry_delay,
    usual_reply,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from anyio.abc import TaskGroup

    from finetuning_async._client import AsyncClient
    from finetuning_async._pacing import CreditLimit
    from finetuning_async._submission import Submission
    from finetuning_async.batch._folder import Folder
    from finetuning_async.batch._options import Options
    from finetuning_async.batch._outputs import Outputs
    from finetuning_async.journal import Engine, Item, Rejected, Saved

logger = logging.getLogger("finetuning_async")

CHUNK: Final = 50
BURST: Final = 10
"""Creates that wait for a permit at a time, if the client has no rate limit."""

DOWNLOAD_DELAYS: Final = (5.0, 20.0, 60.0)
"""Seconds after each failed download of one run; the next run tries three times too."""


class Run:
    """The items of one run.

    Args:
        client: Creates, waits and downloads.
        folder: Where files are saved.
        engine: Takes each item through its steps.
        outputs: ``results.jsonl`` and ``errors.jsonl``.
        options: Options of the batch.
        on_ended: Called with each item that is downloaded, failed or held.

    Attributes:
        limits: What all runs together may spend.
        downloads: Limits the downloads at a time.
        paused: Why nothing more is created: ``stopped``, ``credits``, ``max_credits``,
            ``budget``, ``disk``; `None` while creating goes on.
        pause_message: The same for people.
    """

    def __init__(
        self,
        client: AsyncClient,
        folder: Folder,
        engine: Engine,
        outputs: Outputs,
        options: Options,
        on_ended: Callable[[Item], None],
    ) -> None:
        self.client = client
        self.folder = folder
        self.engine = engine
        self.outputs = outputs
        self.options = options
        self.on_ended = on_ended
        self.limits = limits_of(options)
        self.downloads = anyio.Semaphore(options.downloads)
        self.paused: str | None = None
        self.pause_message: str | None = None
        self._tasks: TaskGroup
        self._planned: list[tuple[int, Item]] = []  # a heap, by `seq`
        self._cursor = 0
        # More creates wait for a permit than a burst holds, so that the limiter sees
        # that this is a batch, and sends them evenly.
        self._waiting = 2 * (client.rate_limit_status().creates.limit or BURST)
        self._resumed: set[int] = set()
        self._doors: set[ItemDoor] = set()
        self._creating: set[ItemDoor] = set()
        self._doubts: set[ItemDoor] = set()
        self._changed = anyio.Event()

    async def process(self, items: Iterable[Item]) -> None:
        """Take up items in progress, and create what is planned, until all is done.

        Raises:
            FinetuningError: As `Engine.process_item`.
        """
        self.engine.reconciliation.on_found = self._take_up
        async with anyio.create_task_group() as self._tasks:
            for item in items:
                self._resumed.add(item.seq)
                self._start(ItemDoor(self, item))
            await self._create_all()
            # A run that creates nothing more cannot bring the later create that a proof
            # of absence needs. What is in doubt is left to the next run.
            while self.paused is not None and len(self._doors) > len(self._doubts):
                await self._changed.wait()
            for door in self._doubts:
                door.scope.cancel()

    async def _create_all(self) -> None:
        """Create until nothing is planned and nothing in doubt, or until paused."""
        while self.paused is None:
            changed = self._changed
            is_free = sum(door.holds_slot for door in self._creating) < self._waiting
            item = await self._next_item() if is_free else None
            if item is not None and self._may_create():
                if self.paused is None:
                    self._start(ItemDoor(self, item, holds_slot=True))
                continue
            if item is not None:
                self.plan(item)
            elif not self._creating and not self._doubts:
                return
            await changed.wait()

    async def _next_item(self) -> Item | None:
        """The next planned item, unless a lookalike of it is in doubt."""
        blocked = {lookalike_key(door.item) for door in self._doubts} - {None}
        skipped: list[tuple[int, Item]] = []
        try:
            while self._planned or await self._load_more():
                if not self._planned:
                    continue
                seq, item = heapq.heappop(self._planned)
                if not blocked or lookalike_key(item) not in blocked:
                    return item
                skipped.append((seq, item))
            return None
        finally:
            for pair in skipped:
                heapq.heappush(self._planned, pair)

    async def _load_more(self) -> bool:
        journal = self.engine.journal
        more = await journal.call(journal.store.claim, self._cursor, CHUNK)
        for item in more:
            self._cursor = item.seq
            # One that was in doubt when the run began is planned by its own task.
            if item.seq not in self._resumed:
                self.plan(item)
        return bool(more)

    def plan(self, item: Item) -> None:
        """Create an item before later ones."""
        heapq.heappush(self._planned, (item.seq, item))

    def _may_create(self) -> bool:
        """Whether to go on, to one more create or to a pause that this decides.

        `False` if it depends on how the creates in progress end.
        """
        free, needed = self.folder.free_bytes(), self.options.free_bytes
        if free < needed:
            self.pause(
                "disk",
                f"only {free / 1e6:.1f} MB are free on the disk of {self.folder.path},"
                f" but tracks in progress may need {needed / 1e6:.0f} MB",
            )
        if self.paused is not None:
            return True
        # A create that is not committed to be sent is reserved, and may still end
        # without a charge. Only when none is left is the limit really reached.
        reserved = sum(door.item.entry.state == "planned" for door in self._creating)
        used = self.engine.journal.summary.spent + reserved
        if all(limit.allows(used) for limit in self.limits):
            return True
        if not self._creating:
            most = self.options.max_credits
            self.pause(
                "max_credits",
                f"{most} credits are spent, the most that max_credits allows",
            )
        return self.paused is not None

    def pause(self, code: str, message: str) -> None:
        """Create nothing more; the first reason is kept."""
        if self.paused is None:
            self.paused, self.pause_message = code, message
            self.notify()

    def stop(self, code: str, message: str) -> None:
        """The same, and cancel the creates that wait; those in flight go on."""
        self.pause(code, message)
        for door in self._creating:
            if door.item.entry.state == "planned":
                door.scope.cancel()

    def notify(self) -> None:
        """Look again at what to do."""
        # An event is set only once: those that wait now hold the old one.
        self._changed.set()
        self._changed = anyio.Event()

    def sort(self, door: ItemDoor) -> None:
        """Note the state of a door's item."""
        state = door.item.entry.state
        for doors, states in (
            (self._creating, ("planned", "sending")),
            (self._doubts, ("unknown",)),
        ):
            (doors.add if state in states else doors.discard)(door)
        self.notify()

    def _take_up(self, found: Item) -> None:
        """Complete an item that was held before its track was found."""
        if all(door.item.seq != found.seq for door in self._doubts):
            self._start(ItemDoor(self, found))

    def _start(self, door: ItemDoor) -> None:
        self._doors.add(door)
        self.sort(door)
        self._tasks.start_soon(self._work, door)

    async def _work(self, door: ItemDoor) -> None:
        try:
            with door.scope:
                await self._take_to_end(door)
        finally:
            for doors in (self._doors, self._creating, self._doubts):
                doors.discard(door)
            self.notify()

    async def _take_to_end(self, door: ItemDoor) -> None:
        while True:
            item, pause = await self.engine.process_item(door.item, door)
            state = item.entry.state
            if pause is None:
                await self._finish(item)
                return
            if state == "planned":
                self.plan(item)
                return
            if state != "unknown":
                return  # a track or a file that takes too long is left to the next run
            await anyio.sleep(pause)

    async def _finish(self, item: Item) -> None:
        """Report an item that has ended, and write its line."""
        try:
            await in_thread(self.outputs.append, item)
        except OSError as error:  # the journal has it, and the next run writes the line
            self.pause("disk", str(error))
        self.on_ended(item)


class ItemDoor(Door):
    """What a run decides about one of its items.

    Args:
        run: The run.
        item: The item.
        holds_slot: Whether it is one of the burst of creates that may wait.

    Attributes:
        item: The item as it is now.
        holds_slot: As given, until its create is sent.
        scope: Cancels its task.
    """

    def __init__(self, run: Run, item: Item, *, holds_slot: bool = False) -> None:
        self.item = item
        self.holds_slot = holds_slot
        self.scope = anyio.CancelScope()
        self._run = run

    @property
    def limits(self) -> tuple[CreditLimit, ...]:
        """Those of the run."""
        return self._run.limits

    async def before_create(self, item: Item) -> Item | float:
        """Read the credits now and then; an item without a slot waits for one."""
        if not self.holds_slot:
            return 0.0
        await self._run.engine.reconciliation.advance_baseline()
        return item

    def new_submission(self, item: Item, **callbacks: Any) -> Submission:
        """As it is."""
        return self._run.engine.new_submission(item, **callbacks)

    async def on_recorded(self, item: Item) -> None:
        """Let the next create wait once this one is sent."""
        self.item = item
        if item.entry.state != "planned":
            self.holds_slot = False
        self._run.sort(self)

    async def on_refused(
        self, item: Item, error: FinetuningError, refusals: int
    ) -> Retry | Pause | Rejected:
        """Try again here, unless nothing can be created any more."""
        if isinstance(error, InsufficientCreditsError):
            self._run.stop("credits", str(error))
            return Pause(0.0)
        if isinstance(error, BudgetExceededError):
            if error.retry_after is not None:
                return Retry(error.retry_after)
            self._run.pause("budget", str(error))
            return Pause(0.0)
        if is_fatal(error):
            raise error
        reply = usual_reply(error, refusals)
        return Retry(retry_delay(error, refusals)) if reply is None else reply

    def facts(self, track: Any) -> str | None:
        """Of an ended track."""
        return result_json(track) if track.is_final else None

    async def save(self, item: Item) -> Saved | float:
        """Download it, or leave it to the next run."""
        run = self._run
        for delay in DOWNLOAD_DELAYS:
            try:
                return await self._download(item)
            except FinetuningError as error:
                # A 401 or 403 may come from the host of the file: it ends no batch.
                if is_fatal(error) and not isinstance(error, APIStatusError):
                    raise
                logger.warning("%s was not saved: %s; retrying", item.name, error)
            except OSError as error:
                run.pause("disk", f"{run.folder.location}: {error}")
                return 0.0
            await anyio.sleep(delay)
        return 0.0

    async def _download(self, item: Item) -> Saved:
        run = self._run
        async with run.downloads:
            saved = await save(run.client, run.folder, item, run.options)
        if saved.file not in (None, item.saved_as):
            logger.warning(
                "%s exists and does not belong to this batch; %s is saved as %s",
                run.folder.location_of(item.saved_as),
                item.name,
                saved.file,
            )
        return saved
