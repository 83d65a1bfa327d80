"""The journal's rules under a crash at every commit, against a small model service.

The runner here does one thing at a time, and may die between any two: after an intent
and before the POST, while the POST is in flight (the service may accept it minutes
later), after the response and before its commit. It decides with the real `step`,
`match`, `verdict` and `CreditBaseline`.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from hypothesis import Phase, settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from finetuning_async import GenerationRequest
from finetuning_async.journal._credit_check import (
    CreditBaseline,
    CreditReading,
    Observation,
    PossibleCharge,
)
from finetuning_async.journal._matching import (
    SETTLE,
    AbsenceEvidence,
    ListedRow,
    match,
    verdict,
)
from finetuning_async.journal._reconciler import doubt_of
from finetuning_async.journal._records import Item, ItemFactory, Row
from finetuning_async.journal._state_machine import (
    Absent,
    Accepted,
    Ended,
    Event,
    Found,
    Held,
    Lost,
    NotSent,
    Released,
    Restarted,
    Saved,
    Sending,
    step,
)
from tests.journal._journal_stores import opener

if TYPE_CHECKING:
    from collections.abc import Callable

    from finetuning_async.journal._store import JournalStore

LATEST = SETTLE - 10
"""Seconds after which the model service commits nothing any more."""


@attrs.define
class Track:
    """A track of the model service; listed as soon as it is created."""

    id: str
    seq: int
    seed: int
    prompt: str
    created_at: float


@attrs.define
class Post:
    """A create in flight.

    Attributes:
        seed: The seed it carries.
        outcome: ``accept``, ``refuse`` or ``nothing``: what the service does with it.
        commits_at: When the service does it.
        is_answered: Whether the response reaches the runner.
    """

    seed: int
    outcome: str
    commits_at: float
    is_answered: bool


class Crashes(RuleBasedStateMachine):
    """A runner that crashes now and then.

    Args:
        open_store: Opens an empty journal.
    """

    def __init__(self, open_store: Callable[[], JournalStore]) -> None:
        super().__init__()
        self.open = open_store

    @initialize(count=st.integers(1, 6), shared=st.booleans())
    def begin(self, count: int, shared: bool) -> None:
        self.store = self.open()
        factory = ItemFactory()
        self.store.add(
            factory.item(
                Row(request=GenerationRequest(f"{n % 3}", seed=7 if shared else None))
            )
            for n in range(count)
        )
        self.shared = shared
        self.now = 1_000_000.0
        self.credits = 1000
        self.seeds = 0
        self.tracks: list[Track] = []
        self.in_flight: list[tuple[int, Post]] = []
        self.posts: dict[int, Post] = {}
        self.baseline = CreditBaseline()
        self.read_credits()

    # The service.

    def settle_posts(self) -> None:
        for seq, post in list(self.in_flight):
            if post.commits_at <= self.now:
                self.in_flight.remove((seq, post))
                if post.outcome == "accept":
                    self.accept(seq, post)

    def accept(self, seq: int, post: Post) -> None:
        self.credits -= 1
        prompt = self.item(seq).request.prompt
        track_id = f"t{len(self.tracks)}"
        self.tracks.append(Track(track_id, seq, post.seed, prompt, self.now))

    # The runner.

    def item(self, seq: int) -> Item:
        return next(item for item in self.store.rows() if item.seq == seq)

    def items(self, *states: Any) -> list[Item]:
        return list(self.store.rows(*states))

    def record(self, item: Item, event: Event) -> Item:
        entry, _ = step(item.entry, event)
        return self.store.record(item, entry)

    def read_credits(self) -> None:
        summary = self.store.summary()
        left = CreditReading(
            credits=self.credits, accepts=summary.accepts, fails=summary.fails
        )
        self.now += 0.001  # no two readings are taken at once
        doubts = map(self.possible_charge, self.items("sending", "unknown", "held"))
        planned = {(item.seq, item.entry.accepts) for item in self.items("planned")}
        self.baseline = self.baseline.observe(
            Observation(
                reading=left,
                at=self.now,
                doubts=tuple(doubts),
                dropped=frozenset(planned),
            )
        )

    def possible_charge(self, item: Item) -> PossibleCharge:
        entry, is_sending = item.entry, item.entry.state == "sending"
        return PossibleCharge(
            key=(item.seq, entry.accepts),
            sent_at=entry.sent_at or 0.0,
            until=inf if is_sending else (entry.lost_at or 0.0) + SETTLE,
        )

    def may_send(self, item: Item) -> bool:
        """Whether no lookalike of an item is in flight or in doubt."""
        return not self.shared or not any(
            other.request.prompt == item.request.prompt
            for other in self.items("sending", "unknown")
        )

    def sendable(self) -> list[Item]:
        return [item for item in self.items("planned") if self.may_send(item)]

    @precondition(lambda self: self.sendable())
    @rule()
    def record_intent(self) -> None:
        item = self.sendable()[0]
        self.seeds += 1
        seed = 7 if self.shared else item.entry.seed or 100 + self.seeds
        self.record(item, Sending(seed, self.now))

    def unsent(self) -> list[Item]:
        return [item for item in self.items("sending") if item.seq not in self.posts]

    @precondition(lambda self: self.unsent())
    @rule(
        outcome=st.sampled_from(["accept", "accept", "refuse", "nothing"]),
        delay=st.sampled_from([0.0, 0.0, 1.0, LATEST]),
        is_answered=st.booleans(),
    )
    def post(self, outcome: str, delay: float, is_answered: bool) -> None:
        item = self.unsent()[0]
        if outcome == "nothing" or delay == LATEST:
            is_answered = False
        post = Post(item.entry.seed or 0, outcome, self.now + delay, is_answered)
        self.posts[item.seq] = post
        self.in_flight.append((item.seq, post))
        self.settle_posts()

    @precondition(lambda self: self.posts)
    @rule()
    def receive(self) -> None:
        seq = next(iter(self.posts))
        post = self.posts.pop(seq)
        self.now = max(self.now, post.commits_at if post.is_answered else self.now + 1)
        before = len(self.tracks)
        self.settle_posts()
        item = self.item(seq)
        if not post.is_answered:
            self.record(item, Lost(self.now, "no response"))
        elif post.outcome == "accept":
            found = [t for t in self.tracks if t.seq == seq]
            assert found, before
            self.record(item, Accepted(found[-1].id))
        else:
            self.record(item, NotSent())

    @rule()
    def crash(self) -> None:
        self.posts.clear()
        for item in self.store.pending():
            self.record(item, Restarted(self.now))
        self.look()

    @rule(seconds=st.sampled_from([1.0, 60.0, SETTLE]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.settle_posts()

    @rule()
    def look(self) -> None:
        doubts = self.items("unknown", "held")
        taken = self.store.tracks()
        rivals = self.items("sending")
        seen = [
            ListedRow(
                id=t.id,
                kind="music",
                prompt=t.prompt,
                seed=t.seed,
                created_at=float(int(t.created_at)),
            )
            for t in self.tracks
        ]
        found = match(map(doubt_of, [*doubts, *rivals]), seen, taken)
        for item in doubts:
            if item.seq in found:
                self.record(item, Found(found[item.seq]))
        self.read_credits()
        for item in self.items("unknown"):
            self.judge(item, seen)

    def judge(self, item: Item, seen: list[ListedRow]) -> None:
        lost_at = item.entry.lost_at or self.now
        ours = self.store.tracks()
        decision = verdict(
            AbsenceEvidence(
                age=self.now - lost_at,
                settle=SETTLE,
                later_is_listed=any(
                    row.id in ours and (row.created_at or 0) > lost_at for row in seen
                ),
                seeds_are_echoed=True,
                no_charge=self.baseline.rules_out_charge(self.possible_charge(item)),
                read_ago=self.baseline.read_ago(self.now),
                more_to_come=bool(self.sendable() or self.items("sending")),
            )
        )
        if decision == "absent":
            self.record(item, Absent())
        elif decision != "wait":
            self.record(item, Held(decision))

    @precondition(lambda self: self.items("accepted", "completed"))
    @rule()
    def complete(self) -> None:
        item = self.items("accepted", "completed")[0]
        is_running = item.entry.state == "accepted"
        self.record(item, Ended(failed=False) if is_running else Saved())

    # What must hold.

    @invariant()
    def nothing_is_paid_twice(self) -> None:
        for item in self.items():
            made = sum(track.seq == item.seq for track in self.tracks)
            if not self.shared:
                assert made <= 1, item
        accepts = self.store.summary().accepts
        in_doubt = len(self.items("sending", "unknown", "held"))
        assert accepts <= len(self.tracks) <= accepts + in_doubt
        assert 1000 - self.credits == len(self.tracks)

    @invariant()
    def no_track_has_two_owners(self) -> None:
        ids = [i.entry.track_id for i in self.items() if i.entry.track_id]
        assert len(ids) == len(set(ids))
        prompts = {track.id: track.prompt for track in self.tracks}
        for item in self.items("accepted", "completed", "downloaded"):
            assert prompts[str(item.entry.track_id)] == item.request.prompt

    def teardown(self) -> None:
        """Finish: every item ends once, and a person releases what is held."""
        if not hasattr(self, "store"):
            return
        for _ in range(200):
            if len(self.items("downloaded")) == self.store.summary().total:
                break
            self.work_on()
        assert len(self.items("downloaded")) == self.store.summary().total
        self.nothing_is_paid_twice()
        assert self.store.summary().accepts == len(self.tracks)

    def work_on(self) -> None:
        self.crash()
        for item in self.items("held"):
            self.now += SETTLE
            self.settle_posts()
            self.record(item, Released())
        if self.sendable():
            self.record_intent()
        if self.unsent():
            self.post("accept", 0.0, is_answered=True)
            self.receive()
        while self.items("accepted", "completed"):
            self.complete()
        self.now += 60
        self.settle_posts()
        self.look()


@pytest.mark.parametrize(
    ("kind", "examples"),
    [
        ("memory", 50),
        ("sqlite", 5),
        ("postgres", 5),
    ],
)
def test_no_crash_pays_twice_or_loses_an_item(
    request: pytest.FixtureRequest, kind: str, examples: int
) -> None:
    opened: list[JournalStore] = []

    def open_store() -> JournalStore:
        while opened:
            opened.pop().close()
        opened.append(opener(kind, request)())
        return opened[-1]

    run_state_machine_as_test(
        lambda: Crashes(open_store),  # type: ignore[arg-type] # it is only called
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            phases=[Phase.generate, *([Phase.shrink] if kind == "memory" else [])],
        ),
    )
    while opened:
        opened.pop().close()
