"""retry( gate( limit( send ) ) ): the one place that fixes the order.

A turn is taken for each attempt, so a repetition is counted like any other request. The
gate of a 429 and the rate are one question to the limiter: when may this go out?

A create does not go through `Pipeline.request`: what may be repeated there is decided
in `_submit`, with the same `turn`, `send` and `check`.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count
from math import inf
from typing import TYPE_CHECKING

import anyio
import attrs

from finetuning_async._api import RawResponse, parsing
from finetuning_async._errors import APITimeoutError, InternalServerError
from finetuning_async._event_hook import Hook
from finetuning_async._http import _request_events
from finetuning_async._http._delivery import NoResponse, SendTracker
from finetuning_async._http._header_warnings import HeaderWarnings
from finetuning_async._http._retry import RetryableFailure, RetryPolicy
from finetuning_async._http._server_clock import ServerClock
from finetuning_async._http._transport import Transport
from finetuning_async._logging import log_exceptions
from finetuning_async._pacing import RateLimiter
from finetuning_async._rate_codes import is_rate_limited

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from finetuning_async._api import Call, Response
    from finetuning_async._pacing import RatePermit

logger = logging.getLogger("finetuning_async")

_captured: ContextVar[list[RawResponse] | None] = ContextVar(
    "finetuning_async.captured", default=None
)


@attrs.frozen(kw_only=True, eq=False)
class Pipeline:
    """Makes requests for one account, paced and repeated as its rules say.

    Attributes:
        transport: How they are sent.
        limiter: When.
        retry: How often.
        clock: The service's.
        hook: Who is told; `None` for nobody.
        doubts: What was said of what is not believed.
    """

    transport: Transport
    limiter: RateLimiter
    retry: RetryPolicy
    clock: ServerClock
    hook: Hook | None = None
    doubts: HeaderWarnings = attrs.field(factory=HeaderWarnings)

    async def request(
        self, call: Call, *, deadline: float = inf, max_retries: int | None = None
    ) -> Response:
        """Make a request that may be repeated, and return its 2xx answer.

        Args:
            call: What to ask; `Call.repeatable` must hold.
            deadline: On the loop's clock; no pause is begun that does not fit. Whoever
                sets one cancels the call when it comes.
            max_retries: How often it is repeated; `None` for as often as others are.

        Raises:
            InvalidRequestError: `max_retries` is no whole number of at least 0.
            APITimeoutError: Its turn cannot come in time.
            APIConnectionError: The service could not be asked, repeatedly.
            APIStatusError: It answered with an error.
            ClientClosedError: The client was closed.
        """
        retry = self.retry.limited_to(max_retries)
        try:
            return await self.attempt(call, deadline=deadline)
        except RetryableFailure as failure:
            first = failure
        numbers = count(2)
        return await retry.again(
            first,
            lambda: self.attempt(call, deadline=deadline, number=next(numbers)),
            deadline=deadline,
            on_retry=_request_events.retries(self.hook, call.method, call.path),
        )

    async def attempt(
        self, call: Call, *, deadline: float = inf, number: int = 1
    ) -> Response:
        """Make one attempt.

        Args:
            call: What to ask.
            deadline: On the loop's clock; bounds the steps on the wire.
            number: Which attempt it is; a repetition goes before the others that wait.

        Raises:
            Repeatable: It failed and may be made again.
            FinetuningError: It failed.
        """
        permit = await self.turn(call, deadline=deadline, number=number)
        try:
            answer = await self.send(call, permit, deadline=deadline, number=number)
        except NoResponse as failure:
            error, lasts = failure.as_error(call), failure.lasts
        else:
            await self.limiter.flush()
            self.check(call, answer)
            return answer
        await self.limiter.flush()
        if lasts:
            raise error
        raise RetryableFailure(error)

    async def turn(
        self, call: Call, *, deadline: float = inf, number: int = 1
    ) -> RatePermit:
        """Wait for a turn in the budget that a call takes from.

        Cancelled here, nothing was sent and the turn goes to the next.

        Raises:
            RateLimitError: A 429 asked for a pause longer than `max_retry_wait`, or
                than what is left.
            APITimeoutError: The turn cannot come before the deadline.
        """
        first = number > 1
        permit = None if first else self.limiter.try_acquire(call.route)
        if permit is not None:
            return permit
        now = anyio.current_time()
        turn = self.limiter.earliest(call.route)
        if turn > deadline and self.limiter.gate_opens(call.route) <= deadline:
            raise APITimeoutError(
                f"{call.method} {call.path} was not sent: its turn comes in"
                f" {turn - now:.1f} s at the earliest, {deadline - now:.1f} s are left",
                generation_id=call.track_id,
                retry_after=turn - now,
                safe_to_retry=True,
            )
        permit = await self.limiter.acquire(
            call.route,
            first=first,
            max_pause=min(self.retry.max_retry_wait, deadline - now),
        )
        if self.hook is not None:
            _request_events.rate_limit_waited(self.hook, call, number, now, call.route)
        return permit

    async def send(
        self,
        call: Call,
        permit: RatePermit,
        *,
        deadline: float = inf,
        number: int = 1,
        trace: SendTracker | None = None,
        on_unsent: Callable[[], None] = lambda: None,
    ) -> Response:
        """Send a call and settle its permit, whatever happens.

        Args:
            call: What to send.
            permit: Its turn.
            deadline: On the loop's clock; bounds the steps on the wire.
            number: Which attempt it is.
            trace: As for `Transport.send`.
            on_unsent: Likewise.

        Raises:
            NoAnswer: There is none; a call that was not sent has given its turn back.
            Repeatable: It is that of another request.
        """
        now = anyio.current_time()
        left = None if deadline == inf else max(deadline - now, 0.001)
        is_unsent = False

        def unsent() -> None:
            nonlocal is_unsent
            is_unsent = True
            on_unsent()

        try:
            if self.hook is not None:
                _request_events.sent(self.hook, call, number, self.limiter)
            answer = await self.transport.send(
                call,
                seconds_left=left,
                trace=trace,
                on_unsent=unsent,
            )
        except BaseException as error:
            if is_unsent or _request_events.was_not_sent(error):
                permit.unsent()
            else:
                permit.abandoned()
            _request_events.unanswered(self.hook, call, error, number, now)
            raise
        try:
            self._take(call, answer, permit, number)
        except Exception:  # of a limiter of the caller's, perhaps
            if call.repeatable:
                raise
            logger.exception("an answer was not booked")  # nothing may lose the id
            with log_exceptions("returning a permit"):
                permit.abandoned()
        await self._check_whose(call, answer)
        return answer

    async def _check_whose(self, call: Call, answer: Response) -> None:
        """Take no other request's answer for that of this one.

        Raises:
            Repeatable: It shows another id than the one asked for.
        """
        if call.shows is None or not answer.is_success:
            return
        earlier = self.transport.pool.tracks
        error = parsing.mismatch_error(answer, call.shows, earlier)
        earlier.add(call.shows)
        if error is not None:
            await self.transport.retire()
            logger.warning("%s %s: %s", call.method, call.path, error)
            raise RetryableFailure(error)

    def _take(
        self, call: Call, answer: Response, permit: RatePermit, number: int
    ) -> None:
        """Book an answer, learn from it, and tell of it."""
        facts = parsing.response_facts(answer)
        is_refused = is_rate_limited(facts.status, facts.code)
        held_until = self.limiter.gate_opens(call.route) if is_refused else -inf
        permit.answered(facts)
        _capture(call, answer)
        self._learn_the_time(answer)
        self.doubts.about(answer)
        if self.hook is not None or logger.isEnabledFor(logging.DEBUG):
            _request_events.answered(
                self.hook, call, answer, facts, number, self.limiter
            )
        if is_refused and held_until <= answer.received_at:
            opens_at = self.limiter.gate_opens(call.route)
            _request_events.rate_limited(self.hook, call, answer, facts, opens_at)

    def _learn_the_time(self, answer: Response) -> None:
        date = parsing.server_date(answer)
        if date is not None:
            self.clock.seen(
                date, sent_at=answer.sent_at, received_at=answer.received_at
            )

    @staticmethod
    def check(call: Call, answer: Response) -> None:
        """Return if the answer is 2xx.

        Raises:
            Repeatable: It is an error, and the call may be made again.
            APIStatusError: It is an error.
            APIResponseError: It is an error too long to be read.
        """
        if answer.is_success:
            return
        if answer.is_cut:
            raise parsing.too_long_error(answer)
        error = parsing.status_error(
            answer, idempotent=call.repeatable, generation_id=call.track_id
        )
        if is_rate_limited(error.status_code, error.code):
            raise RetryableFailure(error, paced=True)
        if call.repeatable and isinstance(error, InternalServerError):
            raise RetryableFailure(error)
        raise error


@contextmanager
def capture_responses() -> Generator[list[RawResponse]]:
    """Collect the responses behind the calls made in this block, in their order.

    Those of calls that other tasks make are not among them, unless the tasks were
    started in the block. A read of the shared poll loop belongs to the waiter that
    drives it.

        with capture_responses() as responses:
            await client.me()
        print(responses[-1].headers["x-ratelimit-remaining"])
    """
    responses: list[RawResponse] = []
    token = _captured.set(responses)
    try:
        yield responses
    finally:
        _captured.reset(token)


def _capture(call: Call, answer: Response) -> None:
    responses = _captured.get()
    if responses is not None:
        responses.append(
            RawResponse(
                method=call.method,
                path=call.path,
                status=answer.status,
                headers=answer.headers,
                request_id=answer.request_id,
                content=answer.content,
                elapsed=answer.received_at - answer.sent_at,
            )
        )
