"""The journal of a client's account: opened, read, corrected, and how tracks end."""

from __future__ import annotations

import logging
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlsplit

import anyio
import attrs

from finetuning_async._api import PRIORITIES, Call, parsing, validation
from finetuning_async._constants import READ_TIMEOUT
from finetuning_async._errors import (
    FinetuningError,
    IdempotencyConflictError,
    InvalidRequestError,
)
from finetuning_async._runtime import LoopHandle, SerialThread
from finetuning_async._session._keyed_door import facts_of
from finetuning_async._session._open_journal import OpenJournal
from finetuning_async.journal import (
    STATES,
    THREAD,
    Ended,
    Entry,
    Journal,
    JournalEntry,
    JournalError,
    NewItem,
    Released,
    Service,
    StaleItemError,
    body_of,
    end_of,
    has_secrets,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from finetuning_async._api import AnyRequest
    from finetuning_async._errors import SubmissionUnknownError
    from finetuning_async._http import Pipeline
    from finetuning_async._polling import AnyTrack
    from finetuning_async._runtime import Job
    from finetuning_async._session._journal_source import JournalSource
    from finetuning_async._session._open_calls import OpenCalls
    from finetuning_async._session._settings import Settings
    from finetuning_async._submission import Submission, Submitter
    from finetuning_async._types import Priority
    from finetuning_async.journal import Item, State

logger = logging.getLogger("finetuning_async")

PAGE: Final = 200
"""Entries read at a time."""

UNFINISHED: Final = ("planned", "sending", "unknown", "held", "accepted")

RESUMER: Final = "resumer"
"""The note that names the holder that resumes what was left behind."""

DEFAULT_PORTS: Final = {"https": ":443", "http": ":80"}

TURN_POLL: Final = 1.0
"""Seconds between looks at that note."""

_account_ids: dict[tuple[str, str], str] = {}
"""The account of each base URL and hash of a key, as ``/v1/me`` named it. It never
changes, so one process asks once."""


class RecordedSession(Service, Protocol):
    """What is needed of a `Session`, in the file above, whose creates are recorded."""

    @property
    def calls(self) -> OpenCalls:
        """The calls in progress."""

    @property
    def pipeline(self) -> Pipeline:
        """How it sends requests."""

    @property
    def settings(self) -> Settings:
        """The client's options."""

    @property
    def submitter(self) -> Submitter:
        """How it sends creates."""

    def unknown_error(
        self, submission: Submission, cause: str
    ) -> SubmissionUnknownError | None:
        """The error for a create that was given up, if it is in doubt."""


class AccountJournal:
    """The part of a client's journal that belongs to its account.

    Args:
        session: The client.
        source: Its journal.
    """

    def __init__(self, session: RecordedSession, source: JournalSource) -> None:
        self._session = session
        self._source = source
        self._opening = anyio.Lock()
        self._opened: OpenJournal | None = None

    @property
    def responds(self) -> bool:
        """Whether it is open, and no call has given up waiting for it."""
        return self._opened is not None and not self._opened.journal.thread.is_stuck

    async def opened(self) -> OpenJournal:
        """The journal; opened at the first use in this loop.

        Raises:
            JournalError: It cannot be opened.
            FinetuningError: The account could not be read.
        """
        if self._opened is None:
            async with self._opening:
                if self._opened is None:
                    self._opened = await self._open()
        return self._opened

    async def _open(self) -> OpenJournal:
        name, source = await self._partition(), self._source
        # The views of a client share it, so that calls with one key meet in its locks.
        opened = source.opened().get(name)
        if opened is None:
            thread = SerialThread(THREAD)
            try:
                store = await thread.start(partial(source.load().open, name)).wait()
            except BaseException:
                thread.close()
                raise
            made = OpenJournal(Journal(store, thread))
            opened = source.opened().setdefault(name, made)
            if opened is not made:  # another view has opened it meanwhile
                thread.close()
        return opened

    async def _partition(self) -> str:
        """The name of the account's part. Keys are unique in it, in every process."""
        session = self._session
        url, digest = session.settings.base_url, session.settings.api_key.digest
        known = _account_ids
        if session.pipeline.transport.pool.is_external:
            # It may be a test's, which must inherit nothing: see `AccountState`.
            known = LoopHandle.current().storage.setdefault("account_ids", {})
        account = known.get((url, digest))
        if account is None:
            call = Call(method="GET", path="/v1/me")
            response = await session.request(call, READ_TIMEOUT)
            account = parsing.account(response).id
            known[url, digest] = account
        return f"{_one_spelling(url)} {account}"

    # Entries as callers see them; see `ClientJournal`.

    async def get(self, key: str) -> JournalEntry | None:
        """As `ClientJournal.get`."""
        check_key(key)
        item = await (await self.opened()).find(key)
        return None if item is None else JournalEntry.of(item)

    async def find(self, generation_id: str) -> JournalEntry | None:
        """As `ClientJournal.find`."""
        journal = (await self.opened()).journal
        item = await journal.call(journal.store.find_track, generation_id)
        return None if item is None else JournalEntry.of(item)

    async def add(self, request: AnyRequest, share: str | None) -> JournalEntry:
        """As `ClientJournal.add`."""
        check_key(request.idempotency_key, "idempotency_key")
        if has_secrets(request.webhook):
            allowed = "a URL without a query: the journal keeps none, as it is a secret"
            raise InvalidRequestError("webhook", "***", allowed)
        # It checks the request as it would be checked when it is sent.
        submission = self._session.new_submission(request, validate=True, share=share)
        journal = (await self.opened()).journal
        usual = self._session.settings.priority
        new = new_item(str(request.idempotency_key), submission, usual)
        item = await journal.insert(new, Entry())
        check_same_request(request, item)
        return JournalEntry.of(item)

    async def newest(
        self, prefix: str, before: str | None, limit: int
    ) -> list[JournalEntry]:
        """As `ClientJournal.newest`."""
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise InvalidRequestError("limit", limit, "an integer of at least 1")
        opened, seq = await self.opened(), None
        if before is not None:
            check_key(before, "before")
            last = await opened.find(before)
            if last is None:
                raise InvalidRequestError("before", before, "the key of an entry")
            seq = last.seq
        store = opened.journal.store
        items = await opened.journal.call(store.newest, prefix, seq, limit)
        return [JournalEntry.of(item) for item in items]

    async def entries(self, state: State | None) -> AsyncGenerator[JournalEntry]:
        """As `ClientJournal.entries`."""
        if state is not None and state not in STATES:
            raise InvalidRequestError("state", state, f"one of {', '.join(STATES)}")
        async with aclosing(self._items(*([] if state is None else [state]))) as items:
            async for item in items:
                yield JournalEntry.of(item)

    async def _items(self, *states: State) -> AsyncGenerator[Item]:
        """Items in these states, in order, read a page at a time."""
        journal, last = (await self.opened()).journal, 0
        while page := await journal.call(journal.store.page, last, PAGE, *states):
            last = page[-1].seq
            for item in page:
                yield item

    async def forget(self, key: str) -> bool:
        """As `ClientJournal.forget`."""
        check_key(key)
        opened = await self.opened()
        item = await opened.find(key)
        if item is None:
            return False
        holder = item.entry.holder
        if holder is not None and await opened.is_alive(holder):
            raise JournalError(
                f"the entry of key {key!r} is {item.entry.state}: a call is creating it"
                " right now; wait for that call, or cancel it"
            )
        await opened.journal.delete(item)
        return True

    async def release(self, key: str) -> None:
        """As `ClientJournal.release`."""
        check_key(key)
        opened = await self.opened()
        item = await opened.find(key)
        if item is None or item.entry.state != "held":
            why = "there is no such entry" if item is None else item.entry.state
            allowed = f"the key of an entry that is held; its state: {why}"
            raise InvalidRequestError("key", key, allowed)
        await opened.journal.record(item, Released())

    # What earlier processes left behind.

    @asynccontextmanager
    async def resuming(self) -> AsyncGenerator[AsyncGenerator[Item]]:
        """Be the one process that resumes; yields what had not ended by then.

        It waits while another process that lives is the one.
        """
        opened = await self.opened()
        await opened.locks.acquire((RESUMER, RESUMER))  # a key's lock has one part
        try:
            while True:
                named = await self._until_free(opened)
                async with opened.alive():
                    if not await self._start_swap(opened, named, opened.holder).wait():
                        continue
                    try:
                        async with aclosing(self._left_behind(opened)) as items:
                            yield items
                        return
                    finally:
                        await self._start_swap(opened, opened.holder, "").linger()
        finally:
            opened.locks.release((RESUMER, RESUMER))

    async def _until_free(self, opened: OpenJournal) -> str | None:
        journal = opened.journal
        while True:
            named = await journal.call(journal.store.read_note, RESUMER)
            if not named or not await opened.is_alive(named):
                return named
            await anyio.sleep(TURN_POLL)

    def _start_swap(self, opened: OpenJournal, old: str | None, new: str) -> Job[bool]:
        swap_note = opened.journal.store.swap_note
        return opened.journal.start(swap_note, RESUMER, old, new)

    async def _left_behind(self, opened: OpenJournal) -> AsyncGenerator[Item]:
        started = await opened.journal.call(opened.journal.store.now)
        async with aclosing(self._items(*UNFINISHED)) as items:
            async for item in items:
                if item.created_at <= started:
                    yield item

    # How tracks end.

    async def states(
        self, states: AsyncGenerator[AnyTrack]
    ) -> AsyncGenerator[AnyTrack]:
        """The states of a track as they come; the final one is recorded."""
        async with aclosing(states):
            async for track in states:
                if track.is_final:
                    await self.record_final(track)
                yield track

    async def record_final(self, track: AnyTrack) -> None:
        """Record a final state, if the track is of this journal."""
        await self.record_end(track.id, end_of(track, facts_of(track)))

    async def record_end(self, track_id: str, ended: Ended) -> None:
        """Record how a track ended, if it is of this journal.

        A failure ends no wait: the entry stays accepted, and is waited for again.
        """
        try:
            await (await self.opened()).journal.end(track_id, ended)
        except StaleItemError:
            pass  # another process has recorded it
        except FinetuningError as error:
            logger.warning("the end of %s could not be recorded: %s", track_id, error)


def _one_spelling(url: str) -> str:
    """The URL of a service as every program spells it, so that all find its keys."""
    parts = urlsplit(url)
    host, port = parts.netloc.lower(), DEFAULT_PORTS.get(parts.scheme, "")
    return f"{parts.scheme}://{host.removesuffix(port)}{parts.path}"


def new_item(key: str, submission: Submission, usual: Priority) -> NewItem:
    """The item of a create; its request is without what a journal must not hold.

    Args:
        key: Its key.
        submission: The create.
        usual: The client's priority; another one is kept, for whoever resumes it.
    """
    request, priority = submission.request, PRIORITIES[submission.rank]
    if priority != usual:
        request = attrs.evolve(request, priority=priority)
    return NewItem(
        key=key,
        custom_id=None,
        line=None,
        kind=request.kind,
        body=body_of(request),
        file="",
        share=submission.share,
    )


def check_same_request(given: AnyRequest, item: Item) -> None:
    """Check that an entry has the content of a request.

    Raises:
        IdempotencyConflictError: It has other content; nothing was sent.
    """
    if (item.kind, item.body) == (given.kind, body_of(given)):
        return  # as nearly all: it saves making a request of what is stored
    known = item.request
    if given.content_key() == known.content_key():
        return
    differing = ["its kind"]
    if given.kind == known.kind:
        one, other = given.to_body(), known.to_body()
        names = sorted({*one, *other} - {"webhook"})
        differing = [name for name in names if one.get(name) != other.get(name)]
    raise IdempotencyConflictError(
        "idempotency_key",
        item.key,
        "a new key for other content; the create that it is known for differs in"
        f" {', '.join(differing)}",
    )


def check_key(key: object, field: str = "key") -> None:
    """Check a key that must be given.

    Raises:
        InvalidRequestError: It is not a string of 1 to 255 characters.
    """
    problem = validation.idempotency_key(key, field)
    if key is None:
        allowed = f"a string of 1 to {validation.MAX_KEY} characters"
        problem = InvalidRequestError(field, key, allowed)
    if problem is not None:
        raise problem
