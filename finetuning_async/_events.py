"""The events that a client passes to its `on_event` callback as they happen.

    CreateWaiting                                while a create waits for its turn
    RateLimitWaited                              before a request, if it had to wait
    RequestSent ──> ResponseReceived             once per attempt
                └─> RequestFailed                or this
    RetryScheduled                               between two attempts
    RateLimited                                  a 429 that holds the whole budget
    GenerationAccepted ──> GenerationEnded       once per track
    SubmissionUnknown                            a create that may have been charged
    LoadChanged                                  more or fewer wait or are in progress

Events hold no secrets, bodies or prompts. A time `at` is in seconds on the event loop's
clock (`anyio.current_time`); durations are in seconds. The poll loop is shared by all
clients of an account: its requests are events of the client whose call drives the loop
at that moment.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import attrs

from finetuning_async._types import Kind


@attrs.frozen(kw_only=True)
class RequestSent:
    """A request is sent: the rate limit allows it.

    One `ResponseReceived` or `RequestFailed` follows.

    Attributes:
        at: When, in seconds of the loop's clock.
        method: The HTTP method.
        path: The path below the base URL, with ids but without the query.
        attempt: The number of the attempt, from 1.
        budget: ``creates``, ``reads``, or the name of an endpoint whose budget is not
            known.
        available: How many more requests of this budget could be sent at this moment;
            `None` if it is not rate limited.

    Example:
        def on_event(event):
            if isinstance(event, RequestSent):
                print(event.method, event.path, "leaves", event.available, "permits")

        client = AsyncClient(on_event=on_event)
    """

    at: float
    method: str
    path: str
    attempt: int
    budget: str
    available: int | None


@attrs.frozen(kw_only=True)
class ResponseReceived:
    """A complete response was received, successful or not.

    Attributes:
        at: When, in seconds of the loop's clock.
        method: As in `RequestSent`.
        path: As in `RequestSent`.
        attempt: As in `RequestSent`.
        budget: As in `RequestSent`.
        status: The HTTP status.
        code: The service's error code, such as ``QUEUE_FULL``; `None` for a success.
        duration: Seconds since the request was sent.
        request_id: The service's id of the request, if it sent one.
        remaining: ``X-RateLimit-Remaining``; `None` if absent.

    Example:
        def on_event(event):
            if isinstance(event, ResponseReceived) and event.status == 429:
                print("rejected:", event.code, event.path)

        client = AsyncClient(on_event=on_event)
    """

    at: float
    method: str
    path: str
    attempt: int
    budget: str
    status: int
    code: str | None
    duration: float
    request_id: str | None
    remaining: int | None


@attrs.frozen(kw_only=True)
class RequestFailed:
    """A request got no response.

    Attributes:
        at: When, in seconds of the loop's clock.
        method: As in `RequestSent`.
        path: As in `RequestSent`.
        attempt: As in `RequestSent`.
        budget: As in `RequestSent`.
        reason: What happened, in words.
        not_sent: Whether it is certain that no byte of it was sent.
        duration: Seconds since the attempt began.

    Example:
        def on_event(event):
            if isinstance(event, RequestFailed):
                print(event.path, event.reason, f"after {event.duration:.1f} s")

        client = AsyncClient(on_event=on_event)
    """

    at: float
    method: str
    path: str
    attempt: int
    budget: str
    reason: str
    not_sent: bool
    duration: float


@attrs.frozen(kw_only=True)
class RetryScheduled:
    """A failed attempt will be retried.

    Attributes:
        at: When this was decided, in seconds of the loop's clock.
        method: As in `RequestSent`.
        path: As in `RequestSent`; the host, for a download.
        attempt: The number of the next attempt, at least 2.
        pause: Seconds until the next attempt queues for the rate limit; 0 after a 429,
            as the rate limit then holds it back.
        reason: The class name of the error.
        code: The service's error code, if it sent one.
        request_id: The service's id of the failed request, if it sent one.

    Example:
        def on_event(event):
            if isinstance(event, RetryScheduled):
                print("attempt", event.attempt, "in", event.pause, "s:", event.reason)

        client = AsyncClient(on_event=on_event)
    """

    at: float
    method: str
    path: str
    attempt: int
    pause: float
    reason: str
    code: str | None
    request_id: str | None


@attrs.frozen(kw_only=True)
class RateLimitWaited:
    """A request had to wait for the rate limit, and may go now.

    Attributes:
        at: When the wait ended, in seconds of the loop's clock.
        method: As in `RequestSent`.
        path: As in `RequestSent`.
        attempt: As in `RequestSent`.
        budget: As in `RequestSent`; ``queue`` for a slot in the service's queue.
        duration: Seconds that it waited, at least 0.001.

    Example:
        def on_event(event):
            if isinstance(event, RateLimitWaited):
                print(event.path, "waited", event.duration, "s for", event.budget)

        client = AsyncClient(on_event=on_event)
    """

    at: float
    method: str
    path: str
    attempt: int
    budget: str
    duration: float


@attrs.frozen(kw_only=True)
class CreateWaiting:
    """A create waits for its permit and its place in the service's queue.

    The event comes when the wait begins and then at most once a second, less often
    where the wait is long. Its values are expected ones, by what is known here.

    Attributes:
        at: When, in seconds of the loop's clock.
        kind: ``music``, ``instrumental`` or ``sound_effect``.
        reason: ``rate_limit``; ``retry_after`` while a 429 stops all creates; ``queue``
            while the service's queue is full.
        since: When the wait began, in seconds of the loop's clock.
        position: How many creates go before it.
        expected_start: When it is expected to go out, in seconds of the loop's clock.

    Example:
        def on_waiting(event: CreateWaiting) -> None:
            seconds = event.expected_start - event.at
            print(f"{event.position} before it, about {seconds:.0f} s")

        track = await client.generate("rain", on_waiting=on_waiting)
    """

    at: float
    kind: Kind
    reason: Literal["rate_limit", "retry_after", "queue"]
    since: float
    position: int
    expected_start: float


@attrs.frozen(kw_only=True)
class RateLimited:
    """A 429 stops all requests of a budget for a while.

    Attributes:
        at: When, in seconds of the loop's clock.
        budget: ``creates`` or ``reads``; ``queue`` if the service's queue is full.
        duration: Seconds until requests go out again; `None` if that depends on when a
            track ends.
        code: The service's error code, if it sent one.
        request_id: The service's id of the rejected request, if it sent one.

    Example:
        def on_event(event):
            if isinstance(event, RateLimited):
                print("all", event.budget, "wait for", event.duration, "s")

        client = AsyncClient(on_event=on_event)
    """

    at: float
    budget: str
    duration: float | None
    code: str | None
    request_id: str | None


@attrs.frozen(kw_only=True)
class GenerationAccepted:
    """A create was accepted and charged.

    Attributes:
        at: When this was known, in seconds of the loop's clock.
        generation_id: The id of the track.
        kind: ``music``, ``instrumental`` or ``sound_effect``.
        seed: The seed sent; `None` for a sound effect.
        attempts: How many attempts were made.
        duration: Seconds since the call, waiting for the rate limit included.
        adopted: Whether the response was lost and the track was found in the list.
        changed: The names of the parameters that the service changed.
        credits_remaining: The account's credits after it, if the service sent them.
        request_id: The service's id of the create, if it sent one; `None` if the track
            was adopted.

    Example:
        def on_event(event):
            if isinstance(event, GenerationAccepted):
                print(event.generation_id, event.credits_remaining, "credits left")

        client = AsyncClient(on_event=on_event)
    """

    at: float
    generation_id: str
    kind: Kind
    seed: int | None
    attempts: int
    duration: float
    adopted: bool
    changed: tuple[str, ...]
    credits_remaining: int | None
    request_id: str | None


@attrs.frozen(kw_only=True)
class GenerationEnded:
    """A track was seen to have ended, by a poll, a list or a `get`.

    The client that created the track and those that wait for it get this event once. It
    does not come if no call reads the track any longer.

    Attributes:
        at: When it was seen, in seconds of the loop's clock.
        generation_id: The id of the track.
        kind: ``music``, ``instrumental`` or ``sound_effect``.
        status: ``completed`` or ``failed``.
        duration: Seconds since the response to its create; `None` if not known.
        generation_time: Seconds that it took, if the service sent them.
        noticed_after: Seconds from its end until it was seen, at most: by the service's
            clock, which is known to a second or less. From when it was first waited
            for here, if that was later. `None` if no call waited for it, or the service
            did not say when it ended.

    Example:
        def on_event(event):
            if isinstance(event, GenerationEnded):
                print(event.generation_id, event.status, event.duration)

        client = AsyncClient(on_event=on_event)
    """

    at: float
    generation_id: str
    kind: str
    status: str
    duration: float | None
    generation_time: float | None
    noticed_after: float | None = None


@attrs.frozen(kw_only=True)
class SubmissionUnknown:
    """The response to a create is lost; the create may have been accepted.

    The event comes when the response is lost and the lookup begins, and once more if
    the lookup gives up. If it finds the track, `GenerationAccepted` comes instead.

    Attributes:
        at: When, in seconds of the loop's clock.
        kind: ``music``, ``instrumental`` or ``sound_effect``.
        seed: The seed sent, by which the track can be found in the list.
        reason: What happened instead of a response, in words.
        given_up: Whether the lookup gave up: `SubmissionUnknownError` is raised.
        candidates: Ids of tracks that may be the lost one.

    Example:
        def on_event(event):
            if isinstance(event, SubmissionUnknown) and event.given_up:
                print("look for seed", event.seed, "or one of", event.candidates)

        client = AsyncClient(on_event=on_event)
    """

    at: float
    kind: Kind
    seed: int | None
    reason: str
    given_up: bool
    candidates: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class LoadChanged:
    """More or fewer creates wait, or more or fewer tracks are in progress.

    It counts what all clients of the account do in this event loop, and every client of
    them that has a callback gets it. It comes at each change, so the last one is true;
    the free permits are as of that moment, and grow with time.

    Attributes:
        at: When, in seconds of the loop's clock.
        waiting_high: How many creates of high priority wait for their permit or for a
            place in the service's queue.
        waiting_normal: The same of normal priority.
        waiting_low: The same of low priority.
        in_flight: How many tracks were accepted and have not been seen to end; one that
            no one looks at counts for up to an hour.
        in_doubt: How many creates are being looked up because their response was lost.
        creates_free: How many creates could be sent at this moment; `None` if they are
            not rate limited.
        reads_free: The same of reads.

    Example:
        def on_event(event):
            if isinstance(event, LoadChanged):
                print(event.waiting_low, "wait,", event.in_flight, "in flight")

        client = AsyncClient(on_event=on_event)
    """

    at: float
    waiting_high: int
    waiting_normal: int
    waiting_low: int
    in_flight: int
    in_doubt: int
    creates_free: int | None
    reads_free: int | None


Event: TypeAlias = (
    RequestSent
    | ResponseReceived
    | RequestFailed
    | RetryScheduled
    | RateLimitWaited
    | CreateWaiting
    | RateLimited
    | GenerationAccepted
    | GenerationEnded
    | SubmissionUnknown
    | LoadChanged
)
"""The argument of an `on_event` callback.

Example:
    def show(event: Event) -> None:
        print(type(event).__name__, event)

    watched = client.with_options(on_event=show)
    await watched.me()
"""

OperationName: TypeAlias = Literal["generate", "create", "wait", "download"]
