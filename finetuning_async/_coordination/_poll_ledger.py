"""The ledger by which the processes of an account poll for each other. Pure.

PollCursor   where a process stands, from one sync to the next
PollLedger   the members, what each waits for, which one leads, and recent events

The lead is a lease with a token that is higher than any before. What a process read
under an older token is discarded. Events (observed states, refusals, hints) have
numbers, and each process knows the last one that it received. A limited number of them
is kept. A process that has missed one is removed with all that it waits for, declares
it again, and the leader reads it again.

Every sync can be repeated, because its reply may get lost and a store may apply it
twice: a report has a number and is applied once.

The text has one line with the head of the ledger, one with the tracks, and one for each
event. Most syncs change nothing and parse the first line only.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import attrs

from finetuning_async._coordination._poll_entries import (
    LeaderLease,
    PollMember,
    TrackEntry,
)
from finetuning_async._coordination._poll_messages import (
    ObservedState,
    PollUpdate,
    WatchedTrack,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from finetuning_async._coordination._poll_messages import PollReport

VERSION: Final = 1
"""Of the stored text. A text of another version is discarded."""

LEAD_TTL: Final = 3.0
"""Seconds without a sync of the leader after which another process may lead."""

LEAD_MARGIN: Final = 0.5
"""Seconds by which a leader stops earlier than its lease in the ledger ends, so that it
has stopped before the next one starts, even if their clocks drift."""

LEAD_RENEWAL: Final = 1.0
"""Seconds after which a lease is written again; each time costs a write."""

MEMBER_TTL: Final = 30.0
"""Seconds without a sync after which a process counts as dead."""

MEMBER_RENEWAL: Final = 10.0
"""Seconds after which the presence of a process is written again. So it may have been
silent for that much less than `MEMBER_TTL` when it is removed."""

MAX_EVENTS: Final = 1000
EVENT_TTL: Final = 10.0
"""How many events are kept at most, and for how many seconds: processes sync twice a
second."""


@attrs.frozen(kw_only=True)
class PollCursor:
    """Where a process stands, from one sync to the next.

    Attributes:
        process: Its id; random.
        report_number: The number of its report; a repeated report keeps its number.
        joined_with: The number of the report with which the ledger last took it in.
        token: The token of its lease; 0 if it does not lead.
        last_event: The number of the last event that it received.
        version: The version of all tracks that it last received as the leader.
    """

    process: str
    report_number: int = 0
    joined_with: int = 0
    token: int = 0
    last_event: int = 0
    version: int = 0


class PollLedger:
    """The members, what each waits for, which one leads, and recent events."""

    def __init__(self) -> None:
        self._text: str | None = None  # what was read, while nothing has changed
        self._token = 0
        self._version = 0
        self._last_event = 0
        self._lead: LeaderLease | None = None
        self._members: dict[str, PollMember] = {}
        self._tracks_text = "{}"
        self._parsed_tracks: dict[str, TrackEntry] | None = None
        self._events: list[str] = []

    def __repr__(self) -> str:
        return (
            f"<PollLedger processes={len(self._members)} tracks={len(self._tracks)}"
            f" events={len(self._events)} {self._lead}>"
        )

    # The stored form. Its keys stay when an attribute is renamed.

    @classmethod
    def from_state(cls, text: str) -> PollLedger:
        """Restore a ledger.

        Raises:
            LookupError: The text is not a ledger.
            TypeError: Likewise.
            ValueError: Likewise.
        """
        ledger = cls()
        first, ledger._tracks_text, *ledger._events = text.split("\n")
        head = json.loads(first)
        if head["format"] != VERSION:
            raise ValueError(f"format must be {VERSION}, got {head['format']}")
        ledger._text = text
        ledger._token = head["token"]
        ledger._version = head["version"]
        ledger._last_event = head["last_news"]
        ledger._lead = LeaderLease.from_state(head["lead"]) if "lead" in head else None
        ledger._members = {
            name: PollMember.from_state(state)
            for name, state in head["members"].items()
        }
        return ledger

    def to_state(self) -> str:
        """Return the text; the same one that was read if nothing has changed."""
        if self._text is not None:
            return self._text
        head = {
            "format": VERSION,
            "token": self._token,
            "version": self._version,
            "last_news": self._last_event,
            "members": {name: m.to_state() for name, m in self._members.items()},
        }
        if self._lead is not None:
            head["lead"] = self._lead.to_state()
        tracks = self._tracks_text
        if self._parsed_tracks is not None:
            states = {id_: t.to_state() for id_, t in self._parsed_tracks.items()}
            tracks = _json(states)
        return "\n".join([_json(head), tracks, *self._events])

    @property
    def _tracks(self) -> dict[str, TrackEntry]:
        """Parsed when first needed: a thousand tracks take milliseconds."""
        if self._parsed_tracks is None:
            rows = json.loads(self._tracks_text)
            self._parsed_tracks = {
                id_: TrackEntry.from_state(row) for id_, row in rows.items()
            }
        return self._parsed_tracks

    def _mark_changed(self) -> None:
        self._text = None

    # One sync.

    def sync(
        self, cursor: PollCursor, report: PollReport, now: float
    ) -> tuple[PollCursor, PollUpdate]:
        """Apply the report of a process, and reply.

        Args:
            cursor: Where the process stands.
            report: What it sends.
            now: Seconds, of a clock that all processes share.

        Returns:
            Where it stands now, and the update.
        """
        self._remove_silent_members(now)
        self._remove_old_events(now)
        member = self._member(cursor, now)
        is_known = member.joined_with == cursor.joined_with
        last_event = cursor.last_event if is_known else member.joined_after
        # A process that declares everything again may have failed in between and
        # forgotten that it led. It has no right to report reads of that lead.
        held_lead = is_known and not report.is_complete and self._leads(cursor, now)
        joins_now = member.joined_with == cursor.report_number
        # The same number a second time: the reply was lost, or the store repeats the
        # step. The report is not applied again, but the update is the same.
        if member.report_number != cursor.report_number and (
            joins_now or report.changes_something
        ):
            member.report_number = cursor.report_number
            self._mark_changed()
            self._declare(member, report, now)
            self._publish(member, report, now, as_leader=held_lead)
        lead = self._renew_lead(cursor.process, report, now)
        has_all_tracks = held_lead and cursor.version == self._version
        since = cursor.version if held_lead else -1
        others: list[WatchedTrack] | None = None
        if lead is not None and not has_all_tracks:
            others = list(self._others(member, since, now))
        update = PollUpdate(
            leads_for=0.0 if lead is None else _seconds_left(lead, now),
            is_new_lead=lead is not None and not held_lead,
            others=others,
            must_declare=not (is_known or report.is_complete),
            processes=len(self._members),
            **self._events_for(member, last_event),
        )
        return attrs.evolve(
            cursor,
            joined_with=member.joined_with,
            token=0 if lead is None else lead.token,
            last_event=self._last_event,
            version=self._version,
        ), update

    # The members.

    def _remove_silent_members(self, now: float) -> None:
        for name, member in list(self._members.items()):
            if now - member.seen_at >= MEMBER_TTL:
                self._drop_all(member)
                del self._members[name]
                self._mark_changed()

    def _member(self, cursor: PollCursor, now: float) -> PollMember:
        """Return the process; one that is unknown or has missed events joins anew."""
        member = self._members.get(cursor.process)
        if member is None or self._must_rejoin(member, cursor):
            member = self._join(cursor, member, now)
        elif now - member.seen_at >= MEMBER_RENEWAL:
            member.seen_at = now
            self._mark_changed()
        return member

    def _must_rejoin(self, member: PollMember, cursor: PollCursor) -> bool:
        if member.joined_with != cursor.joined_with:
            # It does not know that it has joined: the reply was lost. Unless this is
            # the same report again, what it declares now may differ.
            return member.report_number != cursor.report_number
        return cursor.last_event < self._last_event - len(self._events)

    def _join(
        self, cursor: PollCursor, known: PollMember | None, now: float
    ) -> PollMember:
        if known is not None:
            self._drop_all(known)
        others = (m for n, m in self._members.items() if n != cursor.process)
        taken = {member.slot for member in others}
        self._members[cursor.process] = member = PollMember(
            slot=next(slot for slot in range(len(taken) + 1) if slot not in taken),
            seen_at=now,
            joined_with=cursor.report_number,
            joined_after=self._last_event,
            report_number=0 if known is None else known.report_number,
        )
        self._mark_changed()
        return member

    # What each member waits for.

    def _declare(self, member: PollMember, report: PollReport, now: float) -> None:
        if not (report.added or report.dropped or report.is_complete):
            return
        bit, added = 1 << member.slot, {track.id: track for track in report.added}
        dropped: Iterable[str] = report.dropped
        if report.is_complete:
            dropped = [id_ for id_ in self._waited_for_by(bit) if id_ not in added]
        has_changed = self._drop(bit, dropped)
        for watched in added.values():
            track = self._tracks.setdefault(watched.id, TrackEntry(watched.kind))
            if not track.waiters & bit:
                track.waiters |= bit
                track.version = self._version + 1
                has_changed = True
            if track.accepted_at is None and watched.age is not None:
                track.accepted_at = now - watched.age
            track.length = watched.length if track.length is None else track.length
        self._version += has_changed

    def _drop_all(self, member: PollMember) -> None:
        bit = 1 << member.slot
        self._version += self._drop(bit, self._waited_for_by(bit))

    def _waited_for_by(self, bit: int) -> list[str]:
        return [id_ for id_, track in self._tracks.items() if track.waiters & bit]

    def _drop(self, bit: int, ids: Iterable[str]) -> bool:
        """Remove a member from some tracks; return whether it waited for any."""
        has_changed = False
        for id_ in ids:
            track = self._tracks.get(id_)
            if track is not None and track.waiters & bit:
                has_changed = True
                track.waiters &= ~bit
                if not track.waiters:
                    del self._tracks[id_]
        return has_changed

    def _others(
        self, member: PollMember, since: int, now: float
    ) -> Iterator[WatchedTrack]:
        """Yield what other members than the leader wait for."""
        bit = 1 << member.slot
        for id_, track in self._tracks.items():
            if track.waiters & ~bit:
                accepted_at = track.accepted_at
                yield WatchedTrack(
                    id=id_,
                    kind=track.kind,
                    age=None if accepted_at is None else max(now - accepted_at, 0.0),
                    length=track.length,
                    is_fresh=track.version > since,
                )

    # The lead.

    def _leads(self, cursor: PollCursor, now: float) -> bool:
        """Whether a process leads with the token that it knows."""
        lead = self._lead
        return (
            lead is not None
            and now < lead.expires_at
            and (lead.process, lead.token) == (cursor.process, cursor.token)
        )

    def _renew_lead(
        self, process: str, report: PollReport, now: float
    ) -> LeaderLease | None:
        """Give a process the lead if it is free; `None` if it does not lead."""
        lead = self._lead
        if lead is None or now >= lead.expires_at:
            if not report.may_lead:
                return None
            # A new token even for the leader of before: another process may have led
            # in between and observed later states than it holds.
            self._token += 1
            lead = LeaderLease(process, self._token, now)  # extended below
        elif lead.process != process:
            return None
        elif not report.may_lead:
            self._lead = None
            self._mark_changed()
            return None
        elif now < lead.expires_at - LEAD_TTL + LEAD_RENEWAL:
            return lead
        lead.expires_at = now + LEAD_TTL
        self._lead = lead
        self._mark_changed()
        return lead

    # Events.

    def _publish(
        self, member: PollMember, report: PollReport, now: float, *, as_leader: bool
    ) -> None:
        """Add hints, and if it holds the lead, what it read for other members."""
        entries: list[dict[str, Any]] = [{"hint": id_} for id_ in report.hints]
        if as_leader:
            entries += [
                {"kind": seen.kind, "row": dict(seen.row)}
                for seen in report.seen
                if self._others_wait_for(seen.row["id"], member)
            ]
            refused = (i for i in report.refused if self._others_wait_for(i, member))
            entries += [{"refused": id_} for id_ in refused]
        head = {"at": round(now, 3), "by": member.slot}
        self._events += [_json(head | entry) for entry in entries]
        self._last_event += len(entries)
        del self._events[: max(len(self._events) - MAX_EVENTS, 0)]

    def _remove_old_events(self, now: float) -> None:
        old = 0
        while old < len(self._events):
            if now - json.loads(self._events[old])["at"] < EVENT_TTL:
                break
            old += 1
        # Not marked as a change, which would cost a write: whoever reads the text next
        # removes the same events again.
        del self._events[:old]

    def _others_wait_for(self, track_id: str, member: PollMember) -> bool:
        track = self._tracks.get(track_id)
        return track is not None and bool(track.waiters & ~(1 << member.slot))

    def _events_for(self, member: PollMember, last: int) -> dict[str, Any]:
        """Return the events of other members after the one with that number."""
        kept = self._events[max(len(self._events) - (self._last_event - last), 0) :]
        entries = [json.loads(entry) for entry in kept]
        entries = [entry for entry in entries if entry["by"] != member.slot]
        return {
            "seen": [
                ObservedState(kind=e["kind"], row=e["row"])
                for e in entries
                if "row" in e
            ],
            "refused": [e["refused"] for e in entries if "refused" in e],
            "hints": [e["hint"] for e in entries if "hint" in e],
        }


def _seconds_left(lead: LeaderLease, now: float) -> float:
    return max(lead.expires_at - now - LEAD_MARGIN, 0.0)


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
