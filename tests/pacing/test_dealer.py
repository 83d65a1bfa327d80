"""Whose turn it is: fairness between priorities and shares, whatever comes and goes."""

from __future__ import annotations

import json
from collections import Counter
from math import inf
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings, strategies as st

from finetuning_async._pacing._dealer import Dealer
from finetuning_async._pacing._fair_queue import FairQueue, surely_ahead
from finetuning_async._pacing._queue_protocols import Terms
from finetuning_async._pacing._wait_queue import QueuedRequest, goes_before

if TYPE_CHECKING:
    from collections.abc import Iterable

HIGH, NORMAL, LOW = range(3)

waiting = st.sets(st.sampled_from([HIGH, NORMAL, LOW]), min_size=1).map(sorted)
shares = st.sampled_from([None, "a", "b", "c"])


class Request:
    """The least that a queue needs of a request."""

    arrivals = 0

    def __init__(
        self, rank: int = NORMAL, share: str | None = None, *, again: bool = False
    ) -> None:
        Request.arrivals += 1
        self.rank, self.share, self.is_repetition = rank, share, again
        self.arrival, self.is_queued = Request.arrivals, False

    def __repr__(self) -> str:
        return f"{self.rank}{self.share}{self.arrival}"


def queue_of(requests: Iterable[Request]) -> FairQueue[Request]:
    queue: FairQueue[Request] = FairQueue()
    for request in requests:
        queue.add(request)
    return queue


def deal_all(queue: FairQueue[Request]) -> list[Request]:
    dealt = []
    while (head := queue.head()) is not None:
        queue.deal(head)
        dealt.append(head)
    return dealt


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.sampled_from([HIGH, NORMAL, LOW]), shares), max_size=30),
    st.sampled_from([HIGH, NORMAL, LOW]),
    shares,
    st.integers(0, 5),
)
def test_as_many_go_before_the_last_of_several_that_join_as_was_said(
    others: list[tuple[int, str | None]], rank: int, share: str | None, joined: int
) -> None:
    queue = queue_of(Request(*other) for other in others)
    said = queue.ahead_of(rank, share, joined)
    mine = [Request(rank, share) for _ in range(joined + 1)]
    for each in mine:
        queue.add(each)
    assert deal_all(queue).index(mine[-1]) == said


# Between the priorities.


def test_with_all_three_waiting_eight_one_and_one_of_ten_go() -> None:
    dealer, dealt = Dealer(), []
    for _ in range(1000):
        dealt.append(dealer.next_rank([HIGH, NORMAL, LOW]))
        dealer.on_dealt(dealt[-1], None, [HIGH, NORMAL, LOW])
    assert dealt[:10] == [HIGH] * 8 + [NORMAL, LOW]
    for start in range(len(dealt) - 9):
        assert Counter(dealt[start : start + 10]) == {HIGH: 8, NORMAL: 1, LOW: 1}


@given(st.lists(waiting, min_size=30, max_size=300))
def test_a_priority_that_waits_is_passed_over_nine_times_at_most(
    moments: list[list[int]],
) -> None:
    dealer, passed_over = Dealer(), Counter[int]()
    for ranks in moments:
        rank = dealer.next_rank(ranks)
        assert rank in ranks
        dealer.on_dealt(rank, None, ranks)
        for each in (HIGH, NORMAL, LOW):
            is_passed_over = each in ranks and each != rank
            passed_over[each] = passed_over[each] + 1 if is_passed_over else 0
        assert max(passed_over.values()) <= 9


@given(st.lists(waiting, max_size=100))
def test_a_lower_priority_gets_no_more_than_its_tenth(
    moments: list[list[int]],
) -> None:
    dealer, lower = Dealer(), 0
    for ranks in moments:
        rank = dealer.next_rank(ranks)
        dealer.on_dealt(rank, None, ranks)
        lower += rank != ranks[0]
    assert lower <= len(moments) / 4.5  # two lower ones, each after 8 others at least


# Between the shares.


def test_shares_have_one_turn_each_however_many_requests_they_have() -> None:
    many = [Request(share="many") for _ in range(500)]
    few = [Request(share=f"few {n}") for _ in range(5) for n in range(9)]
    dealt = [request.share for request in deal_all(queue_of(many + few))]
    for start in range(0, 50, 10):
        assert len(set(dealt[start : start + 10])) == 10
    assert dealt[50:] == ["many"] * 495


def test_one_that_begins_to_wait_joins_the_turn_under_way() -> None:
    queue = queue_of([Request(share=name) for name in "aabb"])
    first = queue.head()
    assert first is not None
    queue.deal(first)
    queue.add(Request(share="c"))
    assert [request.share for request in deal_all(queue)] == ["b", "c", "a", "b"]


