"""Creating a track, paid once.

What became of a create is one of five, by evidence and not by exception class:

    not sent   no byte left                        sent again
    refused    a well-formed 4xx                   a rate or queue 429 waits and is sent
                                                   again, others are raised
    turned     a redirect; a 429 that is not the   never sent again; raised, the 429
    away       service's own                       after one look at the list
    accepted   2xx with an id, whatever else       returned
    unknown    bytes left, then silence; 5xx;      looked up, never sent again on
               2xx without an id; a 4xx that       a guess
               is not the service's own

Each attempt runs in a child task. Cancelled while its bytes are on the way, it gets a
few seconds more, so that the id is not lost: it reaches the register, the log and
`on_submitted` before the cancellation goes on. Cancelled before the first byte, it is
withdrawn.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import quote

import anyio
import attrs

from finetuning_async._api import Call, changes, parsing
from finetuning_async._errors import (
    APIResponseError,
    ClientClosedError,
    FinetuningError,
    QueueFullError,
    SubmissionUnknownError,
)
from finetuning_async._http import (
    NoResponse,
    RetryableFailure,
    SendTracker,
    request_events,
)
from finetuning_async._logging import contained
from finetuning_async._runtime import GRACE, ShieldedCall
from finetuning_async._submission import _create_events
from finetuning_async._submission._acceptance import (
    accepted_state,
    call_on_submitted,
    proves_refusal,
    read_acceptance,
    seed_of,
)
from finetuning_async._submission._foreign_response import SentRequest, foreign_reason
from finetuning_async._submission._recovery import LostCreate, Recovery, RecoveryResult
from finetuning_async._submission._submission import Created, OutcomeUnknown, Submission

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from finetuning_async._api import Generation, Response
    from finetuning_async._errors import APIStatusError
    from finetuning_async._http import Pipeline
    from finetuning_async._pacing import InFlight, RatePermit, TrackInProgress
    from finetuning_async._runtime import KeyedLock

    Park: TypeAlias = Callable[[Submission], Awaitable[None]]

logger = logging.getLogger("finetuning_async")

CHECK_TIMEOUT: Final = 10.0
"""Seconds for a look that is to tell at once, a turn for it included."""


class Submitter:
    """Sends creates for one client.

    Args:
        pipeline: Turns, sending and checking.
        inflight: The account's register.
        park: Waits until an submission may enter the service's queue, and enters it.
        one_by_one: The locks of orders that look alike, shared by the account.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        inflight: InFlight,
        *,
        park: Park,
        one_by_one: KeyedLock,
    ) -> None:
        self._pipeline = pipeline
        self._inflight = inflight
        self._park = park
        self._one_by_one = one_by_one

    async def submit(self, submission: Submission) -> Created:
        """Create, and return the accepted state.

        Cancelled before a byte left, nothing was sent and no turn is lost. Cancelled
        later, the attempt may take `GRACE` seconds more; `submission.accepted` then tells.

        Raises:
            SubmissionUnknownError: It may be paid, and could not be found.
            APIStatusError: The service refused it.
            APIConnectionError: It could not be sent.
            Exception: What `on_submitted` raised; a note names the accepted track.
        """
        if self._pipeline.hook is not None:
            submission.started_at = anyio.current_time()
        if submission.lock_key is None:
            return await self._with_open_seed(submission)
        await self._one_by_one.enter(submission.lock_key)
        try:
            return await self._with_open_seed(submission)
        finally:
            self._one_by_one.leave(submission.lock_key)

    async def _with_open_seed(self, submission: Submission) -> Created:
        with self._inflight.open_seed(
            submission.request.kind, submission.seed
        ) as submission.seed_mark:
            track = await self._until_known(submission)
        if submission.callback_error is not None:
            raise submission.callback_error
        return track

    async def _until_known(self, submission: Submission) -> Created:
        while True:
            try:
                return await self._with_retries(submission)
            except OutcomeUnknown as fate:
                unknown = fate
            if unknown.is_throttled:
                return await self._check_list_once(submission, unknown)
            found = await self._recover(submission, unknown)
            if found is not None:
                return found
            submission.resubmissions += 1
            logger.warning(
                "sending seed=%s again: its create was not found", submission.seed
            )

    async def _check_list_once(
        self, submission: Submission, unknown: OutcomeUnknown
    ) -> Created:
        """Look whether a create came through that a proxy says it has stopped.

        Raises:
            RateLimitError: The list does not show it, or cannot be read now.
            SubmissionUnknownError: The list shows what may be it.
        """
        result = RecoveryResult()
        with anyio.move_on_after(CHECK_TIMEOUT):
            result = await self._search(submission, unknown)
        if result.track is not None:
            return await self._adopt(submission, result.track)
        if result.candidates or unknown.error is None:
            raise self._unknown_error(submission, unknown, result) from unknown.error
        seen = "shows nothing" if result.is_unlisted else "could not be read at once"
        unknown.error.add_note(f"the create was not sent again; the list {seen}")
        raise unknown.error

    async def _with_retries(self, submission: Submission) -> Created:
        try:
            return await self._through_queue(submission)
        except RetryableFailure as failure:
            first = failure
        call, hook = submission.call, self._pipeline.hook
        return await submission.retry.again(
            first,
            lambda: self._through_queue(submission),
            deadline=submission.deadline,
            on_retry=request_events.retries(hook, call.method, call.path),
        )

    async def _through_queue(self, submission: Submission) -> Created:
        while True:
            await self._enter_queue(submission)
            try:
                attempt: ShieldedCall[Created] = ShieldedCall(
                    lambda own: self._send_once(submission, own)
                )
                return await attempt.run()
            except QueueFullError as full:
                error = full
            finally:  # here and not in the child, which a stranger may cancel
                self._leave_queue(submission)
            if not self._may_queue_again(submission, error):
                raise error

    async def _enter_queue(self, submission: Submission) -> None:
        """Enter the service's queue, as soon as it takes one more."""
        if submission.before_wait is not None:
            await submission.before_wait()
        hook = self._pipeline.hook
        since = None if hook is None else anyio.current_time()
        await self._park(submission)
        submission.holds_queue_slot = True
        if hook is not None and since is not None:
            number = submission.attempts + 1
            request_events.rate_limit_waited(
                hook, submission.call, number, since, "queue"
            )

    def _may_queue_again(self, submission: Submission, error: QueueFullError) -> bool:
        """Whether a create that met a full queue stands in line again."""
        return (
            submission.retry.max_retries > 0
            and (error.retry_after or 0) <= submission.retry.max_retry_wait
            and self._inflight.next_try() <= submission.deadline
        )

    def _leave_queue(self, submission: Submission) -> None:
        if submission.holds_queue_slot:
            submission.holds_queue_slot = False
            self._inflight.not_entered()

    async def _send_once(
        self, submission: Submission, shielded: ShieldedCall[Created]
    ) -> Created:
        permit = await self._take_permit(submission, shielded)
        with shielded.shielded():
            try:
                response = await self._send(submission, permit, shielded)
            except anyio.get_cancelled_exc_class():
                if not shielded.grace_expired and submission.in_doubt_since is not None:
                    await self._rescue(submission)
                raise
            return await self._classify(submission, response)
        if submission.accepted is not None:  # only `on_submitted` was given up
            return submission.accepted
        raise OutcomeUnknown(f"given up {GRACE:g} s after the call was cancelled")

    async def _take_permit(
        self, submission: Submission, shielded: ShieldedCall[Created]
    ) -> RatePermit:
        submission.attempts += 1
        permit = await self._pipeline.turn(
            submission.call, deadline=submission.deadline, number=submission.attempts
        )
        try:
            if submission.before_send is not None:
                await submission.before_send()
            await shielded.checkpoint()
        except BaseException:
            permit.unsent()
            raise
        return permit

    async def _send(
        self,
        submission: Submission,
        permit: RatePermit,
        shielded: ShieldedCall[Created],
    ) -> Response:
        submission.sent_at = anyio.current_time()
        try:
            return await self._pipeline.send(
                submission.call,
                permit,
                number=submission.attempts,
                trace=SendTracker(
                    lambda: not shielded.caller_cancelled,
                    shielded.release,
                    shielded.hold,
                ),
                on_unsent=submission.mark_unsent,
            )
        except NoResponse as failure:
            fate = self._on_no_response(submission, failure)
        except ClientClosedError:
            submission.sent_at = None
            raise
        except BaseException:  # the grace is over, or a stranger cancelled the child
            if submission.sent_at is not None:  # else it was still connecting
                self._mark_lost(submission, "given up on the wire")
            raise
        raise fate

    async def _rescue(self, submission: Submission) -> None:
        """Find the id of a create whose task a stranger cancelled, within the grace.

        asyncio only: `asyncio.run` cancels every task that is left when it ends.
        """
        unknown = OutcomeUnknown("its task was cancelled from outside")
        result = await self._search(submission, unknown)
        if result.track is not None:
            self._inflight.adopted(result.track.id, self._entry(submission))
            await self._publish(submission, result.track, adopted=True)

    def _on_no_response(self, submission: Submission, failure: NoResponse) -> Exception:
        if failure.evidence == "not_sent":
            submission.sent_at = None
            error = failure.as_error(submission.call)
            return error if failure.lasts else RetryableFailure(error)
        return self._mark_lost(submission, failure.reason)

    def _mark_lost(
        self, submission: Submission, reason: str, error: APIStatusError | None = None
    ) -> OutcomeUnknown:
        """Note that it may be paid, at once: the lookup may never come."""
        if submission.first_lost_sent_at is None:
            submission.first_lost_sent_at = submission.sent_at
        submission.last_lost_sent_at = submission.sent_at
        submission.sent_at, submission.unknown_reason = None, reason
        logger.warning(
            "a create got no usable answer (%s); it may be paid, its seed is %s",
            reason,
            submission.seed,
        )
        if self._pipeline.hook is not None:
            _create_events.emit_unknown(
                self._pipeline.hook, submission, reason, given_up=False
            )
        return OutcomeUnknown(reason, error)

    async def _classify(self, submission: Submission, response: Response) -> Created:
        if response.is_success:
            return await self._accept(submission, response)
        error = parsing.status_error(response, idempotent=False)
        if isinstance(error, QueueFullError):
            self._on_queue_full(submission, error)
            raise error
        if response.is_redirect:  # nothing is behind it that a lookup could find
            self._mark_lost(submission, str(error))
            raise error
        if not proves_refusal(response, error):
            raise self._mark_lost(submission, str(error), error)
        submission.sent_at = None
        self._pipeline.check(submission.call, response)
        raise error

    def _on_queue_full(self, submission: Submission, error: QueueFullError) -> None:
        submission.sent_at = None
        submission.holds_queue_slot = False
        was_known = self._inflight.queue_capacity is not None
        self._inflight.refused(error.retry_after)
        _create_events.report_queue_full(
            self._pipeline.hook, error, was_known=was_known
        )

    async def _accept(self, submission: Submission, response: Response) -> Created:
        """Enter what was accepted, before anything else can happen."""
        try:
            track = read_acceptance(submission, response)
        except APIResponseError as error:
            reason = error.message
        else:
            strange = self._not_ours(submission, track)
            if strange is None or await self._is_reused_id(submission, track):
                submission.holds_queue_slot = False
                self._pipeline.transport.pool.tracks.add(track.id)
                entry = self._entry(submission, response.received_at)
                self._inflight.accepted(track.id, entry)
                await self._publish(submission, track, request_id=response.request_id)
                return accepted_state(submission)
            reason = f"that is the answer to another request: {strange}"
            await self._pipeline.transport.retire()
        raise self._mark_lost(submission, reason)

    async def _is_reused_id(self, submission: Submission, track: Created) -> bool:
        """Whether a claimed id has become that of this create: ids began anew.

        An emulator that was started again gives them out once more. Then the track
        itself has the seed that was drawn for this create.
        """
        if not (submission.seed_is_ours and seed_of(track) == submission.seed):
            return False
        path = f"{submission.call.path}/{quote(track.id, safe='')}"
        call = Call(method="GET", path=path, shows=track.id)
        with anyio.move_on_after(CHECK_TIMEOUT), suppress(FinetuningError):
            response = await self._pipeline.request(call, max_retries=0)
            return seed_of(parsing.generation(response)) == submission.seed
        return False

    def _not_ours(self, submission: Submission, track: Created) -> str | None:
        """Say why an answer is not that to this create; `None` if it may be."""
        register, kind = self._inflight, submission.request.kind
        shown = seed_of(track)
        known = SentRequest(
            seed=submission.seed,
            is_claimed=register.is_claimed(track.id),
            is_open_elsewhere=shown != submission.seed
            and register.is_open(kind, shown),
            echoes=kind in register.echoing,
        )
        return foreign_reason(submission.request, track, known)

    def _entry(
        self, submission: Submission, accepted_at: float | None = None
    ) -> TrackInProgress:
        return submission.to_track_in_progress(
            accepted_at or anyio.current_time(), self._pipeline.hook
        )

    async def _publish(
        self,
        submission: Submission,
        track: Created,
        *,
        adopted: bool = False,
        request_id: str | None = None,
    ) -> None:
        """Tell of an accepted track: first its creator, then whoever else listens.

        What fails here cannot take the track back, and ends no call.
        """
        submission.sent_at, submission.accepted = None, track
        changed: dict[str, tuple[Any, Any]] = {}
        with contained("comparing what was accepted"):
            changed = changes(submission.request, track, seed=submission.seed)
            if changed:
                submission.accepted = attrs.evolve(track, changed_by_service=changed)
        try:
            await call_on_submitted(submission)
        finally:
            with contained("telling what was accepted"):
                self._announce(
                    submission, changed, adopted=adopted, request_id=request_id
                )

    def _announce(
        self,
        submission: Submission,
        changed: dict[str, tuple[Any, Any]],
        *,
        adopted: bool,
        request_id: str | None,
    ) -> None:
        track = accepted_state(submission)
        logger.info("accepted %s %s", track.kind, track.id)
        self._learn(submission, track, changed)
        if self._pipeline.hook is not None:
            _create_events.emit_accepted(
                self._pipeline.hook,
                submission,
                track,
                adopted=adopted,
                request_id=request_id,
            )
        if track.is_final:
            self._inflight.observe_final(track)

    def _learn(
        self,
        submission: Submission,
        track: Created,
        changed: dict[str, tuple[Any, Any]],
    ) -> None:
        """Note what the service changed; a changed seed ends all adoption."""
        if submission.seed is not None and seed_of(track) == submission.seed:
            self._inflight.echoing.add(submission.request.kind)
        # A seed of 0 may mean that the service picks one (Q27); that proves nothing.
        seed_is_lost = "seed" in changed and submission.seed != 0
        if seed_is_lost and self._inflight.seeds_are_echoed:
            self._inflight.seeds_are_echoed = False
            logger.warning(
                "the service changed the seed of %s; lost creates of this account can"
                " no longer be told apart and will not be adopted",
                track.id,
            )
        elif changed:
            logger.warning("the service changed %s of %s", sorted(changed), track.id)

    async def _recover(
        self, submission: Submission, unknown: OutcomeUnknown
    ) -> Created | None:
        """Find a lost create; `None` if it may be sent again.

        Raises:
            SubmissionUnknownError: It was not found.
            APIStatusError: The service said that it failed, and it is not there.
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

    async def _adopt(self, submission: Submission, track: Generation) -> Created:
        self._inflight.adopted(track.id, self._entry(submission))
        logger.warning("found %s again, whose answer was lost", track.id)

        async def tell(shielded: ShieldedCall[None]) -> None:
            with shielded.shielded():
                await self._publish(submission, track, adopted=True)

        await ShieldedCall[None](tell).run()
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
        now = anyio.current_time()
        lost = LostCreate(
            request=submission.request,
            seed=submission.seed,
            seed_is_ours=submission.seed_is_ours,
            seed_mark=submission.seed_mark,
            sent_at=now
            if submission.first_lost_sent_at is None
            else submission.first_lost_sent_at,
            last_sent_at=now
            if submission.last_lost_sent_at is None
            else submission.last_lost_sent_at,
            lost_at=now,
        )
        recovery = Recovery(self._pipeline, self._inflight, lost, prove=prove)
        # What may be sent again takes more than the service's word and one listing.
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
