"""One client in one event loop: its own parts, and what it shares with its account.

A `Session` is made at a client's first call in a loop. It sends what may be repeated
(`request`), submits creates (`new_submission`, `submit`), and waits for tracks (`wait`,
`states`); the methods of `_resources` are built on these.
"""

from __future__ import annotations

from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Final, Protocol

import anyio
import attrs

from finetuning_async._api import (
    Call,
    GenerationRequest,
    InstrumentalRequest,
    SoundEffectRequest,
    check_callback,
    check_json,
    check_timeout,
)
from finetuning_async._errors import (
    APITimeoutError,
    CapacityError,
    SubmissionUnknownError,
)
from finetuning_async._event_hook import NO_OPERATION
from finetuning_async._http import Pipeline, RetryPolicy, Transport
from finetuning_async._logging import log_exceptions
from finetuning_async._pacing import reserved_credit
from finetuning_async._session._account_state import AccountState, rng
from finetuning_async._session._estimates import estimate, waiting
from finetuning_async._session._journal_source import JournalSource, no_journal_error
from finetuning_async._session._open_calls import OpenCalls, closed_error
from finetuning_async._session._settings import Settings
from finetuning_async._session._waits import Waits
from finetuning_async._submission import (
    Submission,
    Submitter,
    WaitWatch,
    create_events,
)

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        Awaitable,
        Callable,
    )
    from contextlib import AbstractContextManager

    from finetuning_async._api import AnyRequest, Generation, Response, SoundEffect
    from finetuning_async._event_hook import Hook
    from finetuning_async._events import CreateWaiting
    from finetuning_async._http import ClientPool
    from finetuning_async._polling import AnyTrack
    from finetuning_async._session._keyed_creates import KeyedCreates  # noqa: TC004 - imported late
    from finetuning_async._types import Priority

BURST: Final = 10
"""Creates at once where they are not paced."""

LARGEST_SEED: Final = 2**31 - 1

SELF_CHECKING_REQUESTS: Final = {
    GenerationRequest,
    InstrumentalRequest,
    SoundEffectRequest,
}
"""Requests whose `to_body` checks that JSON can hold each value; a subclass may have
added a value that it does not check."""

CREATES: Final = {
    "music": ("/v1/generations", "creates"),
    "instrumental": ("/v1/instrumental", "instrumental"),
    "sound_effect": ("/v1/sound-effects", "sound_effects"),
}
"""Path and route of each create. No source says from which rate budget the
service takes the last two."""


