"""The engine: takes an item from where it stands to its end.

Each step is committed before the next, so that a crash between any two leaves a state
from which another process can go on. What differs between programs is their `Door`: a
batch in a folder, a worker of a job queue, and a call with an idempotency key.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from math import inf
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.lowlevel

from finetuning_async._errors import (
    FinetuningError,
    NotFoundError,
    SubmissionUnknownError,
    WaitTimeoutError,
)
from finetuning_async._logging import log_exceptions
from finetuning_async.journal._create import (
    Pause,
    end_of,
    is_in_doubt,
    reuse_seed,
)
from finetuning_async.journal._errors import JournalError, StaleItemError
from finetuning_async.journal._reconciliation import Reconciliation
from finetuning_async.journal._records import Item
from finetuning_async.journal._state_machine import (
    NEXT,
    Absent,
    Accepted,
    Action,
    Ended,
    Found,
    Held,
    Lost,
    NotSent,
    Rejected,
    Restarted,
    Saved,
    Sending,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from finetuning_async._pacing import CreditLimit
    from finetuning_async._submission import Submission
    from finetuning_async.journal._door import Door
    from finetuning_async.journal._journal import Journal
    from finetuning_async.journal._service import EngineOptions, Service
    from finetuning_async.journal._state_machine import Event

logger = logging.getLogger("finetuning_async")

SEND_WITHIN: Final = 60.0
"""Seconds within which the first byte of a create leaves, once it is committed to be
sent. Its process may be halted in between. It must then not send what another process
has proved absent meanwhile, so this is well below the time that such a proof takes."""

COMMIT_AGAIN: Final = (0.2, 1.0, 3.0)
"""Seconds before the id of an accepted track is committed again, as after a restart of
the database: it is paid for."""

_ORDER: Final = list(Action)


class Engine:
    """Processes the items of a journal.

    Args:
        service: The session of the client that creates and waits.
        journal: The items and their progress.
        options: Options.
        request: The request of an item, where the caller knows more of it than the
            journal.
        facts_of: As for `Reconciliation`.

    Attributes:
        service, journal, options: As given.
        reconciliation: Resolves what is in doubt.
        send_within: Seconds within which the first byte of a create must leave.
    """

    def __init__(
        self,
        service: Service,
        journal: Journal,
        options: EngineOptions,
        request: Callable[[Item], Any] = attrgetter("request"),
        facts_of: Callable[[Any], str] | None = None,
    ) -> None:
        self.service = service
        self._request = request
        self.journal = journal
        self.options = options
        self.reconciliation: Reconciliation = Reconciliation(
            service, journal, options, facts_of
        )
        self.send_within: float = min(SEND_WITHIN, options.settle / 5)

    def new_submission(self, item: Item, **options: Any) -> Submission:
        """The create of an item of a batch: a `Door.new_submission` that adds nothing.

        A person comes before a batch, which waits for as long as it takes.
        """
        request = self._request(item)
        submission = self.service.new_submission(
            request,
            validate=False,  # it was checked before it was added
            priority=request.priority or "low",
            max_wait=inf,
            **options,
        )
        reuse_seed(submission, item.entry.seed)
        return submission

    async def sending(self, submission: Submission) -> Sending:
        """The event that a create leaves now; it bounds when its first byte may."""
        now = await self.reconciliation.now()
        within = self.send_within
        submission.send_by = anyio.current_time() + within
        # The wall's too: it is the time in which others may take over; see there.
        submission.send_by_wall = time.time() + within
        return Sending(submission.seed, now)

    async def get(self, seq: int) -> Item:
        """An item as it is now."""
        return await self.journal.call(self.journal.store.get, seq)

    async def process_item(
        self,
        item: Item,
        door: Door,
        until: Action | None = None,
        *,
        is_sending: bool = False,
    ) -> tuple[Item, float | None]:
        """Take an item as far as possible.

        The caller holds the item's lease, or has found that its holder is dead: an item
        that is `sending` is taken for lost, and looked up.

        Args:
            item: The item.
            door: What the program decides.
            until: Stop before this action, or a later one.
            is_sending: Whether the caller has just committed the event of `sending`.

        Returns:
            The item as it is now; and after how many seconds to process it again,
            `None` if it has ended, or got as far as `until`.

        Raises:
            StaleItemError: Another process has changed it: read it again.
            JournalError: The journal cannot be used.
            FinetuningError: A track cannot be waited for, or the list not be read.
            Exception: What the door raised.
        """
        return await ItemProcessor(self, item, door, is_sending).run(until)


class ItemProcessor:
    """One item while it is processed; see `Engine.process_item`.

    Attributes:
        item: The item as it is now.
    """

    def __init__(
        self, engine: Engine, item: Item, door: Door, is_sending: bool
    ) -> None:
        self.item = item
        self._is_sending = is_sending
        self._engine = engine
        self._door = door
        self._track: Any = None
        self._steps = {
            Action.SEND: self._send,
            Action.LOOK_UP: self._look_up,
            Action.WAIT: self._wait,
            Action.DOWNLOAD: self._download,
        }

    async def run(self, until: Action | None = None) -> tuple[Item, float | None]:
        """Go on until the item has ended, has got as far as `until`, or must pause."""
        pause = await self._send() if self._is_sending else None
        # If the process that committed this create was only halted, its next commit
        # finds `unknown` instead of its `sending`, and stops there: see `JournalStore`.
        if self.item.entry.state == "sending":
            await self._record(Restarted(await self._engine.reconciliation.now()))
        last = _ORDER.index(until or Action.REPORT)
        while pause is None:
            action = NEXT[self.item.entry.state]
            if action is None or _ORDER.index(action) >= last:
                break
            pause = await self._steps[action]()
        return self.item, pause

    async def _record(self, event: Event, limits: Sequence[CreditLimit] = ()) -> None:
        # A task that is cancelled meanwhile hears what was committed.
        await self._engine.journal.record(self.item, event, self._keep, limits)
        await self._door.on_recorded(self.item)

    async def _send(self) -> float | None:
        ready = await self._door.before_create(self.item)
        if not isinstance(ready, Item):
            return ready
        self.item = ready
        refusals = 0
        while (error := await self._create()) is not None:
            refusals += 1
            reply = await self._door.on_refused(self.item, error, refusals)
            if isinstance(reply, Rejected):
                await self._record(reply)
                return None
            if isinstance(reply, Pause):
                return reply.seconds
            logger.warning(
                "%s was refused: %s; retrying in %.0f s",
                self.item.name,
                error.message,
                reply.seconds,
            )
            await anyio.sleep(reply.seconds)
        return None

    async def _create(self) -> FinetuningError | None:
        """Send one create; returns why it was not accepted, if that is known."""
        submission: Submission = self._door.new_submission(
            self.item,
            on_submitted=self._record_accepted,
            before_wait=self._record_not_sent,
            before_send=lambda: self._record_sending(submission),
        )
        try:
            self._track = await self._engine.service.submit(
                submission, self._door.timeout
            )
        except FinetuningError as error:
            return await self._on_error(submission, error)
        except BaseException:
            # Cancelled, or a callback failed.
            if submission.accepted is None:
                await self._give_up(submission)
            raise
        return None

    async def _record_sending(self, submission: Submission) -> None:
        """Commit that the create is to be sent; only then its first byte leaves.

        That is when its permit is there, not when it begins to wait for it. So an item
        in doubt after a crash is one whose create was really in flight.
        """
        # The caller may be cancelled: the last moment at which that is free.
        await anyio.lowlevel.checkpoint_if_cancelled()
        if self.item.entry.state == "sending":
            return  # committed by the caller; a second attempt has waited: `NotSent`
        await self._record(await self._engine.sending(submission), self._door.limits)

    async def _record_not_sent(self) -> None:
        """Commit that the last attempt, if any, was not accepted."""
        if self.item.entry.state != "sending":
            return
        try:
            await self._record(NotSent())
        except StaleItemError:
            with suppress(JournalError):
                await self._record_not_sent_late()
            raise

    async def _record_not_sent_late(self) -> None:
        """Commit the same, if another process took this one for dead meanwhile.

        Only if that is all that happened: no one has claimed the item since, and no
        earlier create of it was ever in doubt.
        """
        mine, item = self.item.entry, await self._engine.get(self.item.seq)
        is_same = (item.entry.seed, item.entry.fence) == (mine.seed, mine.fence)
        is_only_doubt = mine.holder is not None and mine.lost_at is None
        if item.entry.state == "unknown" and is_same and is_only_doubt:
            await self._engine.journal.record(item, Absent())

    async def _record_accepted(self, track: Any) -> None:
        # Committed before the client does anything else with the track, so that no
        # crash loses the id of a track that was paid.
        facts = self._door.facts(track)
        for pause in (*COMMIT_AGAIN, None):
            try:
                await self._record(Accepted(track.id, facts))
                break
            except StaleItemError:
                await self._record_late(track.id, facts)
                break
            except JournalError as error:
                if pause is None:
                    error.generation_id = track.id  # it is paid all the same
                    raise
                logger.warning(
                    "%s was accepted as %s, which could not be recorded: %s; trying"
                    " again in %.1f s",
                    self.item.name,
                    track.id,
                    error,
                    pause,
                )
            await anyio.sleep(pause)
        await self._engine.reconciliation.on_accepted(self.item, track)

    async def _record_late(self, track_id: str, facts: str | None) -> None:
        """Commit a track whose item another process has taken over.

        It took this one for dead. The response is certain evidence all the same.

        Raises:
            StaleItemError: The item has gone on without this track.
        """
        sent = self.item.entry.seed
        self.item = await self._engine.get(self.item.seq)
        entry = self.item.entry
        is_same = entry.seed == sent
        if entry.track_id == track_id:  # it was found in a listing
            await self._door.on_recorded(self.item)
        elif entry.state in ("unknown", "held") and is_same:
            await self._record(Found(track_id, facts))
        elif entry.state == "planned" and is_same and entry.lost_at is not None:
            # It was taken for absent, and is not sent again yet.
            now = await self._engine.reconciliation.known_now()
            await self._record(Sending(sent, now))
            await self._record(Accepted(track_id, facts))
        else:
            raise StaleItemError(
                f"{self.item.name} was accepted as {track_id}, but another worker took"
                f" it over, and it is {entry.state} now: it may be paid twice"
            )

    async def _on_error(
        self, submission: Submission, error: FinetuningError
    ) -> FinetuningError | None:
        """Commit what an error says about a create; returns it if nothing was charged.

        Raises:
            FinetuningError: It says nothing about the create: the track was accepted,
                or the journal could not be written.
        """
        if submission.accepted is not None or isinstance(error, JournalError):
            raise error
        if is_in_doubt(submission) or isinstance(error, SubmissionUnknownError):
            now = await self._engine.reconciliation.now()
            reason = submission.unknown_reason or error.message
            await self._record(Lost(now, reason))
            await self._door.on_lost(self.item, error)
            return None
        await self._record_not_sent()
        return error

    async def _give_up(self, submission: Submission) -> None:
        """Record a create that was cancelled, or whose callback failed.

        A disk or a database that does not respond is waited for only briefly: see
        `Job.linger`.
        """
        item, journal = self.item, self._engine.journal
        if item.entry.state != "sending":
            return
        moment = self._engine.service.account.service_time()

        def record() -> None:
            event: Event = NotSent()
            if is_in_doubt(submission):
                at = journal.store.now() if moment is None else moment
                event = Lost(at, "it was cancelled while it was in flight")
            with log_exceptions("recording a create that was given up"):
                self._keep(journal.record_here(item, event))

        await journal.start(record).linger()

    def _keep(self, item: Item) -> None:
        self.item = item

    async def _look_up(self) -> float | None:
        if self.item.entry.seed is None:
            await self._record(Held("it has no seed, so no listing can show its track"))
            return None
        await self._engine.reconciliation.reconcile(self.item)
        # Another process may have done it, and recorded what it found.
        item = await self._engine.get(self.item.seq)
        if item != self.item:
            self.item = item
            await self._door.on_recorded(item)
        if NEXT[item.entry.state] is not Action.LOOK_UP:
            return None
        pause = await self._door.on_in_doubt(item)
        return self._engine.options.look_every if pause is None else pause

    async def _wait(self) -> float | None:
        """Wait for the end of the track; returns the seconds to pause if it runs on."""
        track, self._track = self._track or self.item.entry.track_id, None
        try:
            final = await self._engine.service.wait(
                track, timeout=self._engine.options.wait_timeout, on_update=None
            )
        except WaitTimeoutError as error:
            logger.warning("%s: %s", self.item.name, error)
            return self._engine.options.look_every
        # The poller raises this only after several 404s and complete listings without
        # the track; a single 404 does not end an item.
        except NotFoundError as error:
            await self._record(Ended(True, None, error.code, str(error)))
            return None
        await self._record(end_of(final, self._door.facts(final)))
        return None

    async def _download(self) -> float | None:
        saved = await self._door.save(self.item)
        if not isinstance(saved, Saved):
            return saved
        await self._record(saved)
        return None
