"""Creating a track, paid once.

What became of a create is one of four, by evidence and not by exception class:

    not sent   no byte left                        sent again
    refused    a well-formed 4xx                   a rate or queue 429 waits and is sent
                                                   again, others are raised
    accepted   2xx with an id, whatever else       returned
    unknown    bytes left, then silence; 5xx;      looked up, never sent again on
               2xx without an id                   a guess

Each attempt runs in a child task. Cancelled while its bytes are on the way, it gets a
few seconds more, so that the id is not lost: it reaches the register, the log and
`on_submitted` before the cancellation goes on.
"""

from __future__ import annotations

import inspect
import logging
from contextlib import asynccontextmanager
from math import inf
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import anyio
import anyio.lowlevel
import attrs

from finetuning_async import _parsing
from finetuning_async._changes import changes
from finetuning_async._errors import (
    APIResponseError,
    APIStatusError,
    QueueFullError,
    SubmissionUnknownError,
)
from finetuning_async._inflight import UnderWay
from finetuning_async._lookup import Finding, Lookup, Lost
from finetuning_async._models import Generation, SoundEffect
from finetuning_async._retry import Repeatable
from finetuning_async._shield import GRACE, Guarded
from finetuning_async._transport import NoAnswer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from finetuning_async._inflight import InFlight
    from finetuning_async._limiter import Permit
    from finetuning_async._pipeline import Pipeline
    from finetuning_async._requests import AnyRequest
    from finetuning_async._types import OnUnknown
    from finetuning_async._wire import Answer, Call

    Created: TypeAlias = Generation | SoundEffect
    Park: TypeAlias = Callable[["Order"], Awaitable[None]]

logger = logging.getLogger("finetuning_async")

REQUEST_TIMEOUT: Final = 408
"""The one 4xx that a proxy may send after the service has begun to work."""


