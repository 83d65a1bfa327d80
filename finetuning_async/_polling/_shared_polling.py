"""One process polls for all that share an account: the part of this process.

At each sync a process reports what it waits for and what it read. In return it learns
whether it is the leader, which reads for all, and what was read elsewhere. The lead is
a lease of seconds: a process that does not sync again loses it to the next one that
does. A process that cannot sync reads for itself.
"""

from __future__ import annotations

import json
import logging
from itertools import islice
from math import inf
from typing import TYPE_CHECKING, Final, cast

import anyio

from finetuning_async._api import Response, parsing
from finetuning_async._coordination import ObservedState, PollReport, WatchedTrack
from finetuning_async._errors import APIResponseError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from finetuning_async._coordination import PollCoordinator, PollUpdate
    from finetuning_async._polling._dispatch import StateDispatcher
    from finetuning_async._polling._failure_tracker import FailureTracker
    from finetuning_async._polling._waiters import AnyTrack
    from finetuning_async._polling._watch_list import Watched, WatchList
    from finetuning_async._types import Kind

logger = logging.getLogger("finetuning_async")

SYNC_INTERVAL: Final = 0.5
"""Seconds from one sync to the next, at 60 reads a minute."""

MIN_SYNC_INTERVAL: Final = 0.1
MAX_SYNC_INTERVAL: Final = 1.0
"""Seconds, however many reads are allowed; a lease of the lead is longer than that."""

SYNC_TIMEOUT: Final = 1.0
"""Seconds that a sync may take."""

STANDALONE_FOR: Final = 5.0
"""Seconds for which a process reads for itself after a failed sync."""

YIELD_LEAD_AFTER: Final = 3
"""Reads of a leader that failed in a row, after which it lets another process lead, and
again after each further one: it may be the only one that cannot reach the service."""

YIELD_LEAD_FOR: Final = 5.0
"""Seconds for which it does not lead then; its own next read is hardly due earlier."""

MAX_PER_REPORT: Final = 250
"""States, and hints, in one report; the rest go into the next reports. A ledger keeps
some of them only until all processes have read them."""


