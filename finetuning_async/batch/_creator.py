"""Creates in the order of the input, up to a burst at a time.

A create stands in line without an intent. Its intent is committed when its turn has
come; then the next one may stand in line. So a crash leaves in doubt what was on the
wire, and nothing else.
"""

from __future__ import annotations

import heapq
import logging
from typing import TYPE_CHECKING, Final

import anyio
import anyio.lowlevel

from finetuning_async._errors import FinetuningError, InsufficientCreditsError
from finetuning_async.batch._client_access import Create
from finetuning_async.batch._create_outcome import (
    PAUSES,
    REFUSALS,
    fate_of,
    identity,
    is_numbered,
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
    from finetuning_async.batch._completion import Follower
    from finetuning_async.batch._run_context import RunContext
    from finetuning_async.journal import Item

logger = logging.getLogger("finetuning_async")

CHUNK: Final = 50
BURST: Final = 10
"""Creates that stand in line at a time, when the client is not paced."""


class PendingCreate:
    """One item on its way from planned to what becomes of it.

    Attributes:
        item: As it stands now.
        scope: Ends it, unless its create is on the wire.
        in_line: Whether it holds one of the places in line.
        is_on_wire: Whether its create may be accepted at this moment.
        tries: Passing failures so far.
    """

    def __init__(self, item: Item) -> None:
        self.item = item
        self.scope = anyio.CancelScope()
        self.in_line = True
        self.is_on_wire = False
        self.tries = 0


class Creator:
    """Makes the creates of one run.

    Args:
        desk: What the run shares.
        follower: Takes over what was accepted.

    Attributes:
        makes: What is between planned and accepted.
        is_over: Whether nothing more will be created.
        is_idle: Whether nothing that is planned may be sent now.
    """

    def __init__(self, desk: RunContext, follower: Follower) -> None:
        self._desk = desk
        self._follower = follower
        self._again: list[tuple[int, Item]] = []
        self._cursor = 0
        self._reserved: set[int] = set()
        limit = desk.client.rate_limit_status().creates.limit
        self._slots = anyio.Semaphore(limit or BURST)
        self.makes: set[PendingCreate] = set()
        self.is_over = False
        self.is_idle = False

    async def run(self) -> None:
        """Create until nothing is planned and nothing in doubt, or until paused."""
        desk = self._desk
        while desk.paused is None:
            item = await self._next()
            self.is_idle = item is None
            if item is not None:
                await self._admit(item)
            elif self.makes or desk.doubts:
                await desk.wait_for_change()
            else:
                break
        self.is_over = True
        desk.tell()

    async def plan_again(self, item: Item) -> None:
        """Commit that a create in doubt is absent, and plan it before later ones."""
        self._reserved.add(item.seq)  # or it could be claimed, too, and sent twice
        planned = await self._desk.record(item, Absent())
        heapq.heappush(self._again, (planned.seq, planned))
        self._desk.tell()

    def stop(self) -> None:
        """Leave the line; what is on the wire goes on."""
        for make in self.makes:
            if not make.is_on_wire:
                make.scope.cancel()

    async def _next(self) -> Item | None:
        """The next planned item, unless one like it is in doubt."""
        twins = {identity(item) for item in self._desk.doubts.values()} - {None}
        passed: list[tuple[int, Item]] = []
        try:
            while self._again or await self._claim():
                if not self._again:
                    continue
                place, item = heapq.heappop(self._again)
                if not twins or identity(item) not in twins:
                    return item
                passed.append((place, item))
            return None
        finally:
            for pair in passed:
                heapq.heappush(self._again, pair)

    async def _claim(self) -> bool:
        journal = self._desk.journal
        more = await journal.call(journal.store.claim, self._cursor, CHUNK)
        for item in more:
            self._cursor = item.seq
            if item.seq not in self._reserved:
                heapq.heappush(self._again, (item.seq, item))
        return bool(more)

    async def _admit(self, item: Item) -> None:
        """Let an item stand in line, once there is a place and it may be paid."""
        await self._slots.acquire()
        while not self._may_spend():
            await self._desk.wait_for_change()
        if self._desk.paused is not None:
            self._slots.release()
            return
        make = PendingCreate(item)
        self.makes.add(make)
        self._desk.tasks.start_soon(self._make, make)

    def _may_spend(self) -> bool:
        """Whether one more may be made; `False` if only what is on its way can tell."""
        desk = self._desk
        free = desk.folder.free_bytes()
        if free < desk.options.free_bytes:
            need = desk.options.free_bytes
            desk.pause(
                "disk",
                f"only {free / 1e6:.1f} MB are free on the disk of {desk.folder.path},"
                f" and tracks that are made at a time may need {need / 1e6:.0f} MB",
            )
        most = desk.options.max_credits
        if most is None or desk.paused is not None:
            return True
        coming = sum(make.item.entry.state == "planned" for make in self.makes)
        if desk.journal.summary.spent + coming < most:
            return True
        if not self.makes:
            desk.pause("max_credits", f"{most} credits are spent, the most allowed")
        return desk.paused is not None

    async def _make(self, make: PendingCreate) -> None:
        try:
            with make.scope:
                await self._create(make)
        finally:
            self._leave_line(make)
            self.makes.discard(make)
            self._desk.tell()

    async def _create(self, make: PendingCreate) -> None:
        create = Create(
            self._desk.client,
            make.item.request,
            make.item.entry.seed,
            leaving=lambda: self._leaving(make, create),
            back=lambda: self._back(make),
            accepted=lambda track: self._accepted(make, track),
        )
        try:
            track = await create.send()
        except FinetuningError as error:
            await self._not_accepted(make, create, error)
        except BaseException:
            if not (create.is_accepted or create.is_in_doubt):
                with anyio.CancelScope(shield=True):
                    await self._back(make)
            raise
        else:
            self._off_wire(make)
            self._follower.start(make.item, track)

    async def _leaving(self, make: PendingCreate, create: Create) -> None:
        """Commit the intent; only then the first byte leaves."""
        await anyio.lowlevel.checkpoint_if_cancelled()
        make.is_on_wire = True
        self._desk.detective.on_wire += 1
        self._desk.detective.moves += 1
        sending = Sending(create.seed, self._desk.now)
        make.item = await self._desk.record(make.item, sending)
        self._leave_line(make)

    async def _back(self, make: PendingCreate) -> None:
        """Commit that the last attempt was not accepted."""
        if make.item.entry.state == "intent":
            make.item = await self._desk.record(make.item, NotSent())
        self._off_wire(make)

    def _off_wire(self, make: PendingCreate) -> None:
        if make.is_on_wire:
            make.is_on_wire = False
            self._desk.detective.on_wire -= 1
            self._desk.detective.moves += 1

    def _leave_line(self, make: PendingCreate) -> None:
        if make.in_line:
            make.in_line = False
            self._slots.release()

    async def _accepted(self, make: PendingCreate, track: Generation) -> None:
        make.item = await self._desk.record(make.item, Accepted(track.id))
        await self._desk.detective.accepted(make.item, track)

    async def _not_accepted(
        self, make: PendingCreate, create: Create, error: FinetuningError
    ) -> None:
        fate = fate_of(create, error)
        if fate == "lost":
            await self._lost(make, error)
        elif fate == "rejected":
            self._off_wire(make)
            await self._desk.end(make.item, Rejected(error.code, str(error)))
        else:
            await self._refused(make, error)

    async def _lost(self, make: PendingCreate, error: FinetuningError) -> None:
        self._off_wire(make)
        lost = Lost(self._desk.now, error.message)
        make.item = await self._desk.record(make.item, lost)
        self._desk.doubts[make.item.seq] = make.item

    async def _refused(self, make: PendingCreate, error: FinetuningError) -> None:
        """A create that the service does not take now."""
        await self._back(make)
        if isinstance(error, InsufficientCreditsError):
            self._desk.pause("credits", str(error))
            self.stop()
        elif is_fatal(error):
            raise error
        elif is_numbered(error) and make.tries + 1 >= REFUSALS:
            await self._desk.end(make.item, Rejected(error.code, str(error)))
        else:
            await self._try_again(make, error)

    async def _try_again(self, make: PendingCreate, error: FinetuningError) -> None:
        pause = PAUSES[min(make.tries, len(PAUSES) - 1)]
        pause = max(pause, error.retry_after or 0.0)
        make.tries += 1
        logger.warning(
            "%s is tried again in %.0f s: %s", make.item.name, pause, error.message
        )
        await anyio.sleep(pause)
        await self._create(make)