class Unknown(Exception):  # noqa: N818 - a fate on its way to a lookup
    """A create may have been accepted, and its answer is lost.

    Attributes:
        reason: What was seen instead of an answer.
        error: The service's own error, if it sent one.
    """

    def __init__(self, reason: str, error: APIStatusError | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.error = error


@attrs.define(kw_only=True, eq=False)
class Order:
    """One create, from the call to its end.

    Attributes:
        request: What the caller asked for.
        call: What is sent; the same at every attempt, seed included.
        seed: The seed sent; `None` for a sound effect, which has none.
        on_unknown: What to do when its fate cannot be learned.
        on_submitted: Told the accepted state, before anything else can happen.
        accepted: The accepted state, once there is one.
        deadline: For all attempts together, on the loop's clock.
        sent_at: When the last attempt went out, on the loop's clock; `None` while it is
            known that nothing of ours can have been accepted.
        attempts: How many were made.
        resubmissions: How often it was sent again although its fate was not known.
    """

    request: AnyRequest
    call: Call
    seed: int | None
    on_unknown: OnUnknown = "raise"
    on_submitted: Callable[[Any], Awaitable[None] | None] | None = None
    accepted: Created | None = None
    deadline: float = inf
    sent_at: float | None = None
    attempts: int = 0
    resubmissions: int = 0

    @property
    def seed_is_ours(self) -> bool:
        """Whether the seed was drawn here rather than chosen by the caller."""
        return getattr(self.request, "seed", None) is None

    @property
    def identity(self) -> tuple[object, ...] | None:
        """What creates that look alike in a list share; those go one by one."""
        if self.seed is None or self.seed_is_ours:
            return None
        return (self.request.kind, self.request.prompt, self.seed)


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
        one_by_one: OneByOne,
    ) -> None:
        self._pipeline = pipeline
        self._inflight = inflight
        self._park = park
        self._one_by_one = one_by_one

    async def submit(self, order: Order) -> Created:
        """Create, and return the accepted state.

        Cancelled before a byte left, nothing was sent and no turn is lost. Cancelled
        later, the attempt may take `GRACE` seconds more; `order.accepted` then tells.

        Raises:
            SubmissionUnknownError: It may be paid, and could not be found.
            APIStatusError: The service refused it.
            APIConnectionError: It could not be sent.
        """
        async with self._one_by_one.turn(order.identity):
            while True:
                try:
                    return await self._until_answered(order)
                except Unknown as fate:
                    unknown = fate
                found = await self._look_up(order, unknown)
                if found is not None:
                    return found
                order.sent_at = None
                order.resubmissions += 1
                logger.warning("resubmitting a create that was not found: %s", unknown)

    async def _until_answered(self, order: Order) -> Created:
        try:
            return await self._attempt(order)
        except Repeatable as failure:
            first = failure
        return await self._pipeline.retry.again(
            first, lambda: self._attempt(order), deadline=order.deadline
        )

    async def _attempt(self, order: Order) -> Created:
        while True:
            await self._park(order)
            guarded: Guarded[Created] = Guarded(lambda held: self._once(order, held))
            try:
                return await guarded.run()
            except QueueFullError:
                if not self._pipeline.retry.max_retries:
                    raise

    async def _once(self, order: Order, guarded: Guarded[Created]) -> Created:
        """One attempt; the place in the queue that was taken for it is settled."""
        permit = await self._turn(order)
        with guarded.held():
            order.sent_at = anyio.current_time()
            answer = await self._send(order, permit)
            return await self._judge(order, answer)
        raise Unknown(f"given up {GRACE:g} s after the call was cancelled")

    async def _turn(self, order: Order) -> Permit:
        again, order.attempts = order.attempts > 0, order.attempts + 1
        try:
            permit = await self._pipeline.turn(
                order.call, deadline=order.deadline, first=again
            )
            try:
                await anyio.lowlevel.checkpoint_if_cancelled()
            except BaseException:
                permit.unsent()
                raise
        except BaseException:
            self._inflight.not_entered()
            raise
        return permit

    async def _send(self, order: Order, permit: Permit) -> Answer:
        """Send; cancelled when the grace is over, the fate is unknown and said so."""
        try:
            return await self._pipeline.send(order.call, permit)
        except NoAnswer as failure:
            self._inflight.not_entered()
            fate: Exception = Unknown(failure.reason)
            if failure.evidence == "not_sent":
                order.sent_at = None
                fate = Repeatable(failure.as_error(order.call))
        except BaseException:
            self._inflight.not_entered()
            logger.warning(
                "a create was given up on the wire; it may be paid: look for seed=%s",
                order.seed,
            )
            raise
        raise fate

    async def _judge(self, order: Order, answer: Answer) -> Created:
        if answer.is_success:
            return await self._accept(order, answer)
        error = _parsing.status_error(answer, idempotent=False)
        if isinstance(error, QueueFullError):
            order.sent_at = None
            self._inflight.refused()
            raise error
        self._inflight.not_entered()
        if not 400 <= answer.status < 500 or answer.status == REQUEST_TIMEOUT:
            raise Unknown(str(error), error)
        order.sent_at = None
        self._pipeline.check(order.call, answer)
        raise error

    async def _accept(self, order: Order, answer: Answer) -> Created:
        try:
            track = _read(order, answer)
        except APIResponseError as error:
            self._inflight.not_entered()
            raise Unknown(error.message) from None
        track = self._compare(order, track)
        self._inflight.accepted(track.id, self._entry(order))
        await self._tell(order, track)
        return track

    def _entry(self, order: Order) -> UnderWay:
        return UnderWay(
            kind=order.request.kind,
            accepted_at=anyio.current_time(),
            duration=order.request.duration,
            has_webhook=order.request.webhook is not None,
        )

    def _compare(self, order: Order, track: Created) -> Created:
        """Note what the service changed; a changed seed ends all adoption."""
        changed = changes(order.request, track, seed=order.seed)
        if "seed" in changed and self._inflight.seeds_are_echoed:
            self._inflight.seeds_are_echoed = False
            logger.warning(
                "the service changed the seed of %s; lost creates of this account can"
                " no longer be told apart and will not be adopted",
                track.id,
            )
        elif changed:
            logger.warning("the service changed %s of %s", sorted(changed), track.id)
        return attrs.evolve(track, changed_by_service=changed)

    async def _tell(self, order: Order, track: Created) -> None:
        order.accepted = track
        logger.info("accepted %s %s", track.kind, track.id)
        if order.on_submitted is not None:
            told = order.on_submitted(track)
            if inspect.isawaitable(told):
                await told

    async def _look_up(self, order: Order, unknown: Unknown) -> Created | None:
        """Find a lost create; `None` if it may be sent again.

        Raises:
            SubmissionUnknownError: It was not found.
            InternalServerError: The service said that it failed, and it is not there.
        """
        logger.warning("a create got no usable answer (%s)", unknown.reason)
        finding = await self._find(order, unknown)
        if finding.track is not None:
            track = self._compare(order, finding.track)
            self._inflight.adopted(track.id, self._entry(order))
            logger.warning("adopted %s, whose create was answered by silence", track.id)
            await self._tell(order, track)
            return track
        if finding.absent and self._may_resubmit(order):
            return None
        if finding.absent and unknown.error is not None and _said_so(unknown):
            raise unknown.error
        raise self._unknown_error(order, unknown, finding)

    def _may_resubmit(self, order: Order) -> bool:
        return (
            order.on_unknown == "resubmit"
            and order.resubmissions < self._pipeline.retry.max_retries
        )

    async def _find(self, order: Order, unknown: Unknown) -> Finding:
        if order.seed is None or order.sent_at is None:
            return Finding()
        lost = Lost(
            kind=order.request.kind,
            prompt=order.request.prompt,
            seed=order.seed,
            seed_is_ours=order.seed_is_ours,
            sent_at=order.sent_at,
            lost_at=anyio.current_time(),
        )
        lookup = Lookup(self._pipeline, self._inflight, lost)
        return await lookup.find(settle=not _said_so(unknown))

    def _unknown_error(
        self, order: Order, unknown: Unknown, finding: Finding
    ) -> SubmissionUnknownError:
        where = (
            f"candidates: {', '.join(finding.candidates)}"
            if finding.candidates
            else "no track in the list shows it"
        )
        return SubmissionUnknownError(
            f"a create was sent and its fate is not known ({unknown.reason}); {where}."
            f" It may be paid: look for seed={order.seed} in generations.list() before"
            " creating it again",
            prompt=order.request.prompt,
            seed=order.seed,
            sent_at=self._pipeline.clock.not_before(order.sent_at or -inf),
            candidates=finding.candidates,
        )


