"""What a client tells an `on_event` callback, as it happens.

    request sent ──> response received, or request failed      once per attempt
    turn awaited                                                before it, if it waited
    retry scheduled                                             between two attempts
    gate closed                                                 a 429 holds all the rest
    generation accepted ──> generation ended                    once per track
    create unknown                                              it may be paid

They hold no secret, no body and no prompt. Times `at` are seconds of the event loop's
clock (`anyio.current_time`), durations are seconds. A read of the poll loop, which all
waiters of an account share, is told to the client whose waiter drives it just then.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import attrs

from finetuning_async._types import Kind


@attrs.frozen(kw_only=True)
class RequestSent:
    """A request goes to the wire: it has had its turn.

    One `ResponseReceived` or `RequestFailed` follows.

    Attributes:
        at: When, in seconds of the loop's clock.
        method: The HTTP method.
        path: Below the base URL; ids in it, and no query.
        attempt: 1 for the first of a call.
        budget: ``creates``, ``reads``, or the name of an endpoint of unknown budget.
        available: Requests of that budget that could go out beside it at this moment;
            `None` if it is not paced.

    Example:
        def on_event(event):
            if isinstance(event, RequestSent):
                print(event.method, event.path, "leaves", event.available, "turns")

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
    """A response was read to its end, whatever it says.

    Attributes:
        at: When, in seconds of the loop's clock.
        method: As in `RequestSent`.
        path: As in `RequestSent`.
        attempt: As in `RequestSent`.
        budget: As in `RequestSent`.
        status: The HTTP status.
        code: The service's error code, such as ``QUEUE_FULL``; `None` for a success.
        duration: Seconds since the request was sent.
        request_id: The service's name for the request, where it gives one.
        remaining: ``X-RateLimit-Remaining``; `None` if it does not say.

    Example:
        def on_event(event):
            if isinstance(event, ResponseReceived) and event.status == 429:
                print("refused:", event.code, event.path)

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
    """A request got no answer.

    Attributes:
        at: When, in seconds of the loop's clock.
        method: As in `RequestSent`.
        path: As in `RequestSent`.
        attempt: As in `RequestSent`.
        budget: As in `RequestSent`.
        reason: What happened, in words.
        not_sent: Whether it is known that no byte of it left.
        duration: Seconds since it was to be sent.

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
    """A failed attempt will be repeated.

    Attributes:
        at: When this was decided, in seconds of the loop's clock.
        method: As in `RequestSent`.
        path: As in `RequestSent`; the host, for a download.
        attempt: The number of the attempt to come; at least 2.
        pause: Seconds until it stands in line for its turn. After a 429 that is 0: the
            gate holds it.
        reason: The name of the error class of the failure.
        code: The service's error code, if it sent one.
        request_id: The service's name for the failed request, where it gives one.

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
    """A request had to wait for its turn, and has it now.

    Attributes:
        at: When it had it, in seconds of the loop's clock.
        method: As in `RequestSent`.
        path: As in `RequestSent`.
        attempt: As in `RequestSent`.
        budget: As in `RequestSent`; ``queue`` for a place in the service's queue.
        duration: Seconds for which it waited; at least 0.001.

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
class RateLimited:
    """A 429 closed the gate of a budget: everything of it waits.

    Attributes:
        at: When, in seconds of the loop's clock.
        budget: Whose gate; ``queue`` for a full queue, which opens when a track ends.
        duration: Seconds until it opens; `None` if only a track that ends can tell.
        code: The service's error code, if it sent one.
        request_id: The service's name for the refused request, where it gives one.

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
    """A create was accepted, and paid.

    Attributes:
        at: When this was known, in seconds of the loop's clock.
        generation_id: The track.
        kind: ``music``, ``instrumental`` or ``sound_effect``.
        seed: The seed sent; `None` for a sound effect.
        attempts: How many were made.
        duration: Seconds from the call to now, waiting for its turn included.
        adopted: Whether its answer was lost, and it was found in the list.
        changed: The names of the parameters that the service changed.
        credits_remaining: The account's credits after it, if the service said.
        request_id: The service's name for the create, where it gives one; `None` if it
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
    """A track was seen to have ended, in whichever way: a poll, a list, a `get`.

    It is told once, to the client that created the track and to those that wait for
    it. A track that nobody looks at any more is not seen to end.

    Attributes:
        at: When it was seen, in seconds of the loop's clock.
        generation_id: The track.
        kind: ``music``, ``instrumental`` or ``sound_effect``.
        status: ``completed`` or ``failed``.
        duration: Seconds since its create was answered; `None` if that is not known.
        generation_time: Seconds that the service says it took, if it does.

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


@attrs.frozen(kw_only=True)
class SubmissionUnknown:
    """A create may have been accepted, and its answer is lost.

    It is told twice at most: when the answer is lost and the track is looked for, and
    when that is given up. `GenerationAccepted` says that it was found.

    Attributes:
        at: When, in seconds of the loop's clock.
        kind: ``music``, ``instrumental`` or ``sound_effect``.
        seed: The seed sent, by which a person finds it in the list.
        reason: What was seen instead of an answer, in words.
        given_up: Whether this is the last word: `SubmissionUnknownError` is raised.
        candidates: Ids of tracks that may be it.

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


Event: TypeAlias = (
    RequestSent
    | ResponseReceived
    | RequestFailed
    | RetryScheduled
    | RateLimitWaited
    | RateLimited
    | GenerationAccepted
    | GenerationEnded
    | SubmissionUnknown
)
"""Whatever an `on_event` callback is given.

Example:
    def show(event: Event) -> None:
        print(type(event).__name__, event)

    watched = client.with_options(on_event=show)
    await watched.me()
"""

OperationName: TypeAlias = Literal["generate", "create", "wait", "download"]