class SharedPolling:
    """Shares the poll loop of one event loop with other processes.

    Args:
        coordinator: Exchanges reports through the store.
        watched: The watched tracks.
        dispatcher: Dispatches what is read.
        failures: The reads that failed here in a row.
        scale: Seconds per allowed read.

    Attributes:
        next_sync: When the next sync is due, on the loop's clock.
    """

    def __init__(
        self,
        coordinator: PollCoordinator,
        watched: WatchList,
        dispatcher: StateDispatcher,
        failures: FailureTracker,
        *,
        scale: float,
    ) -> None:
        self._coordinator = coordinator
        self._watch_list = watched
        self._dispatcher = dispatcher
        self._failures = failures
        self._pause = min(
            max(SYNC_INTERVAL * scale, MIN_SYNC_INTERVAL), MAX_SYNC_INTERVAL
        )
        self._lock = anyio.Lock()
        # Who reads. Times are on the loop's clock.
        self._reads_until = -inf  # the end of our lease, or of reading alone
        self._leads_since = inf  # `inf`: another process leads
        self._standalone_until = -inf
        self._yielding_until = -inf
        self._failures_seen = 0
        self._read_here: set[str] = set()  # what the leader cannot read for us
        # What the others know of us.
        self._is_complete = True  # the next report lists all, not only changes
        self._declared: set[str] = set()
        self._reported: dict[str, str] = {}  # the last status of each track
        # What the next report says.
        self._unreported: dict[str, ObservedState] = {}
        self._refused: dict[str, None] = {}
        self._hints: dict[str, None] = {}
        # What we cannot read for the others.
        self._refused_foreign: set[str] = set()
        self._is_dispatching = False  # a state of another process, not to be reported
        self.next_sync: float = -inf
        dispatcher.on_state = self._record_state
        dispatcher.on_refusal = self._record_refusal

    def __repr__(self) -> str:
        leads = self._leads_since < inf
        return f"<SharedPolling declared={len(self._declared)} leads={leads}>"

    def may_read(self, now: float, track: Watched | None = None) -> bool:
        """Whether this process reads: as the leader, or what the leader cannot."""
        if now < self._reads_until:
            return True
        return (
            bool(self._read_here)
            if track is None
            else track.track_id in self._read_here
        )

    def hint(self, track_id: str) -> None:
        """Pass a hint about a track to the other processes."""
        self._hints[track_id] = None
        self._sync_soon()

    def _sync_soon(self) -> None:
        if anyio.current_time() >= self._standalone_until:
            self.next_sync = -inf

    def _record_state(self, state: AnyTrack, asked_at: float) -> None:
        """Note a state that was read here, to be reported.

        If its read was sent before this process became the leader, it is not reported:
        the leader of that time may have reported a newer one since.
        """
        is_old = asked_at < self._leads_since
        if (
            self._is_dispatching
            or is_old
            or self._reported.get(state.id) == state.status
        ):
            return
        self._reported[state.id] = state.status
        row = {key: value for key, value in state.raw.items() if key != "webhook"}
        kind = cast("Kind", state.kind)
        self._unreported[state.id] = ObservedState(kind=kind, row=row)
        self._sync_soon()

    def _record_refusal(self, track_id: str) -> None:
        self._read_here.discard(track_id)
        if track_id in self._watch_list.foreign_ids:
            self._refused_foreign.add(track_id)
            self._refused[track_id] = None
            self._sync_soon()

    async def leave(self) -> None:
        """If no waiter is left here, give up the lead and report what was read."""
        if (
            self._leads_since < inf
            and next(self._watch_list.own_tracks(), None) is None
        ):
            await self.sync()

    async def publish(self) -> None:
        """Report now what is not reported yet, without waiting for the next sync."""
        if self._hints or self._unreported:
            await self.sync()

    async def sync(self) -> None:
        """Exchange reports; if it is cancelled, the next one repeats the same."""
        async with self._lock:
            asked_at = anyio.current_time()
            self.next_sync = inf
            report = self._report(asked_at)
            if not report.may_lead and self._leads_since < inf:
                # Another process may become the leader by this report, and read
                # before this one gets the reply: two leaders would read twice as much.
                self._reads_until = min(self._reads_until, asked_at)
            try:
                with anyio.fail_after(SYNC_TIMEOUT):
                    update = await self._coordinator.sync(report)
            except Exception as error:  # whatever the library of the store raises
                logger.debug(
                    "shared polling failed, this process polls alone for a while: %r",
                    error,
                )
                self._go_standalone()
            else:
                self._confirm_reported(report)
                self._apply(update, asked_at)
            finally:
                if self.next_sync == inf:  # else it is due already
                    self.next_sync = anyio.current_time() + self._pause

    def _report(self, now: float) -> PollReport:
        wanted = {track.track_id: track for track in self._watch_list.own_tracks()}
        known = set() if self._is_complete else self._declared
        return PollReport(
            added=[
                _to_watched_track(wanted[id_], now) for id_ in wanted.keys() - known
            ],
            dropped=list(known - wanted.keys()),
            is_complete=self._is_complete,
            seen=list(islice(self._unreported.values(), MAX_PER_REPORT)),
            refused=list(self._refused),
            hints=list(islice(self._hints, MAX_PER_REPORT)),
            may_lead=bool(wanted) and not self._yields_lead(now),
        )

    def _yields_lead(self, now: float) -> bool:
        """Whether another process should lead, since the reads of this one fail."""
        failures, before = self._failures.failures, self._failures_seen
        self._failures_seen = failures
        if self._leads_since < inf and failures > max(before, YIELD_LEAD_AFTER - 1):
            self._yielding_until = now + YIELD_LEAD_FOR
        return now < self._yielding_until

    def _confirm_reported(self, report: PollReport) -> None:
        if report.is_complete:
            self._declared.clear()
            self._is_complete = False
        self._declared -= set(report.dropped)
        self._declared.update(wanted.id for wanted in report.added)
        self._read_here &= self._declared
        # A newer state that was read during the exchange stays for the next report.
        for seen in report.seen:
            if self._unreported.get(seen.row["id"]) is seen:
                del self._unreported[seen.row["id"]]
        for refused in report.refused:
            self._refused.pop(refused, None)
        for hint in report.hints:
            self._hints.pop(hint, None)

    def _go_standalone(self) -> None:
        """Read what this process waits for, and nothing for others."""
        now = anyio.current_time()
        self._is_complete = True
        self._drop_lead()
        self._watch_list.follow_foreign({}, now)
        self._reads_until = now + STANDALONE_FOR + self._pause
        self._standalone_until = self.next_sync = now + STANDALONE_FOR

    def _drop_lead(self) -> None:
        self._leads_since = inf
        self._reported.clear()
        self._unreported.clear()
        self._refused.clear()

    def _apply(self, update: PollUpdate, asked_at: float) -> None:
        now = anyio.current_time()
        if update.must_declare:
            self._is_complete = True
            self.next_sync = now
        # Counted from before the exchange, so that it ends here first: another process
        # gets the lead only after this one has stopped reading.
        self._reads_until = asked_at + update.leads_for
        if update.leads_for <= 0:
            self._drop_lead()
            if self._watch_list.foreign_ids:
                self._watch_list.follow_foreign({}, now)
        elif update.is_new_lead:
            self._drop_lead()
            self._leads_since = now
        if update.others is not None:
            self._follow(update.others, now)
        self._read_here.update(self._declared.intersection(update.refused))
        for hint in update.hints:
            self._watch_list.hint(hint, now)
        for seen in update.seen:
            self._dispatch_state(seen, now)

    def _follow(self, others: Sequence[WatchedTrack], now: float) -> None:
        """Read for the other processes, and report what is known to new ones."""
        self._refused_foreign.intersection_update(track.id for track in others)
        self._watch_list.follow_foreign(
            {
                track.id: track
                for track in others
                if track.id not in self._refused_foreign
            },
            now,
        )
        for track_id in [i for i in self._reported if self._watch_list.get(i) is None]:
            del self._reported[track_id]
        for track in others:
            if track.is_fresh and track.id in self._refused_foreign:
                self._refused[track.id] = None
                self._sync_soon()
            elif track.is_fresh:
                self._reported.pop(track.id, None)
                known = self._watch_list.get(track.id)
                if known is not None and known.latest is not None:
                    self._record_state(known.latest, known.seen_running_at)

    def _dispatch_state(self, seen: ObservedState, now: float) -> None:
        content = json.dumps({"data": dict(seen.row)}).encode()
        response = Response(
            status=200, headers={}, content=content, sent_at=now, received_at=now
        )
        self._is_dispatching = True
        try:
            if seen.kind == "sound_effect":
                self._dispatcher.dispatch_shared(
                    parsing.sound_effect(response), response
                )
            else:
                self._dispatcher.dispatch_shared(parsing.generation(response), response)
        except APIResponseError as error:
            logger.debug("a state that another process read is invalid: %s", error)
        finally:
            self._is_dispatching = False


def _to_watched_track(track: Watched, now: float) -> WatchedTrack:
    accepted = track.accepted_at
    age = None if accepted is None else now - accepted
    return WatchedTrack(
        id=track.track_id, kind=track.kind, age=age, length=track.length
    )
