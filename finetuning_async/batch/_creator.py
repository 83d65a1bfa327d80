"""`Creator`: sends the creates of a run in the order of the input.

At most a burst of creates waits for permits at a time, each without an intent. The
intent is committed when the permit is there, just before the first byte leaves; then
the next create may begin to wait. So a crash leaves in doubt those that were in flight,
and nothing else.
"""

from __future__ import annotations

import heapq
import logging
from typing import TYPE_CHECKING, Final

import anyio
import anyio.lowlevel

from finetuning_async._errors import FinetuningError, InsufficientCreditsError
from finetuning_async.batch._create import (
    MAX_REFUSALS,
    RETRY_DELAYS,
    Create,
    ends_item_if_repeated,
    lookalike_key,
    outcome_of,
)
from finetuning_async.journal import (
    Absent,
    Accepted,
    Lost,
    NotSent,
    Rejected,
    Sending,
    is_fatal,
)

if TYPE_CHECKING:
    from finetuning_async._api import Generation
    from finetuning_async.batch._completion import Completer
    from finetuning_async.batch._run_context import RunContext
    from finetuning_async.journal import Item

logger = logging.getLogger("finetuning_async")

CHUNK: Final = 50
BURST: Final = 10
"""Creates that wait for a permit at a time, if the client has no rate limit."""


class PendingCreate:
    """An item whose create waits or is in flight.

    Attributes:
        item: The item as it is now.
        scope: Cancels the create, unless it is in flight.
        holds_slot: Whether it holds one of the creator's slots.
        is_in_flight: Whether the service may accept it at this moment.
        tries: Transient failures so far.
    """

    def __init__(self, item: Item) -> None:
        self.item = item
        self.scope = anyio.CancelScope()
        self.holds_slot = True
        self.is_in_flight = False
        self.tries = 0