def test_a_share_that_had_its_turn_does_not_get_another_by_asking_again() -> None:
    queue = queue_of([Request(share=name) for name in "abbb"])
    dealt: list[str] = []
    for _ in range(6):
        head = queue.head()
        assert head is not None
        queue.deal(head)
        dealt.append(head.share or "")
        if head.share == "a":
            queue.add(Request(share="a"))
    assert "aa" not in "".join(dealt)
    assert dealt.count("a") == 3


def test_a_turn_in_one_queue_counts_in_another_of_the_same_dealer() -> None:
    dealer = Dealer()
    here: FairQueue[Request] = FairQueue(dealer)
    there: FairQueue[Request] = FairQueue(dealer)
    first, second = Request(share="a"), Request(share="b")
    here.add(first)
    here.add(second)
    assert here.head() is first
    elsewhere = Request(share="a")
    there.add(elsewhere)
    there.deal(elsewhere)
    assert here.head() is second


@pytest.mark.parametrize(
    ("rank", "share", "again", "goes"),
    [
        (NORMAL, "a", False, True),
        (NORMAL, "a", True, False),
        (NORMAL, "b", False, False),
        (HIGH, "a", False, False),
    ],
)
def test_a_repetition_need_not_wait_behind_newcomers_of_its_own_share(
    rank: int, share: str, again: bool, goes: bool
) -> None:
    head = QueuedRequest(Terms(rank=rank, share=share), inf, first=again)
    assert goes_before(Terms(rank=NORMAL, share="a"), head) is goes


def test_a_repetition_goes_before_others_of_its_own_share_only() -> None:
    queue = queue_of([Request(share="a"), Request(share="b"), Request(share="b")])
    again = Request(share="b", again=True)
    queue.add(again)
    dealt = deal_all(queue)
    assert [request.share for request in dealt] == ["a", "b", "b", "b"]
    assert dealt[1] is again


@given(st.lists(st.tuples(shares, st.integers(1, 30)), min_size=2, max_size=8))
def test_no_share_is_more_than_one_turn_ahead_of_another_that_waits(
    groups: list[tuple[str | None, int]],
) -> None:
    queue = queue_of(Request(share=share) for share, n in groups for _ in range(n))
    left = Counter({share: queue.count_of(NORMAL, share) for share, _ in groups})
    had = Counter[str | None]()
    for request in deal_all(queue):
        had[request.share] += 1
        left[request.share] -= 1
        waits = [had[share] for share, count in left.items() if count]
        assert had[request.share] <= min(waits, default=1000) + 1


# The queue, against a plain list that is searched for the first.

actions = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 2), shares, st.booleans()),
        st.tuples(st.just("deal")),
        st.tuples(st.just("leave"), st.integers(0, 50)),
    ),
    max_size=120,
)


class PlainQueue:
    """The rule, written out."""

    def __init__(self) -> None:
        self.dealer = Dealer()
        self.items: list[Request] = []

    def ranks(self) -> list[int]:
        return sorted({item.rank for item in self.items})

    def place(self, item: Request) -> tuple[int, int, bool, int]:
        own = [i for i in self.items if (i.rank, i.share) == (item.rank, item.share)]
        first = min(own, key=lambda i: (not i.is_repetition, i.arrival))
        turn = self.dealer.turn_of(item.rank, item.share)
        return turn, first.arrival, not item.is_repetition, item.arrival

    def head(self) -> Request | None:
        if not self.items:
            return None
        rank = self.dealer.next_rank(self.ranks())
        return min((i for i in self.items if i.rank == rank), key=self.place)

    def deal(self, item: Request) -> None:
        self.dealer.on_dealt(item.rank, item.share, self.ranks())
        self.leave(item)

    def leave(self, item: Request) -> None:
        self.items.remove(item)
        if item.rank not in self.ranks():
            self.dealer.forget(item.rank)


@given(actions)
def test_the_queue_deals_as_a_plain_search_would(steps: list[tuple[Any, ...]]) -> None:
    queue, plain = queue_of([]), PlainQueue()
    for name, *details in steps:
        if name == "add":
            rank, share, again = details
            request = Request(rank, share, again=again)
            queue.add(request)
            plain.items.append(request)
        elif plain.items and name == "deal":
            head = plain.head()
            assert head is not None
            queue.deal(head)
            plain.deal(head)
        elif plain.items:
            leaves = plain.items[details[0] % len(plain.items)]
            queue.discard(leaves)
            plain.leave(leaves)
        assert queue.head() is plain.head()
        assert len(queue) == len(plain.items)
        assert set(queue) == set(plain.items)


