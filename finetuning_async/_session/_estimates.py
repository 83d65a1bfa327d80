"""What is expected of creates and tracks, by what is known here.

Estimate   when creates will go out and be done
Progress   how far a track is

Nothing is sent or awaited. With a store that processes share, what the others do is
known as of the last exchange with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

import anyio
import attrs

from finetuning_async._errors import InvalidRequestError
from finetuning_async._events import CreateWaiting
from finetuning_async._pacing import Terms, forecast

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
        first_sent: Seconds until the first of them goes out; 0 for at once.
        last_sent: Seconds until the last of them goes out.
        last_completed: Seconds until the last of their tracks is done.
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
    line = account.line.state(creates, Terms(rank, share))
    outlook = account.line.outlook(line, kind, creates, rank)
    found = forecast(outlook, line.first, line.last, creates)
    return Estimate(found.first_sent, found.last_sent, found.last_completed, line.first)


def waiting(
    account: AccountState, submission: Submission, since: float
) -> CreateWaiting:
    """Say how a create stands that waits for its permit since a time."""
    now, line, kind = anyio.current_time(), account.line, submission.request.kind
    gate = submission.gate
    position = None if gate is None else line.places().get(gate)
    if position is not None:
        start = line.start_of(position, kind)
    else:  # it does not wait among the creates: for a limiter of the caller's
        expected = estimate(account, 1, kind, submission.rank, submission.share)
        position, start = expected.position, now + expected.first_sent
    return CreateWaiting(
        at=now,
        kind=kind,
        reason=line.reason(),
        since=since,
        position=position,
        expected_start=start,
    )


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
