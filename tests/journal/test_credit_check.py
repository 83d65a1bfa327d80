"""What readings of the credits say about creates in doubt."""

from __future__ import annotations

from math import inf
from typing import Any

import attrs
import pytest
from hypothesis import given, settings, strategies as st

from finetuning_async.journal._credit_check import (
    SLACK,
    CreditBaseline,
    CreditReading,
    Observation,
    PossibleCharge,
    Span,
)


def reading(credits: int, accepts: int = 0, fails: int = 0) -> CreditReading:
    return CreditReading(credits=credits, accepts=accepts, fails=fails)


def doubted(seq: int, sent_at: float, until: float = inf) -> PossibleCharge:
    """A create in doubt; in flight without `until`."""
    return PossibleCharge(key=(seq, 0), sent_at=sent_at, until=until)


def observed(*readings: tuple[float, CreditReading, Any]) -> CreditBaseline:
    """What readings say: when each was taken, and what was in doubt then."""
    known = CreditBaseline()
    for at, one, doubts in readings:
        known = known.observe(Observation(reading=one, at=at, doubts=tuple(doubts)))
    return known


def test_readings_are_equal_from_the_first_after_a_moment_to_the_last() -> None:
    once = (100.0, reading(9), ())
    assert observed(once).unchanged_for(since=0.0) == 0.0
    more = once, (160.0, reading(9), ()), (400.0, reading(9), ())
    twice = observed(*more)
    assert twice.unchanged_for(since=100.0) == 300.0
    assert twice.unchanged_for(since=101.0) == 240.0
    assert twice.unchanged_for(since=401.0) == 0.0
    for other in (reading(8), reading(8, accepts=1)):
        assert observed(*more, (500.0, other, ())).unchanged_for(since=0.0) == 0.0
    assert CreditBaseline.from_json(twice.to_json()) == twice


def test_a_reading_clears_what_was_sent_from_its_span_on_with_some_slack() -> None:
    span = Span(since=100.0, last=reading(9), at=160.0)
    assert span.clears(doubted(1, sent_at=100.0 - SLACK))
    assert not span.clears(doubted(1, sent_at=99.9 - SLACK))
    known = observed((100.0, reading(9), ()))
    assert known.covers(100.0 - SLACK)
    assert not known.covers(99.9 - SLACK)


def test_the_age_of_the_last_reading_is_known_if_there_is_one() -> None:
    known = observed((100.0, reading(9), ()), (160.0, reading(8, accepts=1), ()))
    assert known.read_ago(190.0) == 30.0
    assert CreditBaseline().read_ago(190.0) == inf


def test_a_note_of_an_older_version_is_one_span() -> None:
    assert CreditBaseline.from_json(None) == CreditBaseline()
    empty = '{"base": null, "refunds": true}'
    assert CreditBaseline.from_json(empty) == CreditBaseline(refunds=True)
    base = '{"credits": 9, "accepts": 3, "fails": 0}'
    note = f'{{"base": {base}, "refunds": null, "seen": [50, 400], "since": 20}}'
    known = CreditBaseline.from_json(note)
    assert known.rules_out_charge(doubted(1, sent_at=20.0, until=400.0))
    assert known.rules_out_charge(doubted(1, sent_at=10.0, until=400.0)) is None
    assert known.unchanged_for(0.0) == 350.0
    endless = note.replace('"since": 20', '"since": Infinity')
    assert CreditBaseline.from_json(endless).spans == ()


def test_credits_prove_nothing_for_what_was_sent_before_their_first_reading() -> None:
    doubt = doubted(1, sent_at=100.0, until=450.0)
    assert CreditBaseline().rules_out_charge(doubt) is None
    first = (100.0, reading(9), ())
    assert observed(first).rules_out_charge(doubt) is None  # it may still be charged
    # Nothing but an accepted track was charged: the readings are one span.
    known = observed(first, (450.0, reading(8, accepts=1), (doubt,)))
    assert known.rules_out_charge(doubt)
    assert known.rules_out_charge(doubted(2, sent_at=90.0, until=450.0)) is None
    assert known.rules_out_charge(doubted(3, sent_at=100.0, until=451.0)) is None
    # Later charges are not its own.
    known = observed(
        first, (450.0, reading(8, 1), (doubt,)), (500.0, reading(7, 1), (doubt,))
    )
    assert known.rules_out_charge(doubt)