@attrs.frozen(kw_only=True, eq=False)
class Session:
    """A client in one event loop."""

    settings: Settings
    calls: OpenCalls
    account: AccountState
    pipeline: Pipeline
    waits: Waits
    submitter: Submitter
    keyed: KeyedCreates | None = None
    has_budgets: bool = True

    @classmethod
    def bind(
        cls,
        settings: Settings,
        pool: ClientPool,
        calls: OpenCalls,
        journal: JournalSource | None = None,
    ) -> Session:
        """Bind a client to the running event loop.

        The order matters: the pipeline needs the account's limiter and clock, and the
        submitter needs the waits, because a create that finds the queue full waits for
        a track to end.
        """
        account = AccountState.get_or_create(
            settings.base_url,
            settings.api_key,
            settings.rate_limits,
            settings.rate_limiter,
            has_own_http_client=pool.is_external,
        )
        pipeline = _new_pipeline(settings, pool, account)
        account.load.listen(pipeline.hook)
        calls.enter_loop()
        calls.add_poller(account.poller)
        waits = Waits(pipeline, account.inflight, account.poller)
        submitter = Submitter(
            pipeline,
            account.inflight,
            wait_for_slot=waits.for_queue_slot,
            new_gate=waits.queue_gate,
            wait_watch=WaitWatch(
                state=partial(waiting, account),
                bounds=account.wait_bounds,
                load=account.load,
            ),
            locks=account.create_lock,
        )
        session = cls(
            settings=settings,
            calls=calls,
            account=account,
            pipeline=pipeline,
            waits=waits,
            submitter=submitter,
        )
        if journal is None:
            return session
        from finetuning_async._session._keyed_creates import KeyedCreates

        # What it is built on records nothing itself, and counts no credits.
        bare = attrs.evolve(session, has_budgets=False)
        return attrs.evolve(session, keyed=KeyedCreates(bare, journal))

    async def request(
        self, call: Call, timeout: float | None, max_retries: int | None = None
    ) -> Response:
        """Make a request that may be repeated.

        Args:
            call: The request.
            timeout: Seconds for all of it, waiting for the rate limit included; `None`
                for no limit.
            max_retries: How often it is repeated; `None` for the client's own number.

        Raises:
            InvalidRequestError: One of these is out of its range.
            FinetuningError: As `Pipeline.request`.
        """
        deadline = inf
        if timeout is not None:
            deadline = anyio.current_time() + check_timeout(timeout)
        with self.calls.scope(deadline):
            return await self.pipeline.request(
                call, deadline=deadline, max_retries=max_retries
            )
        # Only a cancelled scope gets here. The permit may have been returned to a store
        # that other processes share: report that now, not with the next request.
        await self.pipeline.limiter.flush()
        if self.calls.is_closing:
            raise closed_error()
        raise APITimeoutError(
            f"{call.method} {call.path} timed out after {timeout:.1f} s, waiting for"
            " the rate limit included; it is safe to retry",
            generation_id=call.track_id,
            safe_to_retry=True,
        )

    @property
    def burst(self) -> int:
        """How many creates the rate limit lets out at once."""
        limits = self.account.limits
        return BURST if limits is None else limits.creates.limit

    def new_submission(
        self,
        request: AnyRequest,
        *,
        validate: bool,
        max_retries: int | None = None,
        on_submitted: Callable[[Any], Awaitable[None] | None] | None = None,
        priority: Priority | None = None,
        share: str | None = None,
        max_wait: float | None = None,
        on_waiting: Callable[[CreateWaiting], object] | None = None,
        **options: Any,
    ) -> Submission:
        """Prepare a create: check its request and draw its seed. Nothing is sent.

        Raises:
            InvalidRequestError: A parameter is outside its documented range, or is not
                JSON-serializable; `on_submitted` is not callable.
        """
        check_callback(on_submitted, "on_submitted")
        check_callback(on_waiting, "on_waiting")
        if validate:
            request.validate(allow_http_webhook=self.settings.is_on_loopback)
        path, route = CREATES[request.kind]
        # Each create carries a seed, drawn here if the caller gave none: by it the
        # track is found in a list if the response is lost (P2). Sound effects have
        # none. It is drawn once, so every attempt sends the same body.
        seed: int | None = None
        if request.kind != "sound_effect":
            given = getattr(request, "seed", None)
            seed = rng.randint(1, LARGEST_SEED) if given is None else given
        body = request.to_body(seed=seed)
        if type(request) not in SELF_CHECKING_REQUESTS:
            check_json(body)
        call = Call(method="POST", path=path, route=route, body=body, repeatable=False)
        retry = self.pipeline.retry.with_max_retries(max_retries)
        return Submission(
            request=request,
            call=call,
            **self.settings.waiting_options(request, priority, share, max_wait),
            retry=retry,
            seed=seed,
            on_submitted=on_submitted,
            on_waiting=on_waiting,
            **options,
        )

    def create(self, submission: Submission, timeout: float | None) -> Awaitable[Any]:
        """Create a track, recorded in the client's journal if it has one.

        Raises:
            InvalidRequestError: It has an idempotency key, but the client no journal.
            FinetuningError: As `submit`, and as `KeyedCreates.create`.
        """
        if self.keyed is not None:
            return self.keyed.create(submission, timeout)
        if submission.request.idempotency_key is not None:
            raise no_journal_error(submission.request.idempotency_key)
        return self.submit(submission, timeout)

    def recorder(self) -> KeyedCreates:
        """What records the creates in the client's journal.

        Raises:
            InvalidRequestError: It has none.
        """
        if self.keyed is None:
            raise no_journal_error()
        return self.keyed

    def submit(self, submission: Submission, timeout: float | None) -> Awaitable[Any]:
        """Send a create.

        A client with a journal books its credit there, as its entries do not have it.

        Args:
            submission: The create.
            timeout: Seconds for all of it, waiting for the rate limit included; `None`
                for no limit.

        Raises:
            APITimeoutError: It timed out before the first byte left.
            SubmissionUnknownError: It timed out later; its outcome is unknown.
            ClientClosedError: The client was closed before the first byte left.
            BudgetExceededError: No `budget` of the client allows it.
            FinetuningError: As `Submitter.submit`.
        """
        if self.keyed is not None:
            return self.keyed.book(submission, timeout)
        hook = self.pipeline.hook
        if hook is None or not hook.traces_operations:
            return self._submit_in_budget(submission, timeout)
        return self._submit_as_operation(submission, timeout, hook)

    async def _submit_as_operation(
        self, submission: Submission, timeout: float | None, hook: Hook
    ) -> Any:
        with hook.operation("create", **_facts(submission)) as report:
            accepted = await self._submit_in_budget(submission, timeout)
            report(accepted)
        return accepted

    async def _submit_in_budget(
        self, submission: Submission, timeout: float | None
    ) -> Any:
        found = self.settings.budgets_for(submission.share) if self.has_budgets else []
        budgets = [budget for _, budget in found if submission.costs_credits]
        with reserved_credit(budgets, lambda: submission.is_charged):
            return await self._submit(submission, timeout)

    def _expected_wait(self, submission: Submission) -> float:
        kind, rank = submission.request.kind, submission.rank
        return estimate(self.account, 1, kind, rank, submission.share).first_sent

    def _check_capacity(self, submission: Submission) -> None:
        """Refuse a create at once that would wait too long.

        Raises:
            CapacityError: It is expected to wait longer than its `max_wait`.
        """
        if submission.max_wait == inf or submission.permit is not None:
            return
        expected = self._expected_wait(submission)
        if expected > submission.max_wait - submission.waited:
            raise create_events.wait_too_long(submission, expected)

    async def _submit(self, submission: Submission, timeout: float | None) -> Any:
        self._check_capacity(submission)
        if timeout is not None:
            submission.deadline = anyio.current_time() + check_timeout(timeout)
        with self.calls.scope(submission.deadline, spends=True):
            try:
                return await self.submitter.submit(submission)
            except CapacityError as error:
                late = self._expected_wait(submission) - submission.max_wait
                error.retry_after = max(late, 1.0)
                raise
            finally:
                with log_exceptions("reporting a create to the rate limiter"):
                    await self.pipeline.limiter.flush()
        # The scope was cancelled: by the deadline, or by closing the client. The flush
        # above was cancelled with it, so it is done again.
        await self.pipeline.limiter.flush()
        # A create in flight is shielded for up to 5 s, so its id may be known by now.
        # Then the call succeeds, late: the track is paid for.
        if submission.accepted is not None:
            return submission.accepted
        unknown = self.unknown_error(submission, "it timed out")
        if unknown is not None:
            raise unknown
        if self.calls.is_closing:
            raise closed_error()
        raise APITimeoutError(
            f"timed out after {timeout:.1f} s waiting for the rate limit; nothing was"
            " sent",
            safe_to_retry=True,
        )

    def observe(self, track: AnyTrack) -> None:
        """Take note of a track that the caller's own read showed.

        If it has ended, its slot in the service's queue is free for the next create.
        """
        if track.is_final and self.account.inflight.is_in_progress(track.id):
            self.account.inflight.observe_final(track)

    def unknown_error(
        self, submission: Submission, cause: str
    ) -> SubmissionUnknownError | None:
        """The error for a create that was given up; `None` if its outcome is known.

        Args:
            submission: The create.
            cause: What ended it, as a sentence: "it timed out".
        """
        since = submission.in_doubt_since
        if submission.accepted is not None or since is None:
            return None
        reason = f"{cause} while it was in flight or being looked up"
        if self.pipeline.hook is not None:
            create_events.emit_unknown(
                self.pipeline.hook, submission, reason, given_up=True
            )
        where = f"seed={submission.seed} in generations.list()"
        if submission.seed is None:
            where = "its prompt in sound_effects.list()"
        seen = f" ({submission.unknown_reason})" if submission.unknown_reason else ""
        return SubmissionUnknownError(
            f"the outcome of a create is unknown: {reason}{seen}. It may have been"
            f" charged: look for {where} before you create it again",
            prompt=submission.request.prompt,
            seed=submission.seed,
            sent_at=self.account.clock.not_before(since),
        )

    def wait(
        self, track: Generation | SoundEffect | str, **options: Any
    ) -> Awaitable[Any]:
        """Wait for a final state, as `Waits.for_completion`.

        Raises:
            ClientClosedError: The client is already closed.
        """
        if self.keyed is not None:
            return self.keyed.wait(track, **options)
        if self.calls.is_closing:
            raise closed_error(track)
        # The coroutine is returned, not awaited: with thousands of waiters each frame
        # counts.
        hook = self.pipeline.hook
        if hook is None or not hook.traces_operations:
            return self.waits.for_completion(track, **options)
        return self._wait_as_operation(track, options, hook)

    async def _wait_as_operation(
        self,
        track: Generation | SoundEffect | str,
        options: dict[str, Any],
        hook: Hook,
    ) -> Any:
        track_id = track if isinstance(track, str) else track.id
        with hook.operation("wait", track_id=track_id) as report:
            final = await self.waits.for_completion(track, **options)
            report(final)
        return final

    def generate_operation(
        self, submission: Submission
    ) -> AbstractContextManager[Callable[[Any], None]]:
        """The operation around the create and the wait of one `generate`."""
        hook = self.pipeline.hook
        if hook is None:
            return NO_OPERATION
        return hook.operation("generate", **_facts(submission))

    def download_operation(
        self, track: object
    ) -> AbstractContextManager[Callable[[Any], None]]:
        """The operation around a download."""
        hook = self.pipeline.hook
        if hook is None:
            return NO_OPERATION
        return hook.operation("download", track_id=getattr(track, "id", None))

    def states(
        self, track: Generation | SoundEffect | str, *, timeout: float | None
    ) -> AsyncGenerator[AnyTrack]:
        """The states as they change, as `Waits.states`.

        Raises:
            ClientClosedError: The client is already closed.
        """
        if self.calls.is_closing:
            raise closed_error(track)
        states = self.waits.states(track, timeout=timeout)
        return states if self.keyed is None else self.keyed.journal.states(states)


def _new_pipeline(
    settings: Settings, pool: ClientPool, account: AccountState
) -> Pipeline:
    return Pipeline(
        transport=Transport(
            pool=pool,
            base_url=settings.base_url,
            key=settings.api_key,
            timeout=settings.request_timeout,
            headers=settings.headers or None,
            concurrency=account.concurrency,
        ),
        limiter=account.limiter,
        retry=RetryPolicy(
            max_retries=settings.max_retries,
            max_retry_wait=settings.max_retry_wait,
            rng=rng,
        ),
        clock=account.clock,
        hook=settings.on_event,
        header_warnings=account.header_warnings,
    )


def _facts(submission: Submission) -> dict[str, Any]:
    """What an operation on a create is about."""
    request = submission.request
    return {
        "kind": request.kind,
        "prompt": request.prompt,
        "duration": request.duration,
    }


class _HasSession(Protocol):
    def _session(self) -> Session: ...


def session_of(client: _HasSession) -> Session:
    """The session of a client, for wings that need more than its public methods."""
    return client._session()  # noqa: SLF001 - the client's is private to its callers
