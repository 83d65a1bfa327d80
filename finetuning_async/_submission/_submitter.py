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
from finetuning_async._logging import log_exceptions
from finetuning_async._runtime import GRACE, ShieldedCall
from finetuning_async._submission import _create_events
from finetuning_async._submission._acceptance import (
    accepted_by,
    hand_over,
    is_refusal,
    read_acceptance,
    seed_of,
)
from finetuning_async._submission._foreign_response import SentRequest, not_ours
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

ONE_LOOK: Final = 10.0
"""Seconds for a look that is to tell at once, a turn for it included."""


class Submitter:
    """Sends creates for one client.

    Args:
        pipeline: Turns, sending and checking.
        inflight: The account's register.
        park: Waits until an order may enter the service's queue, and enters it.
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

    async def submit(self, order: Submission) -> Created:
        """Create, and return the accepted state.

        Cancelled before a byte left, nothing was sent and no turn is lost. Cancelled
        later, the attempt may take `GRACE` seconds more; `order.accepted` then tells.

        Raises:
            SubmissionUnknownError: It may be paid, and could not be found.
            APIStatusError: The service refused it.
            APIConnectionError: It could not be sent.
            Exception: What `on_submitted` raised; a note names the accepted track.
        """
        if self._pipeline.hook is not None:
            order.began_at = anyio.current_time()
        if order.identity is None:
            return await self._with_mark(order)
        await self._one_by_one.acquire(order.identity)
        try:
            return await self._with_mark(order)
        finally:
            self._one_by_one.release(order.identity)

    async def _with_mark(self, order: Submission) -> Created:
        with self._inflight.seed_in_flight(
            order.request.kind, order.seed
        ) as order.mark:
            track = await self._until_known(order)
        if order.callback_error is not None:
            raise order.callback_error
        return track

    async def _until_known(self, order: Submission) -> Created:
        while True:
            try:
                return await self._until_answered(order)
            except OutcomeUnknown as fate:
                unknown = fate
            if unknown.is_throttled:
                return await self._look_once(order, unknown)
            found = await self._look_up(order, unknown)
            if found is not None:
                return found
            order.resubmissions += 1
            logger.warning(
                "sending seed=%s again: its create was not found", order.seed
            )

    async def _look_once(self, order: Submission, unknown: OutcomeUnknown) -> Created:
        """Look whether a create came through that a proxy says it has stopped.

        Raises:
            RateLimitError: The list does not show it, or cannot be read now.
            SubmissionUnknownError: The list shows what may be it.
        """
        finding = RecoveryResult()
        with anyio.move_on_after(ONE_LOOK):
            finding = await self._find(order, unknown)
        if finding.track is not None:
            return await self._adopt(order, finding.track)
        if finding.candidates or unknown.error is None:
            raise self._unknown_error(order, unknown, finding) from unknown.error
        seen = "shows nothing" if finding.is_unlisted else "could not be read at once"
        unknown.error.add_note(f"the create was not sent again; the list {seen}")
        raise unknown.error

    async def _until_answered(self, order: Submission) -> Created:
        try:
            return await self._attempt(order)
        except RetryableFailure as failure:
            first = failure
        call, hook = order.call, self._pipeline.hook
        return await order.retry.run(
            first,
            lambda: self._attempt(order),
            deadline=order.deadline,
            on_retry=request_events.retry_callback(hook, call.method, call.path),
        )

    async def _attempt(self, order: Submission) -> Created:
        while True:
            await self._take_a_place(order)
            try:
                attempt: ShieldedCall[Created] = ShieldedCall(
                    lambda own: self._once(order, own)
                )
                return await attempt.run()
            except QueueFullError as full:
                error = full
            finally:  # here and not in the child, which a stranger may cancel
                self._give_the_place_back(order)
            if not self._may_wait(order, error):
                raise error

    async def _take_a_place(self, order: Submission) -> None:
        """Enter the service's queue, as soon as it takes one more."""
        if order.before_wait is not None:
            await order.before_wait()
        hook = self._pipeline.hook
        since = None if hook is None else anyio.current_time()
        await self._park(order)
        order.has_place = True
        if hook is not None and since is not None:
            number = order.attempts + 1
            request_events.rate_limit_waited(hook, order.call, number, since, "queue")

    def _may_wait(self, order: Submission, error: QueueFullError) -> bool:
        """Whether a create that met a full queue stands in line again."""
        return (
            order.retry.max_retries > 0
            and (error.retry_after or 0) <= order.retry.max_retry_wait
            and self._inflight.next_retry_at() <= order.deadline
        )

    def _give_the_place_back(self, order: Submission) -> None:
        if order.has_place:
            order.has_place = False
            self._inflight.on_not_accepted()

    async def _once(self, order: Submission, guarded: ShieldedCall[Created]) -> Created:
        permit = await self._turn(order, guarded)
        with guarded.shielded():
            try:
                answer = await self._send(order, permit, guarded)
            except anyio.get_cancelled_exc_class():
                if not guarded.grace_expired and order.in_doubt_since is not None:
                    await self._rescue(order)
                raise
            return await self._judge(order, answer)
        if order.accepted is not None:  # only `on_submitted` was given up
            return order.accepted
        raise OutcomeUnknown(f"given up {GRACE:g} s after the call was cancelled")

    async def _turn(
        self, order: Submission, guarded: ShieldedCall[Created]
    ) -> RatePermit:
        order.attempts += 1
        permit = await self._pipeline.acquire_permit(
            order.call, deadline=order.deadline, number=order.attempts
        )
        try:
            if order.before_send is not None:
                await order.before_send()
            await guarded.checkpoint()
        except BaseException:
            permit.unsent()
            raise
        return permit

    async def _send(
        self, order: Submission, permit: RatePermit, guarded: ShieldedCall[Created]
    ) -> Response:
        order.sent_at = anyio.current_time()
        try:
            return await self._pipeline.send(
                order.call,
                permit,
                number=order.attempts,
                tracker=SendTracker(
                    lambda: not guarded.caller_cancelled,
                    guarded.unshield,
                    guarded.reshield,
                ),
                on_unsent=order.did_not_leave,
            )
        except NoResponse as failure:
            fate = self._without_answer(order, failure)
        except ClientClosedError:
            order.sent_at = None
            raise
        except BaseException:  # the grace is over, or a stranger cancelled the child
            if order.sent_at is not None:  # else it was still connecting
                self._lost(order, "given up on the wire")
            raise
        raise fate

    async def _rescue(self, order: Submission) -> None:
        """Find the id of a create whose task a stranger cancelled, within the grace.

        asyncio only: `asyncio.run` cancels every task that is left when it ends.
        """
        unknown = OutcomeUnknown("its task was cancelled from outside")
        finding = await self._find(order, unknown)
        if finding.track is not None:
            self._inflight.adopt(finding.track.id, self._entry(order))
            await self._tell(order, finding.track, adopted=True)

    def _without_answer(self, order: Submission, failure: NoResponse) -> Exception:
        if failure.evidence == "not_sent":
            order.sent_at = None
            error = failure.as_error(order.call)
            return error if failure.is_permanent else RetryableFailure(error)
        return self._lost(order, failure.reason)

    def _lost(
        self, order: Submission, reason: str, error: APIStatusError | None = None
    ) -> OutcomeUnknown:
        """Note that it may be paid, at once: the lookup may never come."""
        if order.lost_since is None:
            order.lost_since = order.sent_at
        order.lost_last = order.sent_at
        order.sent_at, order.doubt = None, reason
        logger.warning(
            "a create got no usable answer (%s); it may be paid, its seed is %s",
            reason,
            order.seed,
        )
        if self._pipeline.hook is not None:
            _create_events.unknown(self._pipeline.hook, order, reason, given_up=False)
        return OutcomeUnknown(reason, error)

    async def _judge(self, order: Submission, answer: Response) -> Created:
        if answer.is_success:
            return await self._accept(order, answer)
        error = parsing.status_error(answer, idempotent=False)
        if isinstance(error, QueueFullError):
            self._refused_by_the_queue(order, error)
            raise error
        if answer.is_redirect:  # nothing is behind it that a lookup could find
            self._lost(order, str(error))
            raise error
        if not is_refusal(answer, error):
            raise self._lost(order, str(error), error)
        order.sent_at = None
        self._pipeline.raise_for_status(order.call, answer)
        raise error

    def _refused_by_the_queue(self, order: Submission, error: QueueFullError) -> None:
        order.sent_at = None
        order.has_place = False
        was_known = self._inflight.queue_capacity is not None
        self._inflight.on_queue_full(error.retry_after)
        _create_events.queue_full(self._pipeline.hook, error, was_known=was_known)

    async def _accept(self, order: Submission, answer: Response) -> Created:
        """Enter what was accepted, before anything else can happen."""
        try:
            track = read_acceptance(order, answer)
        except APIResponseError as error:
            reason = error.message
        else:
            strange = self._not_ours(order, track)
            if strange is None or await self._is_ours_all_the_same(order, track):
                order.has_place = False
                self._pipeline.transport.pool.recent_ids.add(track.id)
                entry = self._entry(order, answer.received_at)
                self._inflight.on_accepted(track.id, entry)
                await self._tell(order, track, request_id=answer.request_id)
                return accepted_by(order)
            reason = f"that is the answer to another request: {strange}"
            await self._pipeline.transport.retire()
        raise self._lost(order, reason)

    async def _is_ours_all_the_same(self, order: Submission, track: Created) -> bool:
        """Whether a claimed id has become that of this create: ids began anew.

        An emulator that was started again gives them out once more. Then the track
        itself has the seed that was drawn for this create.
        """
        if not (order.seed_is_ours and seed_of(track) == order.seed):
            return False
        path = f"{order.call.path}/{quote(track.id, safe='')}"
        call = Call(method="GET", path=path, shows=track.id)
        with anyio.move_on_after(ONE_LOOK), suppress(FinetuningError):
            answer = await self._pipeline.request(call, max_retries=0)
            return seed_of(parsing.generation(answer)) == order.seed
        return False

    def _not_ours(self, order: Submission, track: Created) -> str | None:
        """Say why an answer is not that to this create; `None` if it may be."""
        register, kind = self._inflight, order.request.kind
        shown = seed_of(track)
        known = SentRequest(
            seed=order.seed,
            is_claimed=register.is_claimed(track.id),
            is_open_elsewhere=shown != order.seed
            and register.is_seed_in_flight(kind, shown),
            echoes=kind in register.echoing,
        )
        return not_ours(order.request, track, known)

    def _entry(
        self, order: Submission, accepted_at: float | None = None
    ) -> TrackInProgress:
        return order.under_way(accepted_at or anyio.current_time(), self._pipeline.hook)

    async def _tell(
        self,
        order: Submission,
        track: Created,
        *,
        adopted: bool = False,
        request_id: str | None = None,
    ) -> None:
        """Tell of an accepted track: first its creator, then whoever else listens.

        What fails here cannot take the track back, and ends no call.
        """
        order.sent_at, order.accepted = None, track
        changed: dict[str, tuple[Any, Any]] = {}
        with log_exceptions("comparing the accepted track with the request"):
            changed = changes(order.request, track, seed=order.seed)
            if changed:
                order.accepted = attrs.evolve(track, changed_by_service=changed)
        try:
            await hand_over(order)
        finally:
            with log_exceptions("reporting the accepted track"):
                self._announce(order, changed, adopted=adopted, request_id=request_id)

    def _announce(
        self,
        order: Submission,
        changed: dict[str, tuple[Any, Any]],
        *,
        adopted: bool,
        request_id: str | None,
    ) -> None:
        track = accepted_by(order)
        logger.info("accepted %s %s", track.kind, track.id)
        self._learn(order, track, changed)
        if self._pipeline.hook is not None:
            _create_events.accepted(
                self._pipeline.hook,
                order,
                track,
                adopted=adopted,
                request_id=request_id,
            )
        if track.is_final:
            self._inflight.observe_final(track)

    def _learn(
        self, order: Submission, track: Created, changed: dict[str, tuple[Any, Any]]
    ) -> None:
        """Note what the service changed; a changed seed ends all adoption."""
        if order.seed is not None and seed_of(track) == order.seed:
            self._inflight.echoing.add(order.request.kind)
        # A seed of 0 may mean that the service picks one (Q27); that proves nothing.
        seed_is_lost = "seed" in changed and order.seed != 0
        if seed_is_lost and self._inflight.seeds_are_echoed:
            self._inflight.seeds_are_echoed = False
            logger.warning(
                "the service changed the seed of %s; lost creates of this account can"
                " no longer be told apart and will not be adopted",
                track.id,
            )
        elif changed:
            logger.warning("the service changed %s of %s", sorted(changed), track.id)

    async def _look_up(
        self, order: Submission, unknown: OutcomeUnknown
    ) -> Created | None:
        """Find a lost create; `None` if it may be sent again.

        Raises:
            SubmissionUnknownError: It was not found.
            APIStatusError: The service said that it failed, and it is not there.
        """
        may_resubmit = self._may_resubmit(order)
        finding = await self._find(order, unknown, prove=may_resubmit)
        if finding.track is not None:
            return await self._adopt(order, finding.track)
        if finding.is_absent and may_resubmit:
            return None
        error = unknown.error_if_absent
        if finding.is_unlisted and error is not None:
            raise error
        raise self._unknown_error(order, unknown, finding) from unknown.error

    async def _adopt(self, order: Submission, track: Generation) -> Created:
        self._inflight.adopt(track.id, self._entry(order))
        logger.warning("found %s again, whose answer was lost", track.id)

        async def tell(guarded: ShieldedCall[None]) -> None:
            with guarded.shielded():
                await self._tell(order, track, adopted=True)

        await ShieldedCall[None](tell).run()
        return accepted_by(order)

    def _may_resubmit(self, order: Submission) -> bool:
        return (
            order.on_unknown == "resubmit"
            and order.seed is not None
            and order.resubmissions < max(order.retry.max_retries, 1)
        )

    async def _find(
        self, order: Submission, unknown: OutcomeUnknown, *, prove: bool = False
    ) -> RecoveryResult:
        now = anyio.current_time()
        lost = LostCreate(
            request=order.request,
            seed=order.seed,
            seed_is_ours=order.seed_is_ours,
            mark=order.mark,
            sent_at=now if order.lost_since is None else order.lost_since,
            last_sent_at=now if order.lost_last is None else order.lost_last,
            lost_at=now,
        )
        lookup = Recovery(self._pipeline, self._inflight, lost, prove=prove)
        # What may be sent again takes more than the service's word and one listing.
        return await lookup.find(settle=prove or not unknown.is_settled)

    def _unknown_error(
        self, order: Submission, unknown: OutcomeUnknown, finding: RecoveryResult
    ) -> SubmissionUnknownError:
        since = order.in_doubt_since
        return _create_events.unknown_error(
            self._pipeline.hook,
            order,
            unknown.reason,
            finding.words,
            sent_at=None if since is None else self._pipeline.clock.not_before(since),
            candidates=finding.candidates,
        )