def test_a_charge_shows_until_it_is_explained() -> None:
    charged, other = doubted(1, 110.0, 450.0), doubted(2, 120.0, 460.0)
    both = (charged, other)
    shown = ((100.0, reading(9), ()), (470.0, reading(8), both))
    known = observed(*shown)
    assert known.rules_out_charge(charged) is known.rules_out_charge(other) is False
    assert known.rules_out_charge(doubted(3, 475.0, 800.0)) is None
    # What is sent later is compared with that reading.
    later = observed(*shown, (800.0, reading(8), (*both, doubted(3, 475.0, 800.0))))
    assert later.rules_out_charge(doubted(3, 475.0, 800.0))
    # The track of the one is found: so that charge was not the other's.
    found = observed(*shown, (500.0, reading(8, accepts=1), (other,)))
    assert found.rules_out_charge(other)
    assert CreditBaseline.from_json(known.to_json()) == known


def test_a_charge_may_be_that_of_what_the_service_accepted_or_got_at_that_time() -> (
    None
):
    doubts = (doubted(1, 110.0, 300.0), doubted(2, 120.0, 900.0))
    readings = (
        (100.0, reading(9, accepts=1), ()),
        (200.0, reading(9, accepts=1, fails=1), doubts),  # a refund may hide a charge
        (300.0, reading(9, accepts=1, fails=1), doubts),
        (500.0, reading(8, accepts=1, fails=1), doubts),
    )
    known = observed(*readings)
    ended, later = doubts
    assert known.rules_out_charge(ended) is None  # it was over at the reading before
    assert known.rules_out_charge(later) is False
    # The service's time may be known too late.
    assert known.rules_out_charge(doubted(3, 499.0 + SLACK, 900.0)) is False
    assert known.rules_out_charge(doubted(3, 500.0 + SLACK, 900.0)) is None


def test_a_reading_beside_a_create_in_flight_counts_if_nothing_was_charged() -> None:
    doubt, flying = doubted(1, 110.0, 450.0), doubted(2, 440.0)
    first = (100.0, reading(9), ())
    assert observed((100.0, reading(9), (flying,))) == CreditBaseline()
    beside = observed(first, (460.0, reading(9), (doubt, flying)))
    assert beside.rules_out_charge(doubt)
    # It was charged, or else the create in doubt: the next reading will show that.
    charged = observed(first, (460.0, reading(8), (doubt, flying)))
    assert charged.rules_out_charge(doubt) is None
    accepted = (470.0, reading(8, accepts=1), (doubt,))
    after = observed(first, (460.0, reading(8), (doubt, flying)), accepted)
    assert after.rules_out_charge(doubt)


def test_a_create_charged_before_a_span_hides_no_charge_when_it_is_found() -> None:
    held, doubt = doubted(1, 50.0, 90.0), doubted(2, 110.0, 450.0)
    first = (100.0, reading(8), (held,))  # it may have been charged
    hidden = observed(first, (460.0, reading(7, accepts=1), (doubt,)))
    assert hidden.rules_out_charge(doubt) is None
    counted = observed(first, (460.0, reading(8, accepts=1), (doubt,)))
    assert counted.rules_out_charge(doubt)
    key = frozenset({held.key})
    both = Observation(reading=reading(8), at=460.0, doubts=(doubt,), dropped=key)
    dropped = observed(first).observe(both)
    assert dropped.rules_out_charge(doubt)


