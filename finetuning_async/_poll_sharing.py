"""One process polls for all: this one's part in it.

At each meeting a process says what it waits for and what it read, and is told whether
it leads and what was read elsewhere. The lead is a lease of seconds: whoever does not
come back loses it to the next who comes. A process that cannot meet reads for itself.
"""

from __future__ import annotations

import json
import logging
from math import inf
from typing import TYPE_CHECKING, Final, cast

import anyio

from finetuning_async import _parsing
from finetuning_async._errors import APIResponseError
from finetuning_async._poll_words import Seen, Wanted, Words
from finetuning_async._wire import Answer

if TYPE_CHECKING:
    from finetuning_async._news import News
    from finetuning_async._poll_words import Heard, PollCoordinator
    from finetuning_async._types import Kind
    from finetuning_async._watch_list import AnyTrack, Watched, WatchList

logger = logging.getLogger("finetuning_async")

PAUSE: Final = 0.5
"""Seconds between two meetings, at 60 reads a minute."""

SHORTEST_PAUSE: Final = 0.1
"""Seconds, however many reads are allowed."""

PATIENCE: Final = 1.0
"""Seconds that a meeting may take."""

ALONE: Final = 5.0
"""Seconds for which a process reads for itself after a meeting that failed."""


class Sharing:
    """What one event loop of a process shares of its poll loop.

    Args:
        coordinator: Where it meets the others.
        watched: The tracks under watch.
        news: Gives out what is read.
        scale: Seconds per read of the budget.

    Attributes:
        next_meeting: On the loop's clock.
    """

    def __init__(
        self,
        coordinator: PollCoordinator,
        watched: WatchList,
        news: News,
        *,
        scale: float,
    ) -> None:
        self._coordinator = coordinator
        self._list = watched
        self._news = news
        self._pause = max(PAUSE * scale, SHORTEST_PAUSE)
        self._lock = anyio.Lock()
        self._leads_until = -inf
        self._declared: set[str] = set()
        self._seen: dict[str, Seen] = {}
        self._refused: set[str] = set()
        self._hints: dict[str, None] = {}
        self._own: set[str] = set()
        self._not_ours: set[str] = set()
        self._is_told = False
        self._is_leader = False
        self.next_meeting: float = -inf
        news.on_state = self._saw
        news.on_refusal = self._was_refused

    def __repr__(self) -> str:
        return f"<Sharing declared={len(self._declared)} until={self._leads_until}>"

    def may_read(self, now: float, track: Watched | None = None) -> bool:
        """Whether this process reads: as the leader, or what the leader could not."""
        if now < self._leads_until:
            return True
        return bool(self._own) if track is None else track.track_id in self._own

    def hint(self, track_id: str) -> None:
        """Something was heard here about a track; the others hear it next."""
        self._hints[track_id] = None
        self.next_meeting = -inf

    def _saw(self, state: AnyTrack) -> None:
        if not self._is_told:
            row = {key: value for key, value in state.raw.items() if key != "webhook"}
            self._seen[state.id] = Seen(kind=cast("Kind", state.kind), row=row)
            self.next_meeting = -inf

    def _was_refused(self, track_id: str) -> None:
        self._own.discard(track_id)
        if track_id in self._list.foreign:
            self._not_ours.add(track_id)
            self._refused.add(track_id)
            self.next_meeting = -inf

    async def leave(self) -> None:
        """If nobody waits here any more, let another lead, and say what was read."""
        if self._is_leader and next(self._list.wanted(), None) is None:
            await self.meet()

    async def meet(self) -> None:
        """Say and be told. Cancelled, what was to be said is said again."""
        async with self._lock:
            asked_at = anyio.current_time()
            self.next_meeting = asked_at + self._pause
            words = self._words(asked_at)
            try:
                with anyio.fail_after(PATIENCE):
                    heard = await self._coordinator.meet(words)
            except Exception as error:  # whatever its library raises
                logger.debug("polling alone for a while after: %r", error)
                self._go_alone()
            else:
                self._were_said(words)
                self._take(heard, asked_at)

    async def tell(self) -> None:
        """Say what is to be said without waiting for the next meeting."""
        if self._hints or self._seen:
            await self.meet()

    def _words(self, now: float) -> Words:
        wanted = {track.track_id: track for track in self._list.wanted()}
        return Words(
            added=[_wanted(wanted[id_], now) for id_ in wanted.keys() - self._declared],
            dropped=list(self._declared - wanted.keys()),
            seen=list(self._seen.values()),
            refused=list(self._refused),
            hints=list(self._hints),
            may_lead=bool(wanted),
        )

    def _were_said(self, words: Words) -> None:
        self._declared -= set(words.dropped)
        self._declared.update(wanted.id for wanted in words.added)
        for seen in words.seen:
            if self._seen.get(seen.row["id"]) is seen:
                del self._seen[seen.row["id"]]
        self._refused -= set(words.refused)
        for hint in words.hints:
            self._hints.pop(hint, None)

    def _go_alone(self) -> None:
        now = anyio.current_time()
        self._declared.clear()
        self._seen.clear()
        self._is_leader = False
        self._leads_until = now + ALONE + self._pause
        self.next_meeting = now + ALONE

    def _take(self, heard: Heard, asked_at: float) -> None:
        now = anyio.current_time()
        if heard.is_new:
            self._declared.clear()
            self.next_meeting = now
        self._leads_until = asked_at + heard.leads_for
        self._is_leader = heard.leads_for > 0
        if not self.may_read(now):
            self._list.follow({}, now)
        elif heard.others is not None:
            others = {w.id: w for w in heard.others if w.id not in self._not_ours}
            self._list.follow(others, now)
        self._own.update(self._declared.intersection(heard.refused))
        for hint in heard.hints:
            self._list.hint(hint, now)
        for seen in heard.seen:
            self._give_out(seen, now)

    def _give_out(self, seen: Seen, now: float) -> None:
        content = json.dumps({"data": dict(seen.row)}).encode()
        answer = Answer(
            status=200, headers={}, content=content, sent_at=now, received_at=now
        )
        self._is_told = True
        try:
            if seen.kind == "sound_effect":
                self._news.heard(_parsing.sound_effect(answer), answer)
            else:
                self._news.heard(_parsing.generation(answer), answer)
        except APIResponseError as error:
            logger.debug("a state that another process read is not clear: %s", error)
        finally:
            self._is_told = False


def _wanted(track: Watched, now: float) -> Wanted:
    accepted = track.accepted_at
    age = None if accepted is None else now - accepted
    return Wanted(id=track.track_id, kind=track.kind, age=age, length=track.length)
