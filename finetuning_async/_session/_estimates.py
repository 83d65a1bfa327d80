"""What is expected of creates and tracks, by what is known here.

Estimate   when creates will go out and be done
Progress   how far a track is

Nothing is sent or awaited. With a store that processes share, what the others do is
known as of the last exchange with it.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final, Literal, cast

import anyio
import attrs

from finetuning_async._errors import InvalidRequestError
from finetuning_async._events import CreateWaiting
from finetuning_async._pacing import (
    LOW,
    LimiterWithTerms,
    LineState,
    Outlook,
    Terms,
    forecast,
    with_terms,
)

if TYPE_CHECKING:
    from finetuning_async._api import Generation, SoundEffect
    from finetuning_async._session._account_state import AccountState
    from finetuning_async._submission import Submission
    from finetuning_async._types import Kind

ALMOST: Final = 0.99
"""The fraction shown of a track that takes longer than expected."""


@attrs.frozen
class Estimate:
    """When creates will go out, in seconds from now; see `AsyncClient.estimate`.

    Attributes:
        first_sent: When the first of them goes out; 0 for at once.
        last_sent: When the last of them goes out.
        last_completed: When the last of their tracks is done.
        position: How many creates that wait already go before the first.

    Example:
        await client.me()
        estimate = client.estimate(200, priority="low")
        print(f"done in {estimate.last_completed / 60:.0f} minutes")
    """

    first_sent: float
    last_sent: float
    last_completed: float
    position: int


@attrs.frozen
class Progress:
    """How far a track is, by how long tracks have taken; see `AsyncClient.progress`.

    Attributes:
        elapsed: Seconds since the service accepted it.
        expected: Seconds that tracks of its kind take.
        fraction: 0 to 1; 1 only if it has ended.
        remaining: Seconds until it is expected to end, at least 0.

    Example:
        track = await client.generations.create("rain")
        print(f"{client.progress(track).fraction:.0%}")
    """

    elapsed: float
    expected: float
    fraction: float
    remaining: float


def estimate(
    account: AccountState, creates: int, kind: Kind, rank: int, share: str | None
) -> Estimate:
    """Estimate creates that would be made now; see `AsyncClient.estimate`."""
    now = anyio.current_time()
    line = _line_state(account, creates, Terms(rank, share), now)
    outlook = _outlook(account, line, kind, creates, rank, now)
    found = forecast(outlook, line.first, line.last, creates)
    return Estimate(found.first_sent, found.last_sent, found.last_completed, line.first)


def _outlook(
    account: AccountState,
    line: LineState,
    kind: Kind,
    creates: int,
    rank: int,
    now: float,
) -> Outlook:
    opens_in = max(account.limiter.gate_opens("creates") - now, 0.0)
    room_at = account.inflight.room_at()
    if not account.inflight.tracks and now < room_at < inf:
        opens_in = max(opens_in, room_at - now)  # full of other clients' tracks
    return Outlook(
        tokens=line.tokens,
        lease=line.lease,
        opens_in=opens_in,
        gap=line.gap,
        spaced=_spaced(line, creates, rank),
        places=account.inflight.queue_capacity,
        ends=_expected_ends(account, now),
        durations=account.poller.durations(kind),
    )


def waiting(
    account: AccountState, submission: Submission, since: float
) -> CreateWaiting:
    """Say how a create stands that waits for its permit since a time."""
    now = anyio.current_time()
    terms = submission.terms
    line = _line_state(account, 1, terms, now)
    position = line.first
    limiter = with_terms(account.limiter, terms)
    if terms.gate is not None and isinstance(limiter, LimiterWithTerms):
        own = limiter.position()
        position = position if own is None else own
    outlook = _outlook(account, line, submission.request.kind, 0, terms.rank, now)
    return CreateWaiting(
        at=now,
        kind=submission.request.kind,
        reason=_reason(account, now),
        since=since,
        position=position,
        expected_start=now + forecast(outlook, position, position).first_sent,
    )


def _reason(
    account: AccountState, now: float
) -> Literal["rate_limit", "retry_after", "queue"]:
    """What creates wait for now, before all else."""
    if account.limiter.gate_opens("creates") > now:
        return "retry_after"
    return "queue" if account.inflight.room_at() > now else "rate_limit"


def _line_state(
    account: AccountState, creates: int, terms: Terms, now: float
) -> LineState:
    limiter = with_terms(account.limiter, terms)
    if isinstance(limiter, LimiterWithTerms):
        return limiter.line_state(creates)
    # A limiter of the caller's says only when the next create may go out.
    limit = None if account.limits is None else account.limits.creates
    wait = max(account.limiter.earliest("creates") - now, 0.0)
    return LineState(
        first=0,
        last=creates - 1,
        waiting=(0, 0, 0),
        tokens=() if limit is None else (wait,) * limit.limit,
        lease=0.0 if limit is None else limit.per,
        gap=0.0 if limit is None else limit.per / limit.limit,
    )


def _spaced(line: LineState, creates: int, rank: int) -> int:
    """How many of the line go out evenly: `low` ones alone, more than a burst holds."""
    if rank != LOW or any(line.waiting[:LOW]):
        return 0
    return max(line.waiting[LOW] + creates - line.limit, 0)


def _expected_ends(account: AccountState, now: float) -> tuple[float, ...]:
    """When the tracks in progress end, in seconds from now; creates in flight too."""
    inflight, poller = account.inflight, account.poller
    ends = [
        track.accepted_at + poller.typical_duration(track.kind) - now
        for track in inflight.tracks.values()
    ]
    ends += [poller.typical_duration("music")] * inflight.pending
    return tuple(ends)


def progress(account: AccountState, track: Generation | SoundEffect | str) -> Progress:
    """Say how far a track is; see `AsyncClient.progress`.

    Raises:
        InvalidRequestError: Nothing is known of it.
    """
    track_id = track if isinstance(track, str) else track.id
    kind = cast("Kind", "music" if isinstance(track, str) else track.kind)
    known = account.inflight.tracks.get(track_id)
    if known is not None:
        kind = known.kind
    expected = account.poller.typical_duration(kind)
    elapsed = _age(account, track_id, track)
    if elapsed is None:
        raise InvalidRequestError(
            "generation_or_id",
            track_id,
            "a track, or the id of one in progress that this client created",
        )
    if not isinstance(track, str) and track.is_final:
        return Progress(elapsed, expected, 1.0, 0.0)
    fraction = min(elapsed / expected, ALMOST)
    return Progress(elapsed, expected, fraction, max(expected - elapsed, 0.0))


def _age(
    account: AccountState, track_id: str, track: Generation | SoundEffect | str
) -> float | None:
    known = account.inflight.tracks.get(track_id)
    if known is not None:
        return anyio.current_time() - known.accepted_at
    age = account.poller.age(track_id)
    if age is not None or isinstance(track, str):
        return age
    service_time = account.service_time()
    if track.created_at is None or service_time is None:
        return 0.0
    return max(service_time - track.created_at.timestamp(), 0.0)