def test_a_refund_may_hide_a_charge() -> None:
    doubt, later = doubted(1, 110.0, 450.0), doubted(2, 480.0, 800.0)
    first = (100.0, reading(100), ())
    known = observed(first, (460.0, reading(97, accepts=3, fails=1), (doubt,)))
    assert known.refunds is None
    assert known.rules_out_charge(doubt) is None
    refunded = observed(first, (460.0, reading(98, accepts=3, fails=1), (doubt,)))
    assert refunded.refunds is True
    assert refunded.rules_out_charge(doubt)
    charged = observed(first, (460.0, reading(96, accepts=3, fails=1), (doubt,)))
    assert charged.rules_out_charge(doubt) is False
    # One charge cannot hide two refunds.
    two = observed(first, (460.0, reading(97, accepts=3, fails=2), (doubt,)))
    assert two.refunds is False
    assert two.rules_out_charge(doubt)
    # What is sent after the failure does not depend on it.
    after = observed(
        first,
        (460.0, reading(97, accepts=3, fails=1), (doubt,)),
        (801.0, reading(95, accepts=5, fails=1), (doubt, later)),
    )
    assert after.refunds is None
    assert after.rules_out_charge(doubt) is None
    assert after.rules_out_charge(later)
    assert CreditBaseline.from_json(after.to_json()) == after


def test_a_create_in_flight_at_the_first_reading_of_a_span_is_not_cleared_by_it() -> (
    None
):
    flying, lost = doubted(1, 458.0), doubted(1, 458.0, 770.0)
    known = observed(
        (100.0, reading(100), ()),
        (460.0, reading(97, accepts=3, fails=1), (flying,)),
        (800.0, reading(97, accepts=3, fails=1), (lost,)),
    )
    # It may have been charged by then, and the failure been refunded.
    assert known.refunds is None
    assert known.rules_out_charge(lost) is None


def test_what_else_changes_the_balance_proves_nothing() -> None:
    doubt = doubted(1, 110.0, 450.0)
    first = (100.0, reading(9, accepts=3, fails=1), ())
    known = attrs.evolve(observed(first), refunds=False)
    for other in (reading(12, 3, 1), reading(9, 3, 0)):
        after = known.observe(Observation(reading=other, at=460.0, doubts=(doubt,)))
        assert after.rules_out_charge(doubt) is False
    spent = [(100.0 * n, reading(100 - n), (doubt,)) for n in range(1, 40)]
    assert len(observed(first, *spent).spans) == 2  # and not one for each reading


def test_a_charge_of_a_create_that_is_found_meanwhile_is_not_that_of_another() -> None:
    found, other = doubted(1, 110.0, 450.0), doubted(2, 120.0, 455.0)
    seen = Observation(reading=reading(8), at=460.0, doubts=(found, other), late=1)
    known = observed((100.0, reading(9), ())).observe(seen)
    assert known.rules_out_charge(other) is None
    later = Observation(reading=reading(8, accepts=1), at=490.0, doubts=(other,))
    assert known.observe(later).rules_out_charge(other)


def test_a_create_that_was_charged_before_a_span_teaches_no_refund() -> None:
    held, doubt = doubted(1, 50.0, 90.0), doubted(2, 470.0, 790.0)
    known = observed(
        (100.0, reading(8), (held,)), (460.0, reading(8, accepts=1, fails=1), ())
    )
    assert known.refunds is None
    found = (100.0, reading(8), (held,)), (460.0, reading(8, accepts=1), ())
    later = observed(*found, (800.0, reading(8, accepts=1), (doubt,)))
    assert later.rules_out_charge(doubt)  # it is counted once


@pytest.mark.parametrize("refunds", [False, True])
def test_refunds_are_learned_beside_creates_that_are_accepted_no_more(
    refunds: bool,
) -> None:
    one, two = doubted(1, 110.0, 450.0), doubted(2, 120.0, 460.0)
    seen = (
        (100.0, reading(100), ()),
        (460.0, reading(97, accepts=3, fails=1), (one, two)),
    )
    then = reading(95 + refunds, accepts=5, fails=2)
    known = observed(*seen, (500.0, then, (one, two)))
    assert known.refunds is refunds
    # If failures are refunded, that of the first one has hidden a charge.
    assert known.rules_out_charge(one) is not refunds
    open_still = attrs.evolve(one, until=470.0)  # it could be charged in between
    unsure = observed(*seen, (500.0, then, (open_still, two)))
    assert unsure.refunds is (True if refunds else None)