class Creator:
    """Sends the creates of one run.

    Args:
        context: What the parts of the run share.
        completer: Takes over what was accepted.

    Attributes:
        pending: Creates between planned and accepted.
        is_over: Whether nothing more will be created.
        is_idle: Whether no planned item may be sent now.
    """

    def __init__(self, context: RunContext, completer: Completer) -> None:
        self._context = context
        self._completer = completer
        self._queue: list[tuple[int, Item]] = []  # a heap, by `seq`
        self._cursor = 0
        self._planned_again: set[int] = set()
        limit = context.client.rate_limit_status().creates.limit
        # More of them wait for a permit than a burst holds, so that the limiter sees
        # that this is a batch, and sends them evenly.
        self._slots = anyio.Semaphore(2 * (limit or BURST))
        self.pending: set[PendingCreate] = set()
        self.is_over = False
        self.is_idle = False

    async def run(self) -> None:
        """Create until nothing is planned and nothing in doubt, or until paused."""
        context = self._context
        while context.paused is None:
            item = await self._next_item()
            self.is_idle = item is None
            if item is not None:
                await self._start(item)
            elif self.pending or context.doubts:
                # One of these may be planned again.
                await context.wait_for_change()
            else:
                break
        self.is_over = True
        context.notify()

    async def plan_again(self, item: Item) -> None:
        """Commit that a create in doubt is absent, and send it before later items."""
        # The commit makes it `planned`, so that `_load_more` could find it too, even
        # while the commit is awaited. Then it would be sent twice.
        self._planned_again.add(item.seq)
        planned = await self._context.record(item, Absent())
        heapq.heappush(self._queue, (planned.seq, planned))
        self._context.notify()

    def stop(self) -> None:
        """Cancel the creates that wait; those in flight go on."""
        for pending in self.pending:
            if not pending.is_in_flight:
                pending.scope.cancel()

    async def _next_item(self) -> Item | None:
        """The next planned item, unless a lookalike of it is in doubt."""
        blocked = {lookalike_key(item) for item in self._context.doubts.values()}
        blocked -= {None}
        skipped: list[tuple[int, Item]] = []
        try:
            while self._queue or await self._load_more():
                if not self._queue:
                    continue
                seq, item = heapq.heappop(self._queue)
                if not blocked or lookalike_key(item) not in blocked:
                    return item
                skipped.append((seq, item))
            return None
        finally:
            for pair in skipped:
                heapq.heappush(self._queue, pair)

    async def _load_more(self) -> bool:
        journal = self._context.journal
        more = await journal.call(journal.store.claim, self._cursor, CHUNK)
        for item in more:
            self._cursor = item.seq
            if item.seq not in self._planned_again:
                heapq.heappush(self._queue, (item.seq, item))
        return bool(more)

    async def _start(self, item: Item) -> None:
        """Start a create once there is a slot, and a credit and disk space for it."""
        await self._slots.acquire()
        while not self._may_create():
            await self._context.wait_for_change()
        if self._context.paused is not None:
            self._slots.release()
            return
        pending = PendingCreate(item)
        self.pending.add(pending)
        self._context.tasks.start_soon(self._run_create, pending)

    def _may_create(self) -> bool:
        """Whether to go on, to one more create or to a pause that this decides.

        `False` if it depends on how the pending creates end.
        """
        context = self._context
        free, needed = context.folder.free_bytes(), context.options.free_bytes
        if free < needed:
            context.pause(
                "disk",
                f"only {free / 1e6:.1f} MB are free on the disk of"
                f" {context.folder.path}, but tracks in progress may need"
                f" {needed / 1e6:.0f} MB",
            )
        most = context.options.max_credits
        if most is None or context.paused is not None:
            return True
        # A pending create without an intent is not in `spent` yet, and may still end
        # without a charge. Only when none is left is the limit really reached.
        coming = sum(one.item.entry.state == "planned" for one in self.pending)
        if context.journal.summary.spent + coming < most:
            return True
        if not self.pending:
            context.pause(
                "max_credits",
                f"{most} credits are spent, the most that max_credits allows",
            )
        return context.paused is not None

    async def _run_create(self, pending: PendingCreate) -> None:
        try:
            with pending.scope:
                await self._create(pending)
        finally:
            self._release_slot(pending)
            self.pending.discard(pending)
            self._context.notify()

    async def _create(self, pending: PendingCreate) -> None:
        create = Create(
            self._context.client,
            pending.item.request,
            pending.item.entry.seed,
            before_wait=lambda: self._record_not_sent(pending),
            before_send=lambda: self._record_sending(pending, create),
            on_accepted=lambda track: self._record_accepted(pending, track),
        )
        try:
            track = await create.send()
        except FinetuningError as error:
            await self._on_error(pending, create, error)
        except BaseException:
            # Cancelled, or a callback failed. Without a byte sent, the intent must not
            # stay: the next run would look for a create that never left. In doubt, it
            # does stay, and the next run turns it into `unknown`.
            if not (create.is_accepted or create.is_in_doubt):
                with anyio.CancelScope(shield=True):
                    await self._record_not_sent(pending)
            raise
        else:
            self._end_flight(pending)
            self._completer.start(pending.item, track)

    async def _record_sending(self, pending: PendingCreate, create: Create) -> None:
        """Commit the intent; only then the first byte leaves."""
        # `stop` may have cancelled this create: the last moment at which that is free.
        await anyio.lowlevel.checkpoint_if_cancelled()
        # From here on `stop` lets it go on. A reading of the credits that began before
        # sees by the changes that it is worthless.
        pending.is_in_flight = True
        self._context.reconciler.in_flight += 1
        self._context.reconciler.in_flight_changes += 1
        sending = Sending(create.seed, self._context.now)
        pending.item = await self._context.record(pending.item, sending)
        # The next item may begin to wait for its permit now.
        self._release_slot(pending)

    async def _record_not_sent(self, pending: PendingCreate) -> None:
        """Commit that the last attempt, if any, was not accepted."""
        if pending.item.entry.state == "sending":
            pending.item = await self._context.record(pending.item, NotSent())
        self._end_flight(pending)

    def _end_flight(self, pending: PendingCreate) -> None:
        if pending.is_in_flight:
            pending.is_in_flight = False
            self._context.reconciler.in_flight -= 1
            self._context.reconciler.in_flight_changes += 1

    def _release_slot(self, pending: PendingCreate) -> None:
        if pending.holds_slot:
            pending.holds_slot = False
            self._slots.release()

    async def _record_accepted(self, pending: PendingCreate, track: Generation) -> None:
        # Committed before the client does anything else with the track, so that no
        # crash loses the id of a track that was paid.
        pending.item = await self._context.record(pending.item, Accepted(track.id))
        await self._context.reconciler.on_accepted(pending.item, track)

    async def _on_error(
        self, pending: PendingCreate, create: Create, error: FinetuningError
    ) -> None:
        outcome = outcome_of(create, error)
        if outcome == "lost":
            await self._on_lost(pending, error)
        elif outcome == "rejected":
            self._end_flight(pending)
            rejected = Rejected(error.code, str(error))
            await self._context.finish(pending.item, rejected)
        else:
            await self._on_refused(pending, error)

    async def _on_lost(self, pending: PendingCreate, error: FinetuningError) -> None:
        self._end_flight(pending)
        lost = Lost(self._context.now, error.message)
        pending.item = await self._context.record(pending.item, lost)
        self._context.doubts[pending.item.seq] = pending.item

    async def _on_refused(self, pending: PendingCreate, error: FinetuningError) -> None:
        """Handle a create that the service did not accept this time."""
        await self._record_not_sent(pending)
        if isinstance(error, InsufficientCreditsError):
            self._context.pause("credits", str(error))
            self.stop()
        elif is_fatal(error):
            raise error
        elif ends_item_if_repeated(error) and pending.tries + 1 >= MAX_REFUSALS:
            rejected = Rejected(error.code, str(error))
            await self._context.finish(pending.item, rejected)
        else:
            await self._retry(pending, error)

    async def _retry(self, pending: PendingCreate, error: FinetuningError) -> None:
        delay = RETRY_DELAYS[min(pending.tries, len(RETRY_DELAYS) - 1)]
        delay = max(delay, error.retry_after or 0.0)
        pending.tries += 1
        logger.warning(
            "%s was refused: %s; retrying in %.0f s",
            pending.item.name,
            error.message,
            delay,
        )
        await anyio.sleep(delay)
        await self._create(pending)
