"""The tracks of an account in progress: claims, and the creates that wait for a slot.

A create registers its track here before it returns; the poll loop removes the track
when it has ended. Neither knows the other.

A *claim* says that an id belongs to a create of this process. A create whose response
was lost looks for its track in the listing, and must not adopt one that is claimed.

A *queue slot* is room for one track in the service's queue. A create takes one when
`QueueCapacity` expects one to be free: together with its permit, in the line of
`_wait_queue`, whose head waits here for room. Where the permits come from a limiter of
the caller's, which knows nothing of slots, creates wait for them here, in a line of
their own, before they wait for a permit.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from contextlib import contextmanager
from itertools import count
from math import inf
from typing import TYPE_CHECKING, Final, TypeAlias

import anyio
import attrs

from finetuning_async._event_hook import Hook
from finetuning_async._events import GenerationEnded
from finetuning_async._pacing._dealer import NORMAL
from finetuning_async._pacing._fair_queue import FairQueue
from finetuning_async._pacing._queue_capacity import QueueCapacity
from finetuning_async._secrets import scrub
from finetuning_async._types import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from finetuning_async._api import Generation, SoundEffect

    AnyTrack: TypeAlias = Generation | SoundEffect

logger = logging.getLogger("finetuning_async")

LONGEST_TRACK: Final = 3600.0
"""Seconds after which a track is assumed to have ended although no read has shown it;
the service makes one in minutes. Otherwise a caller that never waits for its tracks
would fill the register."""

CLAIMS_KEPT: Final = 20_000
"""More than a day of creates at 10 a minute; a recovery looks back a few minutes."""


@attrs.frozen
class Claim:
    """How the create of a track was sent.

    Attributes:
        seed: The seed it sent; `None` for a sound effect.
        sent_at: When its first byte was sent, in seconds of the loop's clock; that of
            its first attempt whose response was lost, if there was one.
    """

    seed: int | None
    sent_at: float


@attrs.frozen(kw_only=True)
class TrackInProgress:
    """An accepted track that has not been seen to end.

    Attributes:
        kind: Kind of the track.
        accepted_at: When its create was accepted, in seconds of the loop's clock.
        duration: Requested length in seconds; `None` if none was requested.
        has_webhook: Whether the service will call a webhook when it ends.
        hook: The event hook of its creator; `None` if it has none.
        claim: How its create was sent; `None` if that is not known.
    """

    kind: Kind
    accepted_at: float
    duration: float | None
    has_webhook: bool = False
    hook: Hook | None = None
    claim: Claim | None = None


_arrivals = count()


class QueueSlot:
    """A create in the line for a slot in the service's queue; see `QueuedItem`.

    Args:
        wake: Called when the create is first in line and should look again.
        rank: Of its priority.
        share: For whom it is.
        first: Whether it was sent and refused before.
    """

    __slots__ = ("arrival", "is_queued", "is_repetition", "rank", "share", "wake")

    def __init__(
        self,
        wake: Callable[[], None],
        *,
        rank: int = NORMAL,
        share: str | None = None,
        first: bool = False,
    ) -> None:
        self.wake: Callable[[], None] = wake
        self.rank: int = rank
        self.share: str | None = share
        self.is_repetition: bool = first
        self.arrival: int = next(_arrivals)
        self.is_queued: bool = False


class SeedMark:
    """Shows whether the seed of a create in flight belongs to it alone.

    Attributes:
        is_shared: Whether another create with the same seed was in flight meanwhile.
    """

    __slots__ = ("is_shared",)

    def __init__(self) -> None:
        self.is_shared: bool = False


class InFlight:
    """What one account has in flight and in progress, as far as this process knows.

    Args:
        queue: How many tracks fit into the service's queue; `None` to learn it.

    Attributes:
        tracks: The accepted tracks in progress by id, oldest first.
        seeds_are_echoed: Whether the response to every create so far had the seed that
            was sent. Once one had not, a seed proves nothing, and no recovery adopts a
            track any more.
        echoing: The kinds of which a create's response had the seed that was sent.
        on_change: Called after a track was accepted and reported, has ended, or was
            deleted.
    """

    def __init__(self, queue: int | None = None) -> None:
        self.tracks: dict[str, TrackInProgress] = {}
        self.seeds_are_echoed = True
        self.echoing: set[Kind] = set()
        self.on_change: Callable[[], None] = _ignore
        self._capacity = QueueCapacity(queue)
        self._waiting: FairQueue[QueueSlot] = FairQueue()
        self._parked: dict[Callable[[], None], None] = {}
        self._claims: OrderedDict[str, Claim | None] = OrderedDict()
        self._listed: OrderedDict[str, float] = OrderedDict()
        self._ends: OrderedDict[str, None] = OrderedDict()
        self._seeds_in_flight: dict[tuple[Kind, int], list[SeedMark]] = {}

    def __repr__(self) -> str:
        return (
            f"<InFlight {len(self.tracks)} in progress,"
            f" {len(self._waiting) + len(self._parked)} waiting for a slot,"
            f" {self._capacity!r}>"
        )

    # Claims

    def claim(self, track_id: str, how: Claim | None = None) -> None:
        """Note that an id belongs to a create of this process, and how it was sent."""
        self._claims[track_id] = how
        if len(self._claims) > CLAIMS_KEPT:
            self._claims.popitem(last=False)

    def is_claimed(self, track_id: str) -> bool:
        """Whether an id belongs to a create of this process."""
        return track_id in self._claims

    def claims(self) -> dict[str, Claim]:
        """How the creates of claimed tracks were sent, where that is known."""
        return {i: how for i, how in self._claims.items() if how is not None}

    def mark_listed(self, track_ids: Iterable[str]) -> None:
        """Note that a listing shows these tracks."""
        now = anyio.current_time()
        for track_id in track_ids:
            self._listed.setdefault(track_id, now)
        while len(self._listed) > CLAIMS_KEPT:
            self._listed.popitem(last=False)

    def listed_at(self, track_id: str) -> float:
        """When a listing first showed a track, on the loop's clock; `inf` if never."""
        return self._listed.get(track_id, inf)

    # Seeds of creates in flight

    @contextmanager
    def seed_in_flight(self, kind: Kind, seed: int | None) -> Generator[SeedMark]:
        """Note that a create with this seed is in flight, until the block ends."""
        mark = SeedMark()
        if seed is None:
            yield mark
            return
        marks = self._seeds_in_flight.setdefault((kind, seed), [])
        marks.append(mark)
        # It stays shared after the other create has ended: a track with this seed that
        # shows up later may be either's.
        if len(marks) > 1:
            for each in marks:
                each.is_shared = True
        try:
            yield mark
        finally:
            marks.remove(mark)
            if not marks:
                del self._seeds_in_flight[kind, seed]

    def is_seed_in_flight(self, kind: Kind, seed: int | None) -> bool:
        """Whether a create with this seed is in flight."""
        return (kind, seed) in self._seeds_in_flight

    # Slots in the service's queue

    @property
    def pending(self) -> int:
        """How many creates have a slot and no response yet."""
        return self._capacity.pending

    @property
    def queue_capacity(self) -> int | None:
        """How many tracks fit into the service's queue; `None` if not yet known."""
        return self._capacity.capacity

    def room_at(self) -> float:
        """When a slot may be taken: ``-inf`` for now, or a time of the loop's clock.

        ``inf`` if that depends on a response, or on the end of a track.
        """
        return self._capacity.opens_at(len(self.tracks))

    def take_room(self) -> None:
        """Take a slot, by a create that waited in the line of its permit.

        Its outcome is `on_accepted`, `on_queue_full` or `on_not_accepted`.
        """
        self._capacity.on_sent()

    @contextmanager
    def parked(self, wake: Callable[[], None]) -> Generator[None]:
        """Call `wake` whenever there may be room, until the block ends."""
        self._parked[wake] = None
        try:
            yield
        finally:
            del self._parked[wake]

    def request_slot(self, slot: QueueSlot) -> None:
        """Wait in line for a slot."""
        self._waiting.add(slot)

    def slot_opens_at(self, slot: QueueSlot) -> float:
        """When a slot may be taken: ``-inf`` for now, or a time of the loop's clock.

        ``inf`` if that depends on a response, on the end of a track, or on the creates
        ahead in the line.
        """
        return self.room_at() if self._waiting.head() is slot else inf

    def take_slot(self, slot: QueueSlot) -> None:
        """Leave the line to send the create.

        Its outcome is `on_accepted`, `on_queue_full` or `on_not_accepted`.
        """
        self._waiting.deal(slot)
        self._capacity.on_sent()
        self._wake_next()

    def cancel_slot(self, slot: QueueSlot) -> None:
        """Leave the line without sending; the next create moves up."""
        self._waiting.discard(slot)
        self._wake_next()

    def next_retry_at(self) -> float:
        """When a queue full of other clients' tracks is tried again (the loop's clock).

        ``-inf`` while a track of ours is in progress, whose end may come at any time.
        """
        opens_at = self._capacity.opens_at(0)
        return -inf if self.tracks or opens_at == inf else opens_at

    def on_accepted(self, track_id: str, track: TrackInProgress) -> None:
        """A create was accepted: its id is claimed, and its track is in progress."""
        self._forget_before(track.accepted_at - LONGEST_TRACK)
        self.adopt(track_id, track)
        self._capacity.on_accepted(len(self.tracks))
        self._wake_next()

    def on_queue_full(self, retry_after: float | None = None) -> None:
        """A create was refused with ``QUEUE_FULL``.

        Args:
            retry_after: Pause in seconds that the response asks for; `None` if none.
        """
        now = anyio.current_time()
        self._capacity.on_refused(now, len(self.tracks), retry_after or 0.0)
        self._wake_next()

    def on_not_accepted(self) -> None:
        """A create that had taken a slot ended in another way."""
        self._capacity.on_other_outcome()
        self._wake_next()

    # Tracks in progress

    def adopt(self, track_id: str, track: TrackInProgress) -> None:
        """Register the track of a lost create; its slot ended when it was lost."""
        self.claim(track_id, track.claim)
        self.tracks[track_id] = track

    def is_in_progress(self, track_id: str) -> bool:
        """Whether it is a track of ours in progress."""
        return track_id in self.tracks

    def remove(self, track_id: str) -> None:
        """Take out a track that has ended or was deleted; unknown ids are ignored."""
        if self.tracks.pop(track_id, None) is not None:
            self._wake_next()
            self.on_change()

    def observe_final(
        self,
        track: AnyTrack,
        watchers: Iterable[Hook | None] = (),
        *,
        noticed_after: float | None = None,
    ) -> None:
        """A track was seen to have ended; log it and call the event hooks, once.

        Args:
            track: Its final state.
            watchers: Event hooks of the callers that wait for it; its creator's is
                called too.
            noticed_after: Seconds from its end until now, at most, if that is known.
        """
        entry = self.tracks.get(track.id)
        self.remove(track.id)
        if track.id in self._ends:
            return
        self._ends[track.id] = None
        if len(self._ends) > CLAIMS_KEPT:
            self._ends.popitem(last=False)
        since = None if entry is None else entry.accepted_at
        hooks = {hook for hook in watchers if hook is not None}
        if entry is not None and entry.hook is not None:
            hooks.add(entry.hook)
        _report_end(track, since, hooks, noticed_after)

    def _forget_before(self, moment: float) -> None:
        """Take out the tracks that were accepted before a moment."""
        while self.tracks:
            oldest = next(iter(self.tracks))
            if self.tracks[oldest].accepted_at >= moment:
                return
            del self.tracks[oldest]

    def _wake_next(self) -> None:
        for wake in list(self._parked):
            wake()
        head = self._waiting.head()
        if head is not None:
            head.wake()


def _ignore() -> None:
    """Ignore a change."""


def _report_end(
    track: AnyTrack,
    since: float | None,
    hooks: Iterable[Hook],
    noticed_after: float | None,
) -> None:
    now = anyio.current_time()
    took = None if since is None else now - since
    logger.info(
        "%s %s %s%s%s",
        track.status,
        track.kind,
        track.id,
        "" if took is None else f" {took:.1f} s after it was accepted",
        f": {scrub(track.error_message)[:200]}" if track.error_message else "",
    )
    for hook in hooks:
        hook(
            GenerationEnded(
                at=now,
                generation_id=track.id,
                kind=track.kind,
                status=track.status,
                duration=took,
                generation_time=getattr(track, "generation_time", None),
                noticed_after=noticed_after,
            )
        )
