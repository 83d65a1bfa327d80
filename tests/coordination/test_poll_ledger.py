"""What the ledger of shared polling guarantees, whatever its processes do."""

from __future__ import annotations

import itertools
import json
from math import inf
from typing import TYPE_CHECKING

import attrs
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from finetuning_async._coordination import _poll_ledger
from finetuning_async._coordination._poll_coordinator import apply_sync
from finetuning_async._coordination._poll_ledger import (
    EVENT_TTL,
    LEAD_MARGIN,
    LEAD_TTL,
    MEMBER_TTL,
    PollCursor,
    PollLedger,
)
from finetuning_async._coordination._poll_messages import (
    ObservedState,
    PollReport,
    PollUpdate,
    WatchedTrack,
)

if TYPE_CHECKING:
    import pytest

TRACKS = ("a", "b", "c")
PROCESSES = 3
PAUSE = 0.5

numbers_of_processes = itertools.count(1)
tracks = st.sampled_from(TRACKS)
numbers = st.integers(0, PROCESSES - 1)


@attrs.define(eq=False)
class Process:
    """A process that polls as `SharedPolling` does; states are ascending numbers.

    Attributes:
        wants: What it waits for.
        declared: What it has declared; `None` if it has to declare everything.
        others: What it reads for others.
        leads_since: When it received the lead; `inf` if it does not lead.
        reads_until: Until when it believes that it leads.
        known: The last state of each track that it read or received.
        reported: What it reported under this lead.
        unreported: What it has read and not reported, with the number of the read.
        owed: Reads that others reported while this one waited for the track.
    """

    cursor: PollCursor = attrs.field(
        factory=lambda: PollCursor(process=f"p{next(numbers_of_processes)}")
    )
    wants: set[str] = attrs.field(factory=set)
    declared: set[str] | None = None
    others: set[str] = attrs.field(factory=set)
    leads_since: float = inf
    reads_until: float = -inf
    known: dict[str, int] = attrs.field(factory=dict)
    reported: dict[str, int] = attrs.field(factory=dict)
    unreported: dict[str, tuple[int, int]] = attrs.field(factory=dict)
    owed: dict[int, str] = attrs.field(factory=dict)

    @property
    def name(self) -> str:
        return self.cursor.process

    def next_report(self) -> PollReport:
        self.cursor = attrs.evolve(
            self.cursor, report_number=self.cursor.report_number + 1
        )
        known = set() if self.declared is None else self.declared
        if not self.wants:
            self.reads_until = -inf
        return PollReport(
            added=[WatchedTrack(id=t, kind="music") for t in self.wants - known],
            dropped=sorted(known - self.wants),
            is_complete=self.declared is None,
            seen=[
                ObservedState(kind="music", row={"id": t, "state": state, "read": read})
                for t, (state, read) in self.unreported.items()
            ],
            may_lead=bool(self.wants),
        )

    def learn(self, track: str, state: int) -> None:
        self.known[track] = max(state, self.known.get(track, 0))

    def on_read(self, track: str, state: int, read: int) -> None:
        self.learn(track, state)
        if self.reported.get(track) != state:
            self.reported[track] = state
            self.unreported[track] = state, read

    def lose_lead(self) -> None:
        self.leads_since = inf
        self.reported.clear()
        self.unreported.clear()

    def on_failure(self) -> None:
        self.lose_lead()
        self.others = set()
        self.declared, self.reads_until = None, -inf

    def on_update(self, update: PollUpdate, now: float) -> None:
        self.declared = None if update.must_declare else set(self.wants)
        self.unreported.clear()
        self.reads_until = now + update.leads_for
        if update.leads_for <= 0:
            self.lose_lead()
            self.others = set()
        elif update.is_new_lead:
            self.lose_lead()
            self.leads_since = now
            assert all(track.is_fresh for track in update.others or ())
        if update.others is not None:
            self.others = {track.id for track in update.others}
            for track in update.others:
                if track.is_fresh:
                    self.reported.pop(track.id, None)
        for seen in update.seen:
            self.learn(seen.row["id"], seen.row["state"])