class OneByOne:
    """Lets orders of one identity through one after another."""

    def __init__(self) -> None:
        self._lines: dict[tuple[object, ...], _Line] = {}

    @asynccontextmanager
    async def turn(self, identity: tuple[object, ...] | None) -> AsyncGenerator[None]:
        """Hold the turn of an identity; `None` shares with nobody."""
        if identity is None:
            yield
            return
        line = self._lines.setdefault(identity, _Line())
        line.users += 1
        try:
            async with line.lock:
                yield
        finally:
            line.users -= 1
            if not line.users:
                del self._lines[identity]


@attrs.define
class _Line:
    """A lock, and how many hold it or wait for it."""

    lock: anyio.Lock = attrs.field(factory=anyio.Lock)
    users: int = 0


def _said_so(unknown: Unknown) -> bool:
    """Whether the service itself said that the job could not be queued.

    Nothing is under way then that could still commit.
    """
    return unknown.error is not None and unknown.error.code == "GENERATION_FAILED"


def _read(order: Order, answer: Answer) -> Created:
    """The accepted state: all of it, or at least the id.

    Raises:
        APIResponseError: There is no id to be found in it.
    """
    try:
        if order.request.kind == "sound_effect":
            return _parsing.sound_effect(answer)
        return _parsing.generation(answer, kind=order.request.kind)
    except APIResponseError:
        track_id = _parsing.accepted_id(answer)
        if track_id is None:
            raise
    if order.request.kind == "sound_effect":
        return SoundEffect(id=track_id, status="pending", prompt=order.request.prompt)
    return Generation(
        id=track_id,
        status="pending",
        kind=order.request.kind,
        prompt=order.request.prompt,
    )
