"""The register of an account's tracks under way: claims, and the line before the queue.

A create enters its track here before it returns; the poll loop takes it out when the
track has ended. Neither knows the other.

A *claim* says that an id belongs to a create of this process. A create whose answer was
lost looks for its track in the list, and must not take one that is already claimed.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING, Final, TypeAlias

import anyio
import attrs

from finetuning_async._event_hook import Hook
from finetuning_async._events import GenerationEnded
from finetuning_async._pacing._queue_capacity import QueueCapacity
from finetuning_async._secrets import scrub
from finetuning_async._types import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from finetuning_async._api import Generation, SoundEffect

    AnyTrack: TypeAlias = Generation | SoundEffect

logger = logging.getLogger("finetuning_async")

LONGEST_TRACK: Final = 3600.0
"""Seconds after which a track that nobody looked at has surely ended; the service makes
one in minutes. So a caller who never waits does not fill the register for ever."""

CLAIMS_KEPT: Final = 20_000
"""More than a day of creates at 10 a minute; a lookup goes back a few minutes."""


@attrs.frozen
class Claim:
    """How the create of a track was sent.

    Attributes:
        seed: The seed it sent; `None` for a sound effect.
        sent_at: When its first byte left, or that of its first attempt whose answer was
            lost, in seconds of the loop's clock.
    """

    seed: int | None
    sent_at: float


@attrs.frozen(kw_only=True)
class TrackInProgress:
    """An accepted track that has not been seen to end.

    Attributes:
        kind: What it is.
        accepted_at: When its create was answered, in seconds of the loop's clock.
        duration: The length asked for, in seconds, if any.
        has_webhook: Whether the service will call when it ends.
        hook: Whom its creator wants to be told of its end; `None` for nobody.
        claim: How its create was sent, if that is known.
    """

    kind: Kind
    accepted_at: float
    duration: float | None
    has_webhook: bool = False
    hook: Hook | None = None
    claim: Claim | None = None


class QueueSlot:
    """A place in the line before the queue gate.

    Attributes:
        wake: Called when it may be this ticket's turn.
    """

    __slots__ = ("wake",)

    def __init__(self, wake: Callable[[], None]) -> None:
        self.wake: Callable[[], None] = wake


class SeedMark:
    """Says whether a seed belongs to one create on its way.

    Attributes:
        is_shared: Whether another create with it was on its way at the same time.
    """

    __slots__ = ("is_shared",)

    def __init__(self) -> None:
        self.is_shared: bool = False


class InFlight:
    """What one account has under way, as far as this process knows.

    Attributes:
        tracks: The accepted tracks by id, oldest first.
        seeds_are_echoed: Whether every create so far was answered with the seed it
            sent. Once not, a seed proves nothing and no lookup adopts a track any more.
        echoing: The kinds of which a create was answered with the seed it sent.
    """

    def __init__(self) -> None:
        self.tracks: dict[str, TrackInProgress] = {}
        self.seeds_are_echoed = True
        self.echoing: set[Kind] = set()
        self._capacity = QueueCapacity()
        self._waiting: deque[QueueSlot] = deque()
        self._claims: OrderedDict[str, Claim | None] = OrderedDict()
        self._listed: OrderedDict[str, float] = OrderedDict()
        self._ends: OrderedDict[str, None] = OrderedDict()
        self._seeds_in_flight: dict[tuple[Kind, int], list[SeedMark]] = {}

    def __repr__(self) -> str:
        return (
            f"<InFlight under_way={len(self.tracks)} parked={len(self._waiting)}"
            f" {self._capacity!r}>"
        )

    @property
    def queue_capacity(self) -> int | None:
        """How many tracks fit into the service's queue, if a refusal has told."""
        return self._capacity.capacity

    def claim(self, track_id: str, how: Claim | None = None) -> None:
        """Say that an id belongs to a create of this process, and how it was sent."""
        self._claims[track_id] = how
        if len(self._claims) > CLAIMS_KEPT:
            self._claims.popitem(last=False)

    def is_claimed(self, track_id: str) -> bool:
        """Whether an id belongs to a create of this process."""
        return track_id in self._claims

    def claims(self) -> dict[str, Claim]:
        """How the creates of all claimed tracks were sent, as far as that is known."""
        return {i: how for i, how in self._claims.items() if how is not None}

    def mark_listed(self, track_ids: Iterable[str]) -> None:
        """Note that a list shows these tracks."""
        now = anyio.current_time()
        for track_id in track_ids:
            self._listed.setdefault(track_id, now)
        while len(self._listed) > CLAIMS_KEPT:
            self._listed.popitem(last=False)

    def listed_at(self, track_id: str) -> float:
        """When a list first showed a track, on the loop's clock; `inf` if none did."""
        return self._listed.get(track_id, inf)

    @contextmanager
    def seed_in_flight(self, kind: Kind, seed: int | None) -> Generator[SeedMark]:
        """Note that a create with this seed is on its way, until the block ends."""
        mark = SeedMark()
        if seed is None:
            yield mark
            return
        marks = self._seeds_in_flight.setdefault((kind, seed), [])
        marks.append(mark)
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
        """Whether a create with this seed is on its way."""
        return seed is not None and (kind, seed) in self._seeds_in_flight

    def request_slot(self, ticket: QueueSlot, *, first: bool = False) -> None:
        """Queue for the gate; one that was refused goes first."""
        if first:
            self._waiting.appendleft(ticket)
        else:
            self._waiting.append(ticket)

    def slot_opens_at(self, ticket: QueueSlot) -> float:
        """When a ticket may enter: ``-inf`` for now, or a time of the loop's clock.

        ``inf`` means that only an answer, an end or a departure can tell.
        """
        if self._waiting[0] is not ticket:
            return inf
        return self._capacity.opens_at(len(self.tracks))

    def is_in_progress(self, track_id: str) -> bool:
        """Whether a track of ours is under way."""
        return track_id in self.tracks

    def next_retry_at(self) -> float:
        """When a queue full of somebody else's is tried again, on the loop's clock.

        ``-inf`` while something of ours is under way, whose end may come at any time.
        """
        opens = self._capacity.opens_at(0)
        return -inf if self.tracks or opens == inf else opens

    def take_slot(self, ticket: QueueSlot) -> None:
        """Pass; end with `on_accepted`, `on_queue_full` or `on_not_accepted`."""
        self._waiting.remove(ticket)
        self._capacity.on_sent()
        self._wake_next()

    def cancel_slot(self, ticket: QueueSlot) -> None:
        """Give the place up; the next in line moves on."""
        self._waiting.remove(ticket)
        self._wake_next()

    def on_accepted(self, track_id: str, track: TrackInProgress) -> None:
        """A create was taken: its id is claimed and under way."""
        self._forget_before(track.accepted_at - LONGEST_TRACK)
        self.adopt(track_id, track)
        self._capacity.on_accepted(len(self.tracks))
        self._wake_next()

    def adopt(self, track_id: str, track: TrackInProgress) -> None:
        """A lost create was found again; it left the gate when it was lost."""
        self.claim(track_id, track.claim)
        self.tracks[track_id] = track

    def on_queue_full(self, retry_after: float | None = None) -> None:
        """A create was answered with ``QUEUE_FULL``.

        Args:
            retry_after: Seconds, if it names any.
        """
        now = anyio.current_time()
        self._capacity.on_refused(now, len(self.tracks), retry_after or 0.0)
        self._wake_next()

    def on_not_accepted(self) -> None:
        """A create that had passed the gate ended in another way."""
        self._capacity.on_other_outcome()
        self._wake_next()

    def remove(self, track_id: str) -> None:
        """A track was seen to be gone. Unknown ids are ignored."""
        if self.tracks.pop(track_id, None) is not None:
            self._wake_next()

    def observe_final(
        self, track: AnyTrack, watchers: Iterable[Hook | None] = ()
    ) -> None:
        """A track was seen to have ended; that is told once.

        Args:
            track: Its final state.
            watchers: Whom those who wait for it want to be told, beside its creator's.
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
        _tell_the_end(track, since, hooks)

    def _forget_before(self, moment: float) -> None:
        """Take out what was accepted before a moment; the oldest stand first."""
        while self.tracks:
            oldest = next(iter(self.tracks))
            if self.tracks[oldest].accepted_at >= moment:
                return
            del self.tracks[oldest]

    def _wake_next(self) -> None:
        if self._waiting:
            self._waiting[0].wake()


def _tell_the_end(track: AnyTrack, since: float | None, hooks: Iterable[Hook]) -> None:
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
            )
        )