class Ledgers(RuleBasedStateMachine):
    """Processes that join, wait, stop, die and are cut off, in any order.

    Attributes:
        holder: The process that was given the lead last.
        held_until: Until when, on the ledger's clock.
        declared: What each process has declared to the ledger.
        received: The numbers of the reports that the ledger received.
        valid: Reads that were reported under a lead.
        invalid: Reads that were reported by a process that had lost the lead.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.text: str | None = None
        self.processes = [Process() for _ in range(PROCESSES)]
        self.truth = dict.fromkeys(TRACKS, 1)
        self.holder: Process | None = None
        self.held_until = -inf
        self.declared: dict[str, set[str]] = {}
        self.received: dict[str, set[int]] = {}
        self.valid: set[int] = set()
        self.invalid: set[int] = set()
        self.numbers = itertools.count()

    # Events.

    @initialize(wants=st.lists(st.sets(tracks), min_size=3, max_size=3))
    def begin(self, wants: list[set[str]]) -> None:
        for process, some in zip(self.processes, wants, strict=True):
            process.wants = some

    @rule(seconds=st.sampled_from([PAUSE, PAUSE, LEAD_TTL, EVENT_TTL, MEMBER_TTL]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(number=numbers, track=tracks)
    def waits_for(self, number: int, track: str) -> None:
        process = self.processes[number]
        if track not in process.wants:
            process.wants.add(track)
            process.known.pop(track, None)

    @rule(number=numbers, track=tracks)
    def waits_no_more_for(self, number: int, track: str) -> None:
        process = self.processes[number]
        process.wants.discard(track)
        process.owed = {i: owed for i, owed in process.owed.items() if owed != track}

    @rule(track=tracks)
    def progresses(self, track: str) -> None:
        self.truth[track] += 1

    @rule(number=numbers)
    def reads(self, number: int) -> None:
        process = self.processes[number]
        if self.leads(process):
            for track in process.wants | process.others:
                process.on_read(track, self.truth[track], next(self.numbers))

    @rule(number=numbers)
    def dies(self, number: int) -> None:
        self.processes[number] = Process()

    @rule(left=st.sampled_from([None, "", "[]\n{}"]))
    def the_store_is_emptied(self, left: str | None) -> None:
        self.text = left
        self.declared.clear()
        self.held_until = -inf
        for process in self.processes:
            process.owed.clear()
            process.reads_until = -inf  # two may read until the older leader syncs

    @rule(number=numbers)
    def syncs(self, number: int) -> None:
        self.reads(number)
        process = self.processes[number]
        report = process.next_report()
        self.take(process, self.apply(process, process.cursor, report))

    @rule(number=numbers, outcome=st.sampled_from(["never sent", "lost", "cancelled"]))
    def fails_to_sync(self, number: int, outcome: str) -> None:
        process = self.processes[number]
        report = process.next_report()
        if outcome != "never sent":
            self.apply(process, process.cursor, report)
        if outcome != "cancelled":
            process.on_failure()

    @rule(number=numbers, between=numbers)
    def syncs_twice_with_another_between(self, number: int, between: int) -> None:
        process = self.processes[number]
        report, cursor = process.next_report(), process.cursor
        self.apply(process, cursor, report)
        if between != number:
            self.syncs(between)
        self.take(process, self.apply(process, cursor, report))

    # Syncs with the ledger.

    def apply(
        self, process: Process, cursor: PollCursor, report: PollReport
    ) -> tuple[PollCursor, PollUpdate]:
        holds = process is self.holder and self.now < self.held_until
        self.text, result = apply_sync(self.text, cursor, report, self.now)
        again = apply_sync(self.text, cursor, report, self.now)
        assert again == (self.text, result), "repeating it has no further effect"
        update = result[1]
        self.note_declared(process, report, update)
        reads = {seen.row["read"]: seen.row["id"] for seen in report.seen}
        if update.is_new_lead or not holds:
            self.invalid |= reads.keys() - self.valid
        elif result[0].report_number not in self.received.setdefault(
            process.name, set()
        ):
            self.valid |= reads.keys()
            self.note_owed(process, reads)
        self.received.setdefault(process.name, set()).add(cursor.report_number)
        if update.leads_for > 0:
            self.holder = process
            self.held_until = self.now + update.leads_for + LEAD_MARGIN
        elif holds:
            self.held_until = -inf
        return result

    def note_declared(
        self, process: Process, report: PollReport, update: PollUpdate
    ) -> None:
        added = {track.id for track in report.added}
        kept = self.declared.get(process.name, set()) - set(report.dropped)
        if report.is_complete or update.must_declare:
            kept = set()
        self.declared[process.name] = kept | added
        members = json.loads((self.text or "").split("\n")[0])["members"]
        self.declared = {n: d for n, d in self.declared.items() if n in members}

    def note_owed(self, process: Process, reads: dict[int, str]) -> None:
        for other in self.processes:
            waits_for = self.declared.get(other.name, set()) & (other.declared or set())
            for read, track in reads.items():
                if other is not process and track in waits_for:
                    other.owed[read] = track

    def take(self, process: Process, result: tuple[PollCursor, PollUpdate]) -> None:
        process.cursor, update = result
        received = {seen.row["read"] for seen in update.seen}
        assert not received & self.invalid
        assert (
            update.must_declare
            or process.declared is None
            or process.owed.keys() <= received
        )
        process.owed.clear()
        process.on_update(update, self.now)
        if update.leads_for > 0:
            others = (d for n, d in self.declared.items() if n != process.name)
            assert process.others == set().union(*others)

    # Invariants.

    def leads(self, process: Process) -> bool:
        return process.leads_since <= self.now < process.reads_until

    @invariant()
    def at_most_one_leads(self) -> None:
        assert sum(self.leads(process) for process in self.processes) <= 1

    @invariant()
    def the_text_survives_a_round_trip(self) -> None:
        if self.text is not None and self.text.startswith("{"):
            ledger = PollLedger.from_state(self.text)
            ledger._tracks  # noqa: B018 - so that they are written again
            ledger._mark_changed()
            assert ledger.to_state() == self.text

    def teardown(self) -> None:
        """Once all sync for a while, each knows the last state of what it waits for."""
        for _ in range(12):
            for number in range(PROCESSES):
                self.syncs(number)
            self.now += PAUSE
        for process in self.processes:
            for track in process.wants:
                assert process.known.get(track) == self.truth[track]


TestLedgers = Ledgers.TestCase
TestLedgers.settings = settings(max_examples=40, stateful_step_count=40)


def joined(name: str, text: str | None, *ids: str) -> tuple[str, PollCursor]:
    report = PollReport(
        added=[WatchedTrack(id=i, kind="music") for i in ids], is_complete=True
    )
    text, (cursor, _) = apply_sync(
        text, PollCursor(process=name, report_number=1), report, 0
    )
    return text, cursor


def sync_next(
    text: str, cursor: PollCursor, report: PollReport, now: float
) -> tuple[str, PollCursor, PollUpdate]:
    cursor = attrs.evolve(cursor, report_number=cursor.report_number + 1)
    text, (cursor, update) = apply_sync(text, cursor, report, now)
    return text, cursor, update


def test_a_sync_without_content_writes_nothing() -> None:
    text, leader = joined("leader", None, "a")
    text, other = joined("other", text, "a")
    for step in range(1, 60):
        before, now = text, step * 0.5
        text, leader, _ = sync_next(text, leader, PollReport(), now)
        assert (text != before) == (now % 1.0 == 0), "the lead is renewed each second"
        before = text
        text, other, _ = sync_next(text, other, PollReport(), now)
        assert (text != before) == (now % 10.0 == 0), (
            "its presence is renewed every ten seconds"
        )


def test_a_process_that_missed_events_has_to_declare_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_poll_ledger, "MAX_EVENTS", 3)
    text, first = joined("first", None, "a")
    text, second = joined("second", text, "a")
    for number, is_kept in ((3, True), (4, False)):
        hints = PollReport(hints=[str(n) for n in range(number)])
        text, first, _ = sync_next(text, first, hints, 1)
        text, second, update = sync_next(text, second, PollReport(), 1)
        assert update.must_declare is not is_kept
        assert len(update.hints) == (number if is_kept else 0)


def test_a_thousand_tracks_for_forty_processes_stay_small() -> None:
    ids = [f"3f2b8c1e-0000-4000-8000-{n:012d}" for n in range(1000)]
    text = None
    for number in range(40):
        text, _ = joined(f"{number:020x}", text, *ids)
    assert text is not None
    assert len(text) < 130_000


def seen_by(*ids: str) -> PollReport:
    return PollReport(seen=[ObservedState(kind="music", row={"id": i}) for i in ids])


def test_a_complete_declaration_replaces_the_one_before() -> None:
    text, leader = joined("leader", None)
    text, other = joined("other", text, "a", "b")
    text, leader, _ = sync_next(text, leader, PollReport(), 1)
    again = PollReport(added=[WatchedTrack(id="b", kind="music")], is_complete=True)
    text, other, _ = sync_next(text, other, again, 1)
    _, _, update = sync_next(text, leader, PollReport(), 1)
    assert [track.id for track in update.others or ()] == ["b"]


def test_a_process_that_joins_twice_receives_the_events_in_between() -> None:
    text, leader = joined("leader", None)
    text, _ = joined("other", text, "a")
    text, leader, _ = sync_next(text, leader, seen_by("a"), 0)
    wanted = [WatchedTrack(id="a", kind="music")]
    report = PollReport(added=wanted, is_complete=True)
    _, (_, update) = apply_sync(
        text, PollCursor(process="other", report_number=1), report, now=0
    )
    assert [seen.row["id"] for seen in update.seen] == ["a"]


def test_the_leader_learns_that_a_process_died_and_keeps_the_lead() -> None:
    text, leader = joined("leader", None)
    text, _ = joined("other", text, "a")
    others = []
    for step in range(1, 2 * int(MEMBER_TTL) + 2):
        text, leader, update = sync_next(text, leader, PollReport(), step * 0.5)
        assert update.leads_for > 0
        if update.others is not None:
            others.append([track.id for track in update.others])
    assert others == [["a"], []]


def test_a_process_does_not_receive_its_own_events() -> None:
    text, leader = joined("leader", None, "a")
    text, other = joined("other", text, "a")
    text, leader, update = sync_next(text, leader, seen_by("a"), 1)
    assert not update.seen
    text, leader, update = sync_next(text, leader, PollReport(hints=["b"]), 1)
    assert not update.hints
    _, _, update = sync_next(text, other, PollReport(), 1)
    assert (len(update.seen), update.hints) == (1, ["b"])


def test_a_process_that_missed_events_waits_for_nothing_until_it_declares() -> None:
    text, leader = joined("leader", None)
    text, other = joined("other", text, "a")
    text, leader, _ = sync_next(text, leader, seen_by("a"), 1)
    text, leader, _ = sync_next(text, leader, PollReport(), 1 + EVENT_TTL - LEAD_TTL)
    text, leader, _ = sync_next(text, leader, PollReport(), 1 + EVENT_TTL)
    text, other, update = sync_next(text, other, PollReport(), 1 + EVENT_TTL)
    assert update.must_declare
    _, _, update = sync_next(text, leader, PollReport(), 1 + EVENT_TTL)
    assert update.others == []


def test_a_leader_that_comes_back_when_its_lease_ends_leads_anew() -> None:
    text, leader = joined("leader", None)
    _, _, update = sync_next(text, leader, PollReport(), LEAD_TTL - 0.125)
    assert not update.is_new_lead
    _, _, update = sync_next(text, leader, PollReport(), LEAD_TTL)
    assert update.is_new_lead
    assert 0 < update.leads_for < LEAD_TTL, "it stops before the next one may begin"