def test_a_reading_that_another_process_took_earlier_changes_nothing() -> None:
    known = observed((100.0, reading(9), ()), (200.0, reading(8, accepts=1), ()))
    assert known.observe(Observation(reading=reading(9), at=150.0)) == known
    again = Observation(reading=reading(8, accepts=1), at=200.0)
    assert known.observe(again) == known


SETTLED = 300.0
"""Seconds after which the account accepts nothing more that was given up."""


@attrs.define
class LostCreate:
    """A create of the account: when it was sent, given up, and charged, if it was."""

    seq: int
    sent_at: float
    charged_at: float
    lost_at: float = inf

    def is_over(self, now: float) -> bool:
        """Whether it was refused in flight, or given up so long ago."""
        return self.lost_at == inf or self.lost_at + SETTLED <= now

    @property
    def possible(self) -> PossibleCharge:
        return doubted(self.seq, self.sent_at, self.lost_at + SETTLED)


@attrs.define
class Account:
    """An account, and the creates that its journal does not know the outcome of."""

    refunds: bool
    now: float = 1000.0
    accepts: int = 0
    fails: int = 0
    sent: int = 0
    doubts: list[LostCreate] = attrs.Factory(list)
    absent: set[Any] = attrs.Factory(set)
    known: CreditBaseline = attrs.Factory(CreditBaseline)

    def send(self, charged_after: float) -> None:
        self.sent += 1
        self.doubts.append(LostCreate(self.sent, self.now, self.now + charged_after))

    def lose(self, which: int) -> None:
        flying = [doubt for doubt in self.doubts if doubt.lost_at == inf]
        if flying:
            flying[which % len(flying)].lost_at = self.now

    def resolve(self, which: int) -> None:
        """Accept or find what was charged, or drop what was refused or is absent."""
        if not self.doubts:
            return
        doubt = self.doubts[which % len(self.doubts)]
        if doubt.charged_at <= self.now:
            self.accepts += 1
        elif (
            doubt.charged_at == inf and not 0 < doubt.lost_at + SETTLED - self.now < inf
        ):
            self.absent.add(doubt.possible.key)
        else:
            return
        self.doubts.remove(doubt)

    def create(self) -> None:
        self.accepts += 1

    def fail(self) -> None:
        self.fails += self.fails < self.accepts

    def look(self) -> None:
        charged = sum(doubt.charged_at <= self.now for doubt in self.doubts)
        left = 1000 - self.accepts - charged + self.refunds * self.fails
        doubts = tuple(doubt.possible for doubt in self.doubts)
        seen = Observation(
            reading=reading(left, self.accepts, self.fails),
            at=self.now,
            doubts=doubts,
            dropped=frozenset(self.absent),
        )
        self.known = CreditBaseline.from_json(self.known.observe(seen).to_json())
        assert self.known.refunds in (None, self.refunds)
        for doubt in self.doubts:
            if self.known.rules_out_charge(doubt.possible):
                assert doubt.charged_at == inf, doubt


STEPS = st.sampled_from(
    [
        ("create", None),
        ("fail", None),
        *[("look", None)] * 4,
        ("send", inf),
        *[
            ("send and lose", charged_after)
            for charged_after in (inf, 0.0, 10.0, 150.0)
        ],
        ("lose", 0),
        ("resolve", 0),
        ("resolve", 1),
        ("pass", 30.0),
        *[("pass", SETTLED)] * 2,
    ]
)


@given(refunds=st.booleans(), steps=st.lists(STEPS, max_size=60))
@settings(max_examples=150)
def test_no_reading_rules_out_a_charge_that_there_was(
    refunds: bool, steps: list[tuple[str, Any]]
) -> None:
    account = Account(refunds)
    account.look()
    for name, value in steps:
        if name == "pass":
            account.now += value
        elif name == "send and lose":
            account.send(value)
            account.lose(-1)
        elif value is None:
            getattr(account, name)()
            account.now += 0.001  # no two things happen at once
        else:
            getattr(account, name)(value)
