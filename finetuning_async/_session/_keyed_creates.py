"""Creates that the client's journal records, so that a key is paid once.

A call with a key takes one *pass* after another, each under the lock of its key, and
each by what the journal says then:

    no entry                          added as planned, with its lease; sent
    planned, its holder is dead       claimed; sent
    sending, its holder is dead       looked up
    leased by a holder that lives     another pass in a moment
    unknown or held                   looked up; sent again if it is proved absent
    a track is known                  given back

The engine does each step, and commits it before the next. A call that fails before
anything was sent deletes its entry: what was reported as failed is never paid later.

A create that need not wait takes its permit first, and its entry is added as `sending`:
one commit instead of two. Where the key is known after all, the permit goes back.
"""

from __future__ import annotations

import logging
import re
import secrets
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import anyio

from finetuning_async._api import Call, check_timeout, parsing
from finetuning_async._constants import READ_TIMEOUT
from finetuning_async._errors import (
    APITimeoutError,
    FinetuningError,
    InvalidRequestError,
    NotFoundError,
)
from finetuning_async._session._account_journal import (
    AccountJournal,
    check_key,
    check_same_request,
    new_item,
)
from finetuning_async._session._journal_budgets import (
    JournalBudgets,
    book_and_submit,
)
from finetuning_async._session._keyed_door import (
    KeyedCall,
    KeyedDoor,
    NotWanted,
    facts_of,
    let_go,
    read_credits,
)
from finetuning_async._session._open_calls import closed_error
from finetuning_async.journal import (
    Action,
    Ended,
    Engine,
    EngineOptions,
    Entry,
    JournalEntry,
    StaleItemError,
    step,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from finetuning_async._api import Generation, SoundEffect
    from finetuning_async._session._account_journal import RecordedSession
    from finetuning_async._session._journal_source import JournalSource
    from finetuning_async._session._open_journal import OpenJournal
    from finetuning_async._submission import Submission
    from finetuning_async.journal import Item

logger = logging.getLogger("finetuning_async")

GENERATED: Final = re.compile("auto-[0-9a-f]{32}")
"""The keys of creates that were made without one."""

POLL: Final = (0.25, 0.5, 1.0)
"""Seconds between passes while another process has the entry; the last repeats."""


class KeyedCreates:
    """The creates of one client in one loop, recorded in its journal.

    Args:
        session: The client; what it sends itself is not recorded.
        source: Its journal.

    Attributes:
        journal: The account's part of it.
    """

    def __init__(self, session: RecordedSession, source: JournalSource) -> None:
        self._session = session
        self._source = source
        self._engine: Engine | None = None
        self.journal: AccountJournal = AccountJournal(session, source)

    async def create(self, submission: Submission, timeout: float | None) -> Any:
        """Create a track once for its key, or give back the one that there is.

        Raises:
            InvalidRequestError: The key is not valid.
            IdempotencyConflictError: The key is known with other content.
            SubmissionUnknownError: Its create is in doubt.
            JournalError: The journal cannot be used; nothing was sent.
            FinetuningError: As `Session.submit`.
        """
        key = submission.request.idempotency_key
        if key is None:
            key = f"auto-{secrets.token_hex(16)}"
            call = KeyedCall(key=key, submission=submission, is_named=False)
        else:
            check_key(key, "idempotency_key")
            call = KeyedCall(key=key, submission=submission)
        return await self._run(call, timeout)

    async def book(self, submission: Submission, timeout: float | None) -> Any:
        """Send a create that a batch records; see `book_and_submit`."""
        return await book_and_submit(
            await self.journal.opened(),
            JournalBudgets(self._session.settings, submission),
            submission,
            lambda: self._session.submit(submission, timeout),
        )

    async def resume(self, key: str, timeout: float | None, **options: Any) -> Any:
        """The accepted track of a key that is known, or its id.

        Args:
            key: The key.
            timeout: Seconds for all of it; `None` for no limit.
            options: Of its create, should it be sent; see `Session.new_submission`.

        Raises:
            InvalidRequestError: It is not.
            FinetuningError: As `create`.
        """
        check_key(key)
        item = await self._find(key, timeout)
        if item.entry.track_id is not None:  # even with a timeout of 0
            return JournalEntry.of(item).generation or item.entry.track_id
        submission = self._resumed(item, options)
        call = KeyedCall(key=key, submission=submission, is_new=False, options=options)
        return await self._run(call, timeout)

    def _resumed(self, item: Item, options: Mapping[str, Any]) -> Submission:
        """The create of an entry, for the one for whom it was added."""
        chosen = {"share": item.share, **options}
        return self._session.new_submission(item.request, validate=False, **chosen)

    async def _find(self, key: str, timeout: float | None) -> Item:
        """The entry of a key; a timeout of 0 does not bound reading the account."""
        deadline = inf if not timeout else anyio.current_time() + check_timeout(timeout)
        with self._session.calls.scope(deadline):
            item = await (await self.journal.opened()).find(key)
            if item is None:
                raise unknown_key_error(key)
            return item
        if self._session.calls.is_closing:
            raise closed_error()
        raise APITimeoutError(
            f"timed out after {timeout or 0.0:.1f} s opening the journal, which takes a"
            " reading of the account; nothing was sent",
            safe_to_retry=True,
        )

    async def carry_on(self, item: Item) -> Any:
        """The same for `resume_all`: it does not give up where a caller would.

        Returns:
            The track; `None` if nothing is to be made of the entry, or it was deleted.
        """
        call = KeyedCall(
            key=item.key,
            submission=self._resumed(item, {}),
            is_named=GENERATED.fullmatch(item.key) is None,
            is_new=False,
            is_patient=True,
        )
        try:
            return await self._run(call, None)
        except NotWanted:
            return None

    async def wait(self, track: Generation | SoundEffect | str, **options: Any) -> Any:
        """Wait for a final state, as `Session.wait`, and record it."""
        track_id = track if isinstance(track, str) else track.id
        waiting = self._session.wait(track, **options)
        del track  # thousands of these calls may wait at once
        try:
            final = await waiting
        except NotFoundError as error:
            ended = Ended(True, None, error.code, str(error))
            await self.journal.record_end(track_id, ended)
            raise
        await self.journal.record_final(final)
        return final

    # One call, from its first pass to its track.

    async def _run(self, call: KeyedCall, timeout: float | None) -> Any:
        if timeout is not None:
            call.submission.deadline = anyio.current_time() + check_timeout(timeout)
        call.budgets = JournalBudgets(self._session.settings, call.submission)
        try:
            with self._session.calls.scope(call.submission.deadline, spends=True):
                return await self._until_track(call)
        finally:
            call.budgets.count(call.submission)
        # The scope was cancelled: by the deadline, or by closing the client.
        if call.submission.accepted is not None:  # within a create's grace
            return call.submission.accepted
        raise self._cancelled_error(call, timeout)

    def _cancelled_error(
        self, call: KeyedCall, timeout: float | None
    ) -> FinetuningError:
        error: FinetuningError | None
        error = self._session.unknown_error(call.submission, "it timed out")
        if error is None and call.in_doubt is not None:
            error = call.unknown_error(call.in_doubt)
        if error is not None:
            error.safe_to_retry = call.is_named
            return error
        if self._session.calls.is_closing:
            return closed_error()
        what = f"another call with key {call.key!r}" if call.is_behind else "its permit"
        if not self.journal.responds:
            what = "the journal, which does not respond"
        return APITimeoutError(
            f"timed out after {timeout or 0.0:.1f} s waiting for {what}; nothing was"
            " sent by this call",
            safe_to_retry=True,
        )

    async def _until_track(self, call: KeyedCall) -> Any:
        opened, polls = await self._ready(), 0
        if call.budgets is not None:
            await call.budgets.show(opened)
        # Most keys are new, so the first pass adds the entry at once: that finds one
        # that is there as well.
        is_known = not call.is_new
        while True:
            if opened.locks.is_held((call.key,)):
                # The call that has it may be in its `on_submitted`, for long, or until
                # this very call ends, which it makes there.
                item = await opened.find(call.key)
                if item is not None and self._has_track(call, item):
                    return await self._track(call, item)
            call.is_behind = True
            await opened.locks.acquire((call.key,))
            try:
                call.is_behind = False
                item = await opened.find(call.key) if is_known else None
                item, pause = await self._pass(call, item, opened)
            finally:
                opened.locks.release((call.key,))
            if item is not None:
                return await self._track(call, item)
            if pause is None:
                call.is_behind = True
                pause, polls = POLL[min(polls, len(POLL) - 1)], polls + 1
            is_known = True
            await anyio.sleep(pause)

    async def _ready(self) -> OpenJournal:
        """The journal, with a reading of the credits from before the first create."""
        opened = await self.journal.opened()
        if opened.credits_read_at == -inf:
            async with opened.first_reading:
                if opened.credits_read_at == -inf:
                    await read_credits(self._engine_of(opened))
                    opened.credits_read_at = anyio.current_time()
        return opened

    async def _pass(
        self, call: KeyedCall, item: Item | None, opened: OpenJournal
    ) -> tuple[Item | None, float | None]:
        """One pass under the lock of the key.

        Args:
            call: The call.
            item: The entry; `None` to add it.
            opened: The journal.

        Returns:
            The item, if it has a track; else the seconds until the next pass, `None`
            while another process has the item.
        """
        if item is None and not call.is_new:
            raise NotWanted if call.is_patient else unknown_key_error(call.key)
        if item is not None and (
            self._has_track(call, item) or await self._is_leased(item, opened)
        ):
            return (item if item.entry.track_id is not None else None), None
        try:
            async with opened.alive():
                return await self._process(call, item, opened)
        except StaleItemError as error:
            # Another process was faster: see what it has made of it.
            level = logging.DEBUG if call.submission.accepted is None else logging.ERROR
            logger.log(level, "key %r: %s", call.key, error)
            return None, 0.0

    def _has_track(self, call: KeyedCall, item: Item) -> bool:
        check_content(call, item)
        return item.entry.track_id is not None

    async def _is_leased(self, item: Item, opened: OpenJournal) -> bool:
        holder = item.entry.holder
        # What this loop holds itself was left by a call that has ended: its lock is
        # free.
        if holder is None or holder == opened.holder:
            return False
        return await opened.is_alive(holder)

    async def _insert(self, call: KeyedCall, opened: OpenJournal) -> Item:
        new = new_item(call.key, call.submission, self._session.settings.priority)
        entry = Entry(holder=opened.holder)
        if self._goes_at_once(call, opened):
            event = await self._engine_of(opened).sending(call.submission)
            entry, _ = step(entry, event)
        item = await opened.journal.insert(new, entry, call.limits)
        call.is_sending = entry.state == "sending" and item.entry == entry
        if not call.is_sending:
            await self._return_permit(call)
        if (item.kind, item.body) != (new.kind, new.body):
            check_content(call, item)  # it was there already
        return item

    def _goes_at_once(self, call: KeyedCall, opened: OpenJournal) -> bool:
        """Take the permit of a new create, if nothing has to be waited for."""
        age = anyio.current_time() - opened.credits_read_at
        if self._engine_of(opened).reconciliation.is_baseline_due(age):
            return False
        return self._session.submitter.take_permit(call.submission)

    async def _return_permit(self, call: KeyedCall) -> None:
        """Return the permit of a create that does not go at once after all."""
        if call.submission.permit is not None:
            self._session.submitter.return_permit(call.submission)
            await self._session.pipeline.limiter.flush()

    async def _process(
        self, call: KeyedCall, item: Item | None, opened: OpenJournal
    ) -> tuple[Item | None, float | None]:
        """Take the entry as far as the engine can now; see `_pass`."""
        opened.keep(call.key)
        call.is_sending = False
        try:
            if item is None:
                item = await self._insert(call, opened)
                # It may have been there already.
                if item.entry.track_id is not None:
                    return item, None
                if await self._is_leased(item, opened):
                    return None, None
            self._follow_entry(call, item)
            item, pause = await self._work(call, item, opened)
        except BaseException as error:
            self._session.submitter.return_permit(call.submission)
            keeps_entry = call.keeps_entry(error)
            # Closed from outside, a coroutine can await nothing.
            if not isinstance(error, GeneratorExit):
                await self._let_go(call, opened, keeps_entry=keeps_entry)
            raise
        if item.entry.track_id is not None:
            return item, None
        if pause is None:  # it is held
            raise call.unknown_error(item)
        return None, pause

    def _follow_entry(self, call: KeyedCall, item: Item) -> None:
        """Let a resumed call send what its entry says now.

        The one that it began with may have been deleted, by a call that failed, and its
        key be used for something else.
        """
        if call.is_new:
            return
        request, deadline = item.request, call.submission.deadline
        if request == call.submission.request:
            return
        call.submission = self._resumed(item, call.options)
        call.submission.deadline = deadline

    async def _work(
        self, call: KeyedCall, item: Item, opened: OpenJournal
    ) -> tuple[Item, float | None]:
        engine = self._engine_of(opened)
        if item.entry.state == "held" and item.entry.seed is not None:
            # For the engine it has ended; a listing may show it all the same.
            await engine.reconciliation.reconcile(item)
            item = await engine.get(item.seq)
        door = KeyedDoor(call, engine, opened)
        return await engine.process_item(
            item, door, Action.WAIT, is_sending=call.is_sending
        )

    async def _let_go(
        self, call: KeyedCall, opened: OpenJournal, *, keeps_entry: bool
    ) -> None:
        """Delete the entry of a call that failed before anything was sent.

        If it is kept, its lease ends: this loop may live on and keep all its leases, so
        that no other process could take the entry over.

        A disk or a database that does not respond is waited for only briefly: what it
        may still commit of this call is undone right after, and was not sent.
        """
        moment = self._session.account.service_time()
        work = partial(
            let_go, call, opened, keeps_entry=keeps_entry, service_time=moment
        )
        await opened.let_go(call.key, work)

    def _engine_of(self, opened: OpenJournal) -> Engine:
        if self._engine is None:
            backend = self._source.load()
            options = EngineOptions(
                settle=backend.settle,
                look_every=backend.look_every,
            )
            self._engine = Engine(
                self._session, opened.journal, options, facts_of=facts_of
            )
        return self._engine

    # The track that there is.

    async def _track(self, call: KeyedCall, item: Item) -> Any:
        accepted = call.submission.accepted
        if accepted is not None and accepted.id == item.entry.track_id:
            return accepted  # by this call, which has called `on_submitted`
        track = JournalEntry.of(item).generation
        if track is None:
            track = await self._read(item)
        await call.notify(track)
        return track

    async def _read(self, item: Item) -> Generation | SoundEffect:
        """The track of an entry that was found in a listing, as it is now."""
        track_id, request = str(item.entry.track_id), item.request
        is_effect = request.kind == "sound_effect"
        family = "sound-effects" if is_effect else "generations"
        path = f"/v1/{family}/{quote(track_id, safe='')}"
        call = Call(method="GET", path=path, shows=track_id)
        track: Generation | SoundEffect
        try:
            response = await self._session.request(call, READ_TIMEOUT)
            parse = parsing.sound_effect if is_effect else parsing.generation
            track = parse(response)
        except FinetuningError as error:
            logger.debug("%s could not be read: %s", track_id, error)
            row = {"id": track_id, "type": request.kind, "prompt": request.prompt}
            row["status"] = "failed" if item.entry.state == "failed" else "pending"
            row["errorMessage"] = item.entry.error
            parse_row = (
                parsing.sound_effect_row if is_effect else parsing.generation_row
            )
            return parse_row(row)
        self._session.observe(track)
        return track


def unknown_key_error(key: str) -> InvalidRequestError:
    """The error for a key of which this account's journal has no entry."""
    return InvalidRequestError(
        "key",
        key,
        "the key of an entry in the journal of this account; client.journal.entries()"
        " lists them",
    )


def check_content(call: KeyedCall, item: Item) -> None:
    """Check that an entry has the content of a call.

    Raises:
        IdempotencyConflictError: It has other content; nothing was sent.
    """
    if not (call.is_named and call.is_new):
        return
    check_same_request(call.submission.request, item)
