"""Sends a create, so that it is paid at most once.

The outcome of an attempt is one of five. What decides is evidence, not the class of an
exception:

    not sent     no byte left                        sent again
    refused      a well-formed 4xx of the service    a rate or queue 429 waits and is
                                                     sent again, others are raised
    turned away  a redirect; a 429 that is not the   never sent again; raised, the 429
                 service's own                       after one check of the list
    accepted     2xx with an id, whatever else       returned
    unknown      bytes left, then no response; a     looked up in the list, never sent
                 5xx; a 2xx without an id; a 4xx     again on a guess
                 that is not the service's own

Each attempt runs in a child task. If the call is cancelled while bytes are on the wire,
the attempt gets a few seconds more, so that its id is not lost: the id reaches the
register, the log and `on_submitted` before the cancellation goes on. If it is cancelled
before the first byte, nothing is sent.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeAlias

import anyio

from finetuning_async._api import parsing
from finetuning_async._errors import (
    ClientClosedError,
    QueueFullError,
    SubmissionUnknownError,
)
from finetuning_async._http import (
    NoResponse,
    RetryableFailure,
    SendTracker,
    request_events,
)
from finetuning_async._runtime import GRACE, ShieldedCall
from finetuning_async._submission import _create_events
from finetuning_async._submission._acceptance import (
    CHECK_TIMEOUT,
    AcceptanceHandler,
    accepted_state,
    proves_refusal,
)
from finetuning_async._submission._recovery import LostCreate, Recovery, RecoveryResult
from finetuning_async._submission._submission import Created, OutcomeUnknown, Submission
from finetuning_async._submission._wait_bounds import bounded
from finetuning_async._submission._wait_reports import watched

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from finetuning_async._api import Generation, Response
    from finetuning_async._errors import APIStatusError
    from finetuning_async._http import Pipeline
    from finetuning_async._pacing import InFlight, QueueGate, RatePermit
    from finetuning_async._runtime import KeyedLock
    from finetuning_async._submission._wait_reports import WaitWatch

    WaitForSlot: TypeAlias = Callable[[Submission], Awaitable[None]]
    NewGate: TypeAlias = Callable[[Submission], QueueGate]

logger = logging.getLogger("finetuning_async")


class Submitter:
    """Sends creates for one client.

    Args:
        pipeline: Sends this client's requests.
        inflight: The account's register.
        wait_for_slot: Waits until the service's queue takes one more, and takes a slot;
            where permits are dealt without regard to that.
        new_gate: Makes the service's queue as a create meets it in the line of its
            permit.
        wait_watch: Knows how creates stand that wait for their permits.
        locks: The locks of creates that look alike, shared by the account.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        inflight: InFlight,
        *,
        wait_for_slot: WaitForSlot,
        new_gate: NewGate,
        wait_watch: WaitWatch,
        locks: KeyedLock,
    ) -> None:
        self._pipeline = pipeline
        self._inflight = inflight
        self._wait_for_slot = wait_for_slot
        self._new_gate = new_gate
        self._wait_watch = wait_watch
        self._locks = locks
        self._acceptance = AcceptanceHandler(pipeline, inflight)

    async def submit(self, submission: Submission) -> Created:
        """Create, and return the accepted state.

        If it is cancelled before a byte left, nothing was sent and no permit is lost.
        If it is cancelled later, the attempt may take `GRACE` seconds more;
        `submission.accepted` then says whether it was accepted.

        Raises:
            SubmissionUnknownError: It may have been charged, and its track
                could not be found.
            APIStatusError: The service refused it.
            APIConnectionError: It could not be sent.
            Exception: What `on_submitted` raised; a note names the accepted track.
        """
        if self._pipeline.hook is not None:
            submission.started_at = anyio.current_time()
        if submission.lock_key is None:
            return await self._with_open_seed(submission)
        await self._locks.acquire(submission.lock_key)
        try:
            return await self._with_open_seed(submission)
        finally:
            self._locks.release(submission.lock_key)

    async def _with_open_seed(self, submission: Submission) -> Created:
        kind, seed = submission.request.kind, submission.seed
        with self._inflight.seed_in_flight(kind, seed) as submission.seed_mark:
            track = await self._until_known(submission)
        if submission.callback_error is not None:
            raise submission.callback_error
        return track

    async def _until_known(self, submission: Submission) -> Created:
        while True:
            try:
                return await self._with_retries(submission)
            except OutcomeUnknown as lost:
                unknown = lost
            with self._wait_watch.load.doubted():
                if unknown.is_throttled:
                    return await self._check_list_once(submission, unknown)
                found = await self._recover(submission, unknown)
            if found is not None:
                return found
            # Its absence is proved. The seed stays the same: should the lost create
            # appear after all, the two can still be recognized as one request.
            submission.resubmissions += 1
            logger.warning(
                "a lost create was not accepted; sending it again with seed=%s",
                submission.seed,
            )

    async def _with_retries(self, submission: Submission) -> Created:
        try:
            return await self._through_queue(submission)
        except RetryableFailure as failure:
            first = failure
        # Outside the `except`, or each later error would have the first as its context.
        call, hook = submission.call, self._pipeline.hook
        return await submission.retry.run(
            first,
            lambda: self._through_queue(submission),
            deadline=submission.deadline,
            on_retry=request_events.retry_callback(hook, call.method, call.path),
        )

    # One attempt: a slot in the service's queue, a permit, the request.

    async def _through_queue(self, submission: Submission) -> Created:
        while True:
            await self._take_queue_slot(submission)
            try:
                attempt: ShieldedCall[Created] = ShieldedCall(
                    lambda attempt: self._send_once(submission, attempt)
                )
                return await attempt.run()
            except QueueFullError as full:
                error = full
            finally:
                # Here and not in the child: code outside of the library may cancel all
                # tasks, and the child may not get a single step.
                self._return_queue_slot(submission)
            if not self._may_queue_again(submission, error):
                raise error

    async def _take_queue_slot(self, submission: Submission) -> None:
        """Wait for a slot in the service's queue, unless the permit comes with one."""
        if submission.before_wait is not None:
            await submission.before_wait()
        if self._pipeline.deals_places(submission.call):
            submission.gate = self._new_gate(submission)
            return
        hook, since = self._pipeline.hook, anyio.current_time()
        load = self._wait_watch.load
        with load.waiting(submission.rank), bounded(submission):
            if self._inflight.room_at() > anyio.current_time():
                load.report()
            await self._wait_for_slot(submission)
        submission.holds_queue_slot = True
        if hook is not None:
            number = submission.attempts + 1
            request_events.rate_limit_waited(
                hook, submission.call, number, since, "queue"
            )

    def _may_queue_again(self, submission: Submission, error: QueueFullError) -> bool:
        """Whether a create that met a full queue waits for a slot again."""
        return (
            submission.retry.max_retries > 0
            and (error.retry_after or 0) <= submission.retry.max_retry_wait
            and self._inflight.next_retry_at() <= submission.deadline
        )

    def _return_queue_slot(self, submission: Submission) -> None:
        """Return the slot, unless the service accepted or refused the create."""
        if submission.gate is not None:
            submission.gate.close()
            submission.gate = None
        if submission.holds_queue_slot:
            submission.holds_queue_slot = False
            self._inflight.on_not_accepted()

    async def _send_once(
        self, submission: Submission, attempt: ShieldedCall[Created]
    ) -> Created:
        permit = await self._take_permit(submission, attempt)
        with attempt.shielded():
            try:
                response = await self._send(submission, permit, attempt)
            except anyio.get_cancelled_exc_class():
                if not attempt.grace_expired and submission.in_doubt_since is not None:
                    await self._rescue(submission)
                raise
            return await self._classify(submission, response)
        # The shielded block was left without a `return`, so its grace is over.
        if submission.accepted is not None:  # only `on_submitted` was cut off
            return submission.accepted
        raise OutcomeUnknown(f"gave up {GRACE:g} s after the call was cancelled")

    def _try_permit(self, submission: Submission) -> RatePermit | None:
        """Take a permit if the create need not wait for it, as most need not."""
        if submission.gate is None or submission.attempts > 1:
            return None
        return self._pipeline.try_permit(submission.call, submission.terms)

    async def _take_permit(
        self, submission: Submission, attempt: ShieldedCall[Created]
    ) -> RatePermit:
        submission.attempts += 1
        permit = self._try_permit(submission)
        if permit is None:
            permit = await watched(
                submission,
                self._pipeline.hook,
                self._wait_watch,
                lambda: self._pipeline.acquire_permit(
                    submission.call,
                    deadline=submission.deadline,
                    number=submission.attempts,
                    terms=submission.terms,
                ),
            )
        try:
            if submission.before_send is not None:
                await submission.before_send()
            await attempt.checkpoint()
        except BaseException:
            permit.unsent()
            raise
        return permit

    async def _send(
        self, submission: Submission, permit: RatePermit, attempt: ShieldedCall[Created]
    ) -> Response:
        # A cancellation while it connects ends it at once, since nothing was sent: the
        # tracker lifts the shield at each step of connecting, and puts it back right
        # before the first byte leaves.
        submission.sent_at = anyio.current_time()
        try:
            return await self._pipeline.send(
                submission.call,
                permit,
                number=submission.attempts,
                tracker=SendTracker(
                    lambda: not attempt.caller_cancelled and submission.may_still_leave,
                    attempt.unshield,
                    attempt.reshield,
                ),
                on_unsent=submission.mark_unsent,
            )
        except NoResponse as failure:
            error = self._on_no_response(submission, failure)
        except ClientClosedError:
            submission.sent_at = None
            raise
        except BaseException:  # the grace is over, or all tasks are cancelled
            if submission.sent_at is not None:  # else it was still connecting
                self._response_lost(submission, "abandoned in flight")
            raise
        raise error

    def _on_no_response(self, submission: Submission, failure: NoResponse) -> Exception:
        if failure.evidence == "not_sent":
            submission.sent_at = None
            error = failure.as_error(submission.call)
            return error if failure.is_permanent else RetryableFailure(error)
        return self._response_lost(submission, failure.reason)

    def _response_lost(
        self, submission: Submission, reason: str, error: APIStatusError | None = None
    ) -> OutcomeUnknown:
        hook = self._pipeline.hook
        return _create_events.response_lost(hook, submission, reason, error)

    async def _classify(self, submission: Submission, response: Response) -> Created:
        if response.is_success:
            return await self._acceptance.accept(submission, response)
        error = parsing.status_error(response, idempotent=False)
        if isinstance(error, QueueFullError):
            self._on_queue_full(submission, error)
            raise error
        if response.is_redirect:  # the service did not get it: no need to recover
            self._response_lost(submission, str(error))
            raise error
        if not proves_refusal(response, error):
            raise self._response_lost(submission, str(error), error)
        submission.sent_at = None
        self._pipeline.raise_for_status(submission.call, response)
        raise error

    def _on_queue_full(self, submission: Submission, error: QueueFullError) -> None:
        submission.sent_at = None
        submission.holds_queue_slot = False
        was_known = self._inflight.queue_capacity is not None
        self._inflight.on_queue_full(error.retry_after)
        _create_events.report_queue_full(
            self._pipeline.hook, error, was_known=was_known
        )

    # A lost response: look for the track in the list.

    async def _recover(
        self, submission: Submission, unknown: OutcomeUnknown
    ) -> Created | None:
        """Find the track of a lost create; `None` if it may be sent again.

        Raises:
            SubmissionUnknownError: It was not found.
            APIStatusError: The service reported a failure, and the list does not show
                the track.
        """
        may_resubmit = self._may_resubmit(submission)
        result = await self._search(submission, unknown, prove=may_resubmit)
        if result.track is not None:
            return await self._adopt(submission, result.track)
        if result.is_absent and may_resubmit:
            return None
        error = unknown.error_if_absent
        if result.is_unlisted and error is not None:
            raise error
        raise self._unknown_error(submission, unknown, result) from unknown.error

    async def _check_list_once(
        self, submission: Submission, unknown: OutcomeUnknown
    ) -> Created:
        """Check that a create did not come through that a proxy refused with a 429.

        Raises:
            RateLimitError: The list does not show it, or cannot be read now.
            SubmissionUnknownError: The list shows tracks that may be of it.
        """
        result = RecoveryResult()
        with anyio.move_on_after(CHECK_TIMEOUT):
            result = await self._search(submission, unknown)
        if result.track is not None:
            return await self._adopt(submission, result.track)
        if result.candidates or unknown.error is None:
            raise self._unknown_error(submission, unknown, result) from unknown.error
        seen = "does not show it" if result.is_unlisted else "could not be read at once"
        unknown.error.add_note(f"the create was not sent again; the list {seen}")
        raise unknown.error

    async def _rescue(self, submission: Submission) -> None:
        """Find the id of a create whose task was cancelled directly, within the grace.

        asyncio only: `asyncio.run` cancels every task that is left when it ends.
        """
        unknown = OutcomeUnknown("its task was cancelled from outside")
        result = await self._search(submission, unknown)
        if result.track is not None:
            self._acceptance.claim_found(submission, result.track)
            await self._acceptance.publish(submission, result.track, adopted=True)

    async def _adopt(self, submission: Submission, track: Generation) -> Created:
        self._acceptance.claim_found(submission, track)
        logger.warning(
            "the response to a create was lost, but its track was found: %s", track.id
        )

        async def publish(shielded_call: ShieldedCall[None]) -> None:
            with shielded_call.shielded():
                await self._acceptance.publish(submission, track, adopted=True)

        await ShieldedCall[None](publish).run()
        return accepted_state(submission)

    def _may_resubmit(self, submission: Submission) -> bool:
        return (
            submission.on_unknown == "resubmit"
            and submission.seed is not None
            and submission.resubmissions < max(submission.retry.max_retries, 1)
        )

    async def _search(
        self, submission: Submission, unknown: OutcomeUnknown, *, prove: bool = False
    ) -> RecoveryResult:
        lost = LostCreate.of(submission, anyio.current_time())
        recovery = Recovery(self._pipeline, self._inflight, lost, prove=prove)
        # To send it again takes more proof than the service's own report of a failure
        # and one listing.
        return await recovery.find(settle=prove or not unknown.is_settled)

    def _unknown_error(
        self, submission: Submission, unknown: OutcomeUnknown, result: RecoveryResult
    ) -> SubmissionUnknownError:
        since = submission.in_doubt_since
        return _create_events.unknown_error(
            self._pipeline.hook,
            submission,
            unknown.reason,
            result.summary,
            sent_at=None if since is None else self._pipeline.clock.not_before(since),
            candidates=result.candidates,
        )
