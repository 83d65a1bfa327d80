"""The ledger by which the processes of an account poll for each other. Pure.

    PollCursor   what a process remembers from one sync to the next
    PollLedger   who is here, what each waits for, who leads, what is new
    sync_state   one sync, from the text of a ledger to its next one

The lead is a lease with a token that is higher than any before (a fence): what a
process read under an older one is not taken. News have numbers, and each process knows
the last one it heard. A few are kept; one that has missed some is forgotten with all
that it waits for, declares it anew, and the leader reads it again.

Every sync can be repeated, for its answer may be lost and a store may apply it twice:
a report has a number, and is taken once.

The text has a line with the ledger's head, a line with the tracks, and one for each
piece of news. Most syncs say nothing and need the first line only.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, Final

import attrs

from finetuning_async._coordination._poll_protocol import (
    ObservedState,
    PollUpdate,
    WatchedTrack,
)
from finetuning_async._coordination._poll_state import Lead, Member, Track

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from finetuning_async._coordination._poll_protocol import PollReport

logger = logging.getLogger("finetuning_async")

VERSION: Final = 1
"""Of the text; another one is not read, and the ledger begins anew."""

LEAD: Final = 3.0
"""Seconds without a word from the leader after which another one leads."""

MARGIN: Final = 0.5
"""Seconds by which a leader ends its lead earlier than the ledger does."""

RENEWED_AFTER: Final = 1.0
"""Seconds after which a lead is written down anew; each time is a write."""

GONE_AFTER: Final = 30.0
"""Seconds without a word after which a process waits for nothing any more."""

NOTED_AFTER: Final = 10.0
"""Seconds after which it is written down anew that a process is here. So it may have
been silent for that much less than `GONE_AFTER` when it is forgotten."""

NEWS_KEPT: Final = 1000
NEWS_AGE: Final = 10.0
"""How much news is kept at most, and for how many seconds: processes come twice a
second."""

UNREADABLE: Final = (LookupError, TypeError, ValueError, AttributeError, RecursionError)
"""What a text raises that is no ledger."""


@attrs.frozen(kw_only=True)
class PollCursor:
    """What a process remembers from one sync to the next.

    Attributes:
        process: Its name; random.
        report: The number of its report; each has another, unless it is said again.
        joined: The number of the report with which it became known.
        token: Of its lead; 0 if it does not lead.
        news: The number of the last news that it heard.
        version: Of what all wait for, when it last heard of it.
    """

    process: str
    report: int = 0
    joined: int = 0
    token: int = 0
    news: int = 0
    version: int = 0


class PollLedger:
    """Who is here, what each waits for, who leads, and what is new."""

    def __init__(self) -> None:
        self._text: str | None = None
        self._token = 0
        self._version = 0
        self._last_news = 0
        self._lead: Lead | None = None
        self._members: dict[str, Member] = {}
        self._tracks_text = "{}"
        self._tracks_read: dict[str, Track] | None = None
        self._news: list[str] = []

    def __repr__(self) -> str:
        return (
            f"<PollLedger processes={len(self._members)} tracks={len(self._tracks)}"
            f" news={len(self._news)} {self._lead}>"
        )

    # As text.

    @classmethod
    def from_state(cls, text: str) -> PollLedger:
        """Read a ledger.

        Raises:
            LookupError: It is none.
            TypeError: Likewise.
            ValueError: Likewise.
        """
        ledger = cls()
        first, ledger._tracks_text, *ledger._news = text.split("\n")
        head = json.loads(first)
        if head["format"] != VERSION:
            raise ValueError(f"it has the format {head['format']}")
        ledger._text = text
        ledger._token = head["token"]
        ledger._version = head["version"]
        ledger._last_news = head["last_news"]
        ledger._lead = Lead.from_state(head["lead"]) if "lead" in head else None
        ledger._members = {
            name: Member.from_state(state) for name, state in head["members"].items()
        }
        return ledger

    def to_state(self) -> str:
        """Write it; the same text that was read, if nothing has changed."""
        if self._text is not None:
            return self._text
        head = {
            "format": VERSION,
            "token": self._token,
            "version": self._version,
            "last_news": self._last_news,
            "members": {name: m.to_state() for name, m in self._members.items()},
        }
        if self._lead is not None:
            head["lead"] = self._lead.to_state()
        tracks = self._tracks_text
        if self._tracks_read is not None:
            tracks = _json({id_: t.to_state() for id_, t in self._tracks_read.items()})
        return "\n".join([_json(head), tracks, *self._news])

    @property
    def _tracks(self) -> dict[str, Track]:
        if self._tracks_read is None:
            rows = json.loads(self._tracks_text)
            self._tracks_read = {
                id_: Track.from_state(row) for id_, row in rows.items()
            }
        return self._tracks_read

    def _changes(self) -> None:
        self._text = None

    # One sync.

    def sync(
        self, cursor: PollCursor, report: PollReport, now: float
    ) -> tuple[PollCursor, PollUpdate]:
        """Take what a process says, and answer it.

        Args:
            cursor: What the process remembers.
            report: What it says.
            now: Seconds, of a clock that all processes share.

        Returns:
            What it is to remember, and what it is told.
        """
        self._forget_the_silent(now)
        self._forget_old_news(now)
        member = self._member(cursor, now)
        is_known = member.joined == cursor.joined
        heard = cursor.news if is_known else member.since
        # One that says all anew may have lost what it knew of its lead.
        held = is_known and not report.is_complete and self._holds(cursor, now)
        is_new = member.joined == cursor.report
        if member.report != cursor.report and (is_new or report.changes_something):
            member.report = cursor.report
            self._changes()
            self._declare(member, report, now)
            self._take_news(member, report, now, as_leader=held)
        lead = self._lead_of(cursor.process, report, now)
        is_told = lead is not None and not (held and cursor.version == self._version)
        since = cursor.version if held else -1
        update = PollUpdate(
            leads_for=0.0 if lead is None else max(lead.until - now - MARGIN, 0.0),
            is_new_lead=lead is not None and not held,
            others=list(self._others(member, since, now)) if is_told else None,
            must_declare=not (is_known or report.is_complete),
            processes=len(self._members),
            **self._news_for(member, heard),
        )
        return attrs.evolve(
            cursor,
            joined=member.joined,
            token=0 if lead is None else lead.token,
            news=self._last_news,
            version=self._version,
        ), update

    # Who is here.

    def _forget_the_silent(self, now: float) -> None:
        for name, member in list(self._members.items()):
            if now - member.seen_at >= GONE_AFTER:
                self._drop_all(member)
                del self._members[name]
                self._changes()

    def _member(self, cursor: PollCursor, now: float) -> Member:
        """The process; one that is not known, or has missed news, is made anew."""
        member = self._members.get(cursor.process)
        if member is None or self._is_stale(member, cursor):
            member = self._enrol(cursor, member, now)
        elif now - member.seen_at >= NOTED_AFTER:
            member.seen_at = now
            self._changes()
        return member

    def _is_stale(self, member: Member, cursor: PollCursor) -> bool:
        if member.joined != cursor.joined:  # unless it is this report that joined
            return member.report != cursor.report
        return cursor.news < self._last_news - len(self._news)

    def _enrol(self, cursor: PollCursor, known: Member | None, now: float) -> Member:
        if known is not None:
            self._drop_all(known)
        others = (m for n, m in self._members.items() if n != cursor.process)
        taken = {member.slot for member in others}
        self._members[cursor.process] = member = Member(
            slot=next(slot for slot in range(len(taken) + 1) if slot not in taken),
            seen_at=now,
            joined=cursor.report,
            since=self._last_news,
            report=0 if known is None else known.report,
        )
        self._changes()
        return member

    # What each waits for.

    def _declare(self, member: Member, report: PollReport, now: float) -> None:
        if not (report.added or report.dropped or report.is_complete):
            return
        bit, added = 1 << member.slot, {track.id: track for track in report.added}
        dropped: Iterable[str] = report.dropped
        if report.is_complete:
            dropped = [id_ for id_ in self._waited_for_by(bit) if id_ not in added]
        changes = self._drop(bit, dropped)
        for wanted in added.values():
            track = self._tracks.setdefault(wanted.id, Track(wanted.kind))
            if not track.waiters & bit:
                track.waiters |= bit
                track.since = self._version + 1
                changes = True
            if track.accepted is None and wanted.age is not None:
                track.accepted = now - wanted.age
            track.length = wanted.length if track.length is None else track.length
        self._version += changes

    def _drop_all(self, member: Member) -> None:
        bit = 1 << member.slot
        self._version += self._drop(bit, self._waited_for_by(bit))

    def _waited_for_by(self, bit: int) -> list[str]:
        return [id_ for id_, track in self._tracks.items() if track.waiters & bit]

    def _drop(self, bit: int, ids: Iterable[str]) -> bool:
        """One no longer waits for some tracks; whether it had."""
        changes = False
        for id_ in ids:
            track = self._tracks.get(id_)
            if track is not None and track.waiters & bit:
                changes = True
                track.waiters &= ~bit
                if not track.waiters:
                    del self._tracks[id_]
        return changes

    def _others(self, member: Member, since: int, now: float) -> Iterator[WatchedTrack]:
        """What others than the leader wait for."""
        bit = 1 << member.slot
        for id_, track in self._tracks.items():
            if track.waiters & ~bit:
                accepted = track.accepted
                yield WatchedTrack(
                    id=id_,
                    kind=track.kind,
                    age=None if accepted is None else max(now - accepted, 0.0),
                    length=track.length,
                    is_fresh=track.since > since,
                )

    # Who leads.

    def _holds(self, cursor: PollCursor, now: float) -> bool:
        """Whether a process leads under the token that it knows."""
        lead = self._lead
        return (
            lead is not None
            and now < lead.until
            and (lead.process, lead.token) == (cursor.process, cursor.token)
        )

    def _lead_of(self, process: str, report: PollReport, now: float) -> Lead | None:
        """The lead of a process from now on; `None` if another has it, or nobody."""
        lead = self._lead
        if lead is None or now >= lead.until:
            if not report.may_lead:
                return None
            self._token += 1
            lead = Lead(process, self._token, now + LEAD)
        elif lead.process != process:
            return None
        elif not report.may_lead:
            self._lead = None
            self._changes()
            return None
        elif now < lead.until - LEAD + RENEWED_AFTER:
            return lead
        lead.until = now + LEAD
        self._lead = lead
        self._changes()
        return lead

    # What is new.

    def _take_news(
        self, member: Member, report: PollReport, now: float, *, as_leader: bool
    ) -> None:
        entries: list[dict[str, Any]] = [{"hint": id_} for id_ in report.hints]
        if as_leader:
            entries += [
                {"kind": seen.kind, "row": dict(seen.row)}
                for seen in report.seen
                if self._others_wait_for(seen.row["id"], member)
            ]
            refused = (i for i in report.refused if self._others_wait_for(i, member))
            entries += [{"refused": id_} for id_ in refused]
        about = {"at": round(now, 3), "by": member.slot}
        self._news += [_json(about | entry) for entry in entries]
        self._last_news += len(entries)
        del self._news[: max(len(self._news) - NEWS_KEPT, 0)]

    def _forget_old_news(self, now: float) -> None:
        old = 0
        while old < len(self._news):
            if now - json.loads(self._news[old])["at"] < NEWS_AGE:
                break
            old += 1
        del self._news[:old]

    def _others_wait_for(self, track_id: str, member: Member) -> bool:
        track = self._tracks.get(track_id)
        return track is not None and bool(track.waiters & ~(1 << member.slot))

    def _news_for(self, member: Member, heard: int) -> dict[str, Any]:
        """What others said after the news with that number."""
        kept = self._news[max(len(self._news) - (self._last_news - heard), 0) :]
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


def sync_state(
    text: str | None, cursor: PollCursor, report: PollReport, now: float
) -> tuple[str, tuple[PollCursor, PollUpdate]]:
    """One sync with a ledger that is kept as a text.

    Args:
        text: What was written last; `None` if nothing was. What cannot be read counts
            as nothing: each process then declares all anew.
        cursor: What the process remembers.
        report: What it says.
        now: Seconds, of a clock that all processes share.

    Returns:
        The text to keep, and what `PollLedger.sync` returns.
    """
    if text is not None:
        try:
            ledger = PollLedger.from_state(text)
            told = ledger.sync(cursor, report, now)
            return ledger.to_state(), told
        except UNREADABLE as error:
            logger.warning(
                "the ledger of shared polling cannot be read (%s) and begins anew",
                type(error).__name__,
            )
    ledger = PollLedger()
    told = ledger.sync(cursor, report, now)
    return ledger.to_state(), told


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