@given(actions, st.integers(0, 2), shares)
def test_the_order_and_the_place_in_it_are_known_beforehand(
    steps: list[tuple[Any, ...]], rank: int, share: str | None
) -> None:
    queue = queue_of([])
    for name, *details in steps:
        head = queue.head()
        if name == "add":
            queue.add(Request(details[0], details[1]))
        elif head is not None:
            queue.deal(head)
    ahead = queue.ahead_of(rank, share)
    assert surely_ahead([queue], rank, share) <= ahead
    newcomer = Request(rank, share)
    queue.add(newcomer)
    order = list(queue.in_order())
    assert order == deal_all(queue)
    assert order.index(newcomer) == ahead


@given(
    st.sampled_from([HIGH, NORMAL, LOW]),
    st.lists(st.tuples(shares, st.booleans()), max_size=20),
    st.integers(0, 20),
)
def test_requests_of_one_priority_are_placed_as_if_others_might_wait(
    rank: int, joins: list[tuple[str | None, bool]], dealt: int
) -> None:
    queue = queue_of(Request(rank, share, again=again) for share, again in joins)
    for _ in range(min(dealt, len(queue) - 1)):  # so that some had more turns
        queue.deal(next(iter(queue.in_order())))
    # Counts below its own change nothing, but it looks at all priorities then.
    assert list(queue.places()) == list(queue.places([0, 0, 0]))


def test_leaving_from_the_middle_keeps_no_more_than_waits() -> None:
    requests = [Request() for _ in range(1000)]
    queue = queue_of(requests)
    for request in requests[1:]:
        queue.discard(request)
    line = queue._classes[NORMAL].lines[None]
    assert len(line._newcomers) < 40
    assert deal_all(queue) == requests[:1]


def test_repetitions_stay_when_many_others_leave() -> None:
    requests = [Request() for _ in range(100)]
    again = [Request(again=True) for _ in range(3)]
    queue = queue_of(requests + again)
    for request in requests[1:] + again[1:2]:
        queue.discard(request)
    assert deal_all(queue) == [again[0], again[2], requests[0]]


def test_requests_here_stand_evenly_between_those_that_wait_elsewhere() -> None:
    queue = queue_of([Request(), Request()])
    assert [place for place, _ in queue.places([0, 4, 0])] == [0, 2]
    assert [place for place, _ in queue.places([3, 4, 0])] == [3, 5]
    assert queue.ahead_of(NORMAL, None, counts=[0, 5, 0]) == 5
    assert queue.ahead_of(NORMAL, None, counts=[3, 5, 0]) == 8
    assert queue.ahead_of(HIGH, None, counts=[3, 5, 0]) == 3


def test_what_surely_goes_before_is_all_of_a_share_that_is_alone() -> None:
    queue = queue_of(Request(share="a") for _ in range(3))
    assert surely_ahead([queue], NORMAL, "a") == 3
    assert surely_ahead([queue], NORMAL, "b") == 0
    queue.add(Request(share="b"))
    queue.add(Request(HIGH, "c"))
    assert surely_ahead([queue], NORMAL, "a") == 4
    assert surely_ahead([queue], LOW, "a") == 0


def test_a_thousand_shares_that_come_and_go_leave_nothing_behind() -> None:
    dealer = Dealer()
    for number in range(1000):
        dealer.on_dealt(NORMAL, f"share {number}", [NORMAL])
        dealer.on_dealt(NORMAL, "always", [NORMAL])
    assert len(dealer._later[NORMAL]) < 5


# The stored form.


@given(st.lists(st.tuples(waiting, shares), max_size=60))
def test_a_restored_dealer_deals_on_as_before(
    dealt: list[tuple[list[int], str | None]],
) -> None:
    dealer = Dealer()
    for ranks, share in dealt:
        dealer.on_dealt(dealer.next_rank(ranks), share, ranks)
    stored = json.loads(json.dumps(dealer.to_state()))
    restored = Dealer.from_state(stored)
    assert restored.to_state() == dealer.to_state()
    for rank in (HIGH, NORMAL, LOW):
        for share in (None, "a", "b", "c"):
            assert restored.turn_of(rank, share) == dealer.turn_of(rank, share)


@pytest.mark.parametrize("state", [{}, {"skipped": [1], "turns": [0], "later": [[]]}])
def test_a_damaged_state_is_refused(state: dict[str, Any]) -> None:
    with pytest.raises((LookupError, ValueError)):
        Dealer.from_state(state)
