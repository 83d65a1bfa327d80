"""One request, from its permit to its checked response; here the order is fixed.

    request            retries what may be retried
      attempt
        acquire_permit   waits for the rate limit, and for the gate that a 429 closed
        send             sends it, ends the permit, learns from the response
        raise_for_status turns an error status into an error

A permit is taken for each attempt, so a retry counts like any other request. The gate
and the rate are one question to the limiter: when may this go out?

A create does not go through `Pipeline.request`. `finetuning_async._submission` decides
what may be repeated there, with the same `acquire_permit`, `send` and
`raise_for_status`.
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
from finetuning_async._pacing import (
    ANY_REQUEST,
    LimiterWithTerms,
    RateLimiter,
    with_terms,
)
from finetuning_async._rate_codes import is_rate_limited

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from finetuning_async._api import Call, Response
    from finetuning_async._pacing import RatePermit, Terms

logger = logging.getLogger("finetuning_async")

_captured: ContextVar[list[RawResponse] | None] = ContextVar(
    "finetuning_async.captured", default=None
)


@attrs.frozen(kw_only=True, eq=False)
class Pipeline:
    """Makes requests for one account, paced and retried.

    Attributes:
        transport: Sends them.
        limiter: Decides when each may go out.
        retry: Decides how often, and after which pauses.
        clock: The service's clock.
        hook: Receives events; `None` for none.
        header_warnings: The warnings that were logged for the account.
    """

    transport: Transport
    limiter: RateLimiter
    retry: RetryPolicy
    clock: ServerClock
    hook: Hook | None = None
    header_warnings: HeaderWarnings = attrs.field(factory=HeaderWarnings)

    async def request(
        self, call: Call, *, deadline: float = inf, max_retries: int | None = None
    ) -> Response:
        """Make a request that may be repeated, and return its 2xx response.

        The deadline is one instant for all attempts, passed down unchanged: to the
        permit, to each attempt on the wire, and to the pauses between attempts.

        Args:
            call: The request; `Call.repeatable` must hold.
            deadline: On the loop's clock. No wait is begun that would end after it. The
                caller cancels this call when it comes.
            max_retries: The number of retries; `None` for that of the policy.

        Raises:
            InvalidRequestError: `max_retries` is not a whole number of at least 0.
            APITimeoutError: The rate limit does not allow it before the deadline.
            APIConnectionError: The service could not be reached, repeatedly.
            APIStatusError: The response has an error status.
            ClientClosedError: The client was closed.
        """
        retry = self.retry.with_max_retries(max_retries)
        # The first attempt is made without tenacity: most calls need no second one.
        try:
            return await self.attempt(call, deadline=deadline)
        except RetryableFailure as failure:
            first = failure
        numbers = count(2)
        return await retry.run(
            first,
            lambda: self.attempt(call, deadline=deadline, number=next(numbers)),
            deadline=deadline,
            on_retry=_request_events.retry_callback(self.hook, call.method, call.path),
        )

    async def attempt(
        self, call: Call, *, deadline: float = inf, number: int = 1
    ) -> Response:
        """Make one attempt.

        Args:
            call: The request.
            deadline: On the loop's clock; bounds the steps on the wire.
            number: The number of the attempt; a retry goes before requests that wait
                for their first permit.

        Raises:
            RetryableFailure: It failed and may be retried.
            FinetuningError: It failed.
        """
        permit = await self.acquire_permit(call, deadline=deadline, number=number)
        try:
            response = await self.send(call, permit, deadline=deadline, number=number)
        except NoResponse as failure:
            error, is_permanent = failure.as_error(call), failure.is_permanent
        else:
            await self.limiter.flush()
            self.raise_for_status(call, response)
            return response
        # Outside of the handler, so that `NoResponse` is not the context of the error.
        await self.limiter.flush()
        if is_permanent:
            raise error
        raise RetryableFailure(error)

    def deals_places(self, call: Call) -> bool:
        """Whether `acquire_permit` takes a slot in the service's queue as well.

        A limiter of the caller's knows nothing of slots, and neither does one of ours
        whose methods a subclass replaces.
        """
        limiter = with_terms(self.limiter, ANY_REQUEST)
        return isinstance(limiter, LimiterWithTerms) and limiter.deals_places(
            call.route
        )

    def try_permit(self, call: Call, terms: Terms) -> RatePermit | None:
        """Take a permit as `acquire_permit` does, if one is free and none waits."""
        return with_terms(self.limiter, terms).try_acquire(call.route)

    async def acquire_permit(
        self,
        call: Call,
        *,
        deadline: float = inf,
        number: int = 1,
        terms: Terms = ANY_REQUEST,
    ) -> RatePermit:
        """Wait for a permit of the rate budget that a call takes from.

        If it is cancelled here, nothing was sent and the permit goes to the next call.

        Args:
            call: The request.
            deadline: On the loop's clock.
            number: The number of the attempt; a repetition goes before others of its
                priority and share.
            terms: How it is dealt its permit; they count where the limiter is ours.

        Raises:
            RateLimitError: A 429 asked for a pause longer than `max_retry_wait`, or
                than the time left.
            APITimeoutError: No permit can come before the deadline.
        """
        is_retry = number > 1
        limiter = with_terms(self.limiter, terms)
        permit = None if is_retry else limiter.try_acquire(call.route)
        if permit is not None:
            return permit
        now = anyio.current_time()
        earliest = limiter.earliest(call.route)
        # Fail now rather than at the deadline. But if a 429 has closed the gate beyond
        # it, `acquire` raises that error, which says more than a timeout.
        if earliest > deadline and self.limiter.gate_opens(call.route) <= deadline:
            raise APITimeoutError(
                f"{call.method} {call.path} was not sent: the rate limit allows it in"
                f" {earliest - now:.1f} s at the earliest, but its timeout leaves"
                f" {deadline - now:.1f} s; raise the timeout, or retry later",
                generation_id=call.track_id,
                retry_after=earliest - now,
                safe_to_retry=True,
            )
        permit = await limiter.acquire(
            call.route,
            first=is_retry,
            max_pause=min(self.retry.max_retry_wait, deadline - now),
        )
        if self.hook is not None:
            parked = 0.0 if terms.gate is None else terms.gate.waited
            _request_events.permit_waited(self.hook, call, number, now, parked)
        return permit

    async def send(
        self,
        call: Call,
        permit: RatePermit,
        *,
        deadline: float = inf,
        number: int = 1,
        tracker: SendTracker | None = None,
        on_unsent: Callable[[], None] = lambda: None,
    ) -> Response:
        """Send a call, and end its permit in any case.

        Args:
            call: The request.
            permit: Its permit.
            deadline: On the loop's clock; bounds the steps on the wire.
            number: The number of the attempt.
            tracker: As for `Transport.send`.
            on_unsent: As for `Transport.send`.

        Raises:
            NoResponse: There is no response. The permit of a call that was not sent is
                free again.
            RetryableFailure: The response belongs to another request.
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
                _request_events.request_sent(self.hook, call, number, self.limiter)
            response = await self.transport.send(
                call,
                seconds_left=left,
                tracker=tracker,
                on_unsent=unsent,
            )
        except BaseException as error:
            # Cancellations too: a permit that is not ended would be lost for good. If
            # bytes may have left, the service may have counted the request (promise
            # P1), so the permit stays taken for a while.
            is_unsent = is_unsent or _request_events.was_not_sent(error)
            if is_unsent:
                permit.unsent()
            else:
                permit.abandoned()
            _request_events.request_failed(
                self.hook, call, error, number, now, not_sent=is_unsent
            )
            raise
        self._record(call, response, permit, number)
        await self._reject_foreign(call, response)
        return response

    async def _reject_foreign(self, call: Call, response: Response) -> None:
        """Reject a response that belongs to another request.

        Raises:
            RetryableFailure: It shows another id than the one asked for.
        """
        if call.shows is None or not response.is_success:
            return
        earlier = self.transport.pool.recent_ids
        error = parsing.mismatch_error(response, call.shows, earlier)
        earlier.add(call.shows)
        if error is not None:
            # The responses on that connection are shifted by one, so all that come
            # after it would be wrong as well.
            await self.transport.retire()
            logger.warning("%s %s: %s", call.method, call.path, error)
            raise RetryableFailure(error)

    def _record(
        self, call: Call, response: Response, permit: RatePermit, number: int
    ) -> None:
        """End the permit of a call that got a response, and learn from that.

        Raises:
            Exception: What a caller's own limiter raised, unless the call is a create.
        """
        try:
            self._learn(call, response, permit, number)
        except Exception:
            if call.repeatable:
                raise
            # The create is paid for, and only its response holds the id of the track.
            logger.exception("recording a response failed")
            with log_exceptions("returning a permit"):
                permit.abandoned()

    def _learn(
        self, call: Call, response: Response, permit: RatePermit, number: int
    ) -> None:
        facts = parsing.response_facts(response)
        is_refused = is_rate_limited(facts.status, facts.code)
        held_until = self.limiter.gate_opens(call.route) if is_refused else -inf
        permit.answered(facts)
        _capture(call, response)
        self._update_clock(response)
        self.header_warnings.check(response)
        if self.hook is not None or logger.isEnabledFor(logging.DEBUG):
            _request_events.response_received(
                self.hook, call, response, facts, number, self.limiter
            )
        # Several requests in flight may be refused together: one report for all.
        if is_refused and held_until <= response.received_at:
            opens_at = self.limiter.gate_opens(call.route)
            _request_events.rate_limited(self.hook, call, response, facts, opens_at)

    def _update_clock(self, response: Response) -> None:
        date = parsing.server_date(response)
        if date is not None:
            self.clock.observe(
                date, sent_at=response.sent_at, received_at=response.received_at
            )

    @staticmethod
    def raise_for_status(call: Call, response: Response) -> None:
        """Return if the status is 2xx.

        Raises:
            RetryableFailure: It is an error, and the call may be retried.
            APIStatusError: It is an error.
            APIResponseError: It is an error with a body that is too long to read.
        """
        if response.is_success:
            return
        if response.is_cut:
            raise parsing.too_long_error(response)
        error = parsing.status_error(
            response, idempotent=call.repeatable, generation_id=call.track_id
        )
        if is_rate_limited(error.status_code, error.code):
            raise RetryableFailure(error, paced=True)
        if call.repeatable and isinstance(error, InternalServerError):
            raise RetryableFailure(error)
        raise error


@contextmanager
def capture_responses() -> Generator[list[RawResponse]]:
    """Collect the responses of the calls made in this block, in order.

    Calls that other tasks make are not included, unless the tasks were started in the
    block. A read of the shared poll loop belongs to the waiter that drives the loop.

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


def _capture(call: Call, response: Response) -> None:
    responses = _captured.get()
    if responses is not None:
        responses.append(
            RawResponse(
                method=call.method,
                path=call.path,
                status=response.status,
                headers=response.headers,
                request_id=response.request_id,
                content=response.content,
                elapsed=response.received_at - response.sent_at,
            )
        )
