"""What a keyed call decides about its entry, while the engine processes it."""

from __future__ import annotations

import inspect
import json
import logging
from typing import TYPE_CHECKING, Any, Final

import anyio
import attrs

from finetuning_async._api import PRIORITIES
from finetuning_async._errors import (
    APIConnectionError,
    APITimeoutError,
    BudgetExceededError,
    CapacityError,
    ClientClosedError,
    FinetuningError,
    InternalServerError,
    RateLimitError,
    SubmissionUnknownError,
)
from finetuning_async.journal import (
    Accepted,
    Claimed,
    Delete,
    Lost,
    NotSent,
    Pause,
    Rejected,
    Retry,
    Saved,
    StaleItemError,
    is_in_doubt,
    retry_delay,
    reuse_seed,
    without_secrets,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from finetuning_async._pacing import CreditLimit
    from finetuning_async._session._journal_budgets import JournalBudgets
    from finetuning_async._session._open_journal import OpenJournal
    from finetuning_async._submission import Submission
    from finetuning_async.journal import Engine, Event, Item

logger = logging.getLogger("finetuning_async")

NO_HOLDER: Final = ""
"""The holder of a lease that was given up: none that ever lives."""

LOOK_FOR: Final = 30.0
"""Seconds after it was given up for which a call looks for a create, before it raises
`SubmissionUnknownError`. A create without a key is looked for as long."""

LOOK_AGAIN: Final = 5.0
"""Seconds between the looks of one call."""

_ENCODER: Final = json.JSONEncoder(ensure_ascii=False)

BASELINE_TIMEOUT: Final = 2.0
"""Seconds for which a create may be held up by one."""


class NotWanted(Exception):  # noqa: N818 - never leaves the session
    """No one can ask any more for what an entry would make."""


@attrs.define(kw_only=True, eq=False)
class KeyedCall:
    """One call with a key, its own or a generated one.

    Attributes:
        key: The key.
        submission: The caller's create; sent unless the entry says that there is one.
        is_named: Whether the caller gave the key, so that the same call can be made
            again without paying again.
        is_new: Whether the entry may be added; a resumed one must be there.
        is_patient: Whether it goes on until its fate is known, as `resume_all` does,
            instead of raising what a caller can act upon.
        budgets: The client's, once the call runs.
        options: What a resumed one was asked for besides its entry.
        in_doubt: The entry, if it was found to be in doubt.
        is_behind: Whether it waits for another call with the key.
        is_sending: Whether its entry was added as that of a create which is being sent.
    """

    key: str
    submission: Submission
    is_named: bool = True
    is_new: bool = True
    is_patient: bool = False
    budgets: JournalBudgets | None = None
    options: Mapping[str, Any] = attrs.field(factory=dict)
    in_doubt: Item | None = None
    is_behind: bool = False
    is_sending: bool = False
    on_submitted: Callable[[Any], Awaitable[None] | None] | None = attrs.field(
        init=False
    )

    def __attrs_post_init__(self) -> None:
        self.on_submitted = self.submission.on_submitted

    @property
    def limits(self) -> tuple[CreditLimit, ...]:
        """What the client's budgets allow."""
        return () if self.budgets is None else self.budgets.limits

    async def notify(self, track: Any) -> None:
        """Call the caller's `on_submitted`."""
        if self.on_submitted is not None:
            result = self.on_submitted(track)
            if inspect.isawaitable(result):
                await result

    def keeps_entry(self, error: BaseException) -> bool:
        """Whether the entry of a create that was not sent stays after an error.

        A call that has added it deletes it: what is reported as failed is never paid
        later. A call that resumes it and only runs out of time leaves it for the next.
        """
        passing = (
            anyio.get_cancelled_exc_class(),
            APITimeoutError,
            BudgetExceededError,
            CapacityError,
            ClientClosedError,
        )
        return not self.is_new and isinstance(error, passing)

    def unknown_error(self, item: Item) -> SubmissionUnknownError:
        """The error for an entry whose fate is not known."""
        entry, request = item.entry, self.submission.request
        reason = entry.error or "its process ended while it was in flight"
        if entry.state == "held":
            advice = (
                "no program can learn more: look for it at the service; if it made no"
                f" track, call client.journal.release({self.key!r})"
            )
        else:
            advice = "the same call looks again, and cannot pay twice"
        sent = entry.sent_at
        error = SubmissionUnknownError(
            f"the outcome of the create with key {self.key!r} is unknown: {reason}."
            f" It may have been charged; {advice}",
            prompt=request.prompt,
            seed=entry.seed,
            sent_at=None if sent is None else from_timestamp(sent),
        )
        error.safe_to_retry = True
        return error


def from_timestamp(moment: float) -> Any:
    """A time in UTC; `datetime` takes a while to import, and is rarely needed here."""
    import datetime as dt

    return dt.datetime.fromtimestamp(moment, dt.UTC)


class KeyedDoor:
    """The engine's door for one pass of a `KeyedCall`.

    Args:
        call: The call.
        engine: Processes its entry.
        opened: The journal.
    """

    def __init__(self, call: KeyedCall, engine: Engine, opened: OpenJournal) -> None:
        self._call = call
        self._engine = engine
        self._opened = opened

    @property
    def timeout(self) -> float | None:
        """Seconds that the caller's own deadline leaves."""
        deadline = self._call.submission.deadline
        left = deadline - anyio.current_time()
        return None if left == float("inf") else max(left, 0.0)

    @property
    def limits(self) -> Sequence[CreditLimit]:
        """Those of the call."""
        return self._call.limits

    async def before_create(self, item: Item) -> Item:
        """Take the lease, unless this loop has it already; it reserves the credit."""
        reconciliation = self._engine.reconciliation
        if item.entry.holder != self._opened.holder:
            item = await self._claim(item)
        if not self._is_wanted:
            # Its call has ended or failed, and its caller has no key to ask for it
            # again. So it is deleted now that nothing was charged for it.
            raise NotWanted
        # Here, not between two passes: until then the lease is kept, and a call that
        # ends meanwhile lets go of its entry.
        is_blocked = reconciliation.lookalike_is_in_doubt
        while await is_blocked(item):  # noqa: ASYNC110 - other processes set no event
            await anyio.sleep(LOOK_AGAIN)
        # The others do not wait meanwhile: a person may be waiting for them.
        now = anyio.current_time()
        if reconciliation.is_baseline_due(now - self._opened.credits_read_at):
            self._opened.credits_read_at = now
            await read_credits(self._engine)
        return item

    @property
    def _is_wanted(self) -> bool:
        return self._call.is_named or not self._call.is_patient

    async def _claim(self, item: Item) -> Item:
        journal, event = self._opened.journal, Claimed(self._opened.holder)
        limits = self.limits if self._is_wanted else ()
        try:
            return (await journal.record(item, event, limits=limits))[0]
        except BudgetExceededError:
            if self._call.is_new:
                # What an earlier process has left is not sent later: it has failed now.
                await journal.delete(item)
            raise

    def new_submission(self, item: Item, **callbacks: Any) -> Submission:
        """The caller's create; a new one like it, if it was sent already."""
        call = self._call
        submission = call.submission
        if submission.attempts:
            submission = self._engine.service.new_submission(
                submission.request,
                validate=False,  # it was checked when the first one was made
                max_retries=submission.retry.max_retries,
                on_unknown=submission.on_unknown,
                on_waiting=submission.on_waiting,
                priority=PRIORITIES[submission.rank],
                share=submission.share,
                max_wait=submission.max_wait,
            )
            submission.waited = call.submission.waited
            submission.deadline = call.submission.deadline
            call.submission = submission
        record: Callable[[Any], Awaitable[None]] = callbacks["on_submitted"]

        async def on_submitted(track: Any) -> None:
            try:
                await record(track)
            finally:  # who keeps the id elsewhere gets it in any case
                await call.notify(track)

        submission.on_submitted = on_submitted
        submission.before_wait = callbacks["before_wait"]
        submission.before_send = callbacks["before_send"]
        reuse_seed(submission, item.entry.seed)
        return submission

    async def on_recorded(self, item: Item) -> None:
        """Nothing: the call reads what it needs."""

    async def on_lost(self, item: Item, error: FinetuningError) -> None:
        """Raise what became of this call's own create; `resume_all` looks on."""
        if self._call.is_patient:
            return
        if not self._call.is_named:
            raise error
        # Its own advice is to look for the seed first. Here the same call does that.
        unknown = self._call.unknown_error(item)
        if isinstance(error, SubmissionUnknownError):
            unknown.candidates = error.candidates
        raise unknown from error

    async def on_refused(
        self, item: Item, error: FinetuningError, refusals: int
    ) -> Retry | Pause | Rejected:
        """Raise it to the caller; `resume_all` tries what may pass again."""
        is_passing = isinstance(
            error, APIConnectionError | InternalServerError | RateLimitError
        )
        if self._call.is_patient and is_passing:
            return Retry(retry_delay(error, refusals))
        raise error

    async def on_in_doubt(self, item: Item) -> float | None:
        """Look again for a while, then raise; `resume_all` looks until it is known."""
        self._call.in_doubt = item
        if self._call.is_patient:
            return None
        now = await self._engine.reconciliation.now()
        if now - (item.entry.lost_at or 0.0) >= LOOK_FOR:
            raise self._call.unknown_error(item)
        return LOOK_AGAIN

    def facts(self, track: Any) -> str | None:
        """The track as the service sent it."""
        return facts_of(track)

    async def save(self, item: Item) -> Saved | float:
        """Never called: downloads are the caller's."""
        raise AssertionError(item)


def let_go(
    call: KeyedCall,
    opened: OpenJournal,
    *,
    keeps_entry: bool,
    service_time: float | None,
) -> bool:
    """Let go of the entry of a call that has failed; in the journal's thread.

    What was not sent is deleted, or its lease ends. If the journal cannot be written,
    it is tried again, until the key is asked for again: see `OpenJournal.let_go`. Only
    a process that ends before that leaves the entry, for `resume_all` to pay.

    Args:
        call: The call.
        opened: The journal.
        keeps_entry: Whether the entry stays.
        service_time: Now, by the service's clock, if it is known.

    Returns:
        Whether it could.
    """
    journal, store = opened.journal, opened.journal.store
    try:
        item = store.find_key(call.key)
        if item is None or item.entry.holder != opened.holder:
            return True
        if item.entry.state == "sending":
            at = store.now() if service_time is None else service_time
            item = journal.record_here(item, late_event(call.submission, at))
        if item.entry.state != "planned":
            return True
        if keeps_entry:
            journal.record_here(item, Claimed(NO_HOLDER))
        else:
            store.commit([Delete(item)])
    except StaleItemError:
        pass  # another process has it now
    except FinetuningError as error:
        logger.warning(
            "the entry of key %r stays as it is for now, though its call has failed:"
            " %s; trying again",
            call.key,
            error,
        )
        return False
    return True


def late_event(submission: Submission, at: float) -> Event:
    """What became of a create whose call has ended before that was recorded.

    Args:
        submission: The create.
        at: Now, by the service's clock.
    """
    track = submission.accepted
    if track is not None:
        return Accepted(track.id, facts_of(track))
    if is_in_doubt(submission):
        return Lost(at, "its call failed before its outcome was recorded")
    return NotSent()


async def read_credits(engine: Engine) -> None:
    """Read the credits for later proofs of absence, if nothing is in flight.

    A reading beside a create in flight would not show whether that is charged already.
    """
    with anyio.move_on_after(BASELINE_TIMEOUT):
        await engine.reconciliation.advance_baseline(at_once=True)


def facts_of(track: Any) -> str:
    """A track's raw JSON, without what may be secret in its webhook."""
    raw = dict(track.raw) or {"id": track.id, "status": track.status}
    return without_secrets(_ENCODER.encode(raw))
