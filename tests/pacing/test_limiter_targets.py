"""The targets of the limiter, on a small sample of its benchmark."""

from __future__ import annotations

import asyncio
from statistics import mean

import attrs
import pytest

from benchmarks.limiter.bound import least_seconds
from benchmarks.limiter.cost import memory_of_a_waiter
from benchmarks.limiter.ours import Ours
from benchmarks.limiter.servers import KINDS
from benchmarks.limiter.simulation import Result, Setting, Wire, run

pytestmark = pytest.mark.sampled(2)

SEEDS = 4
NOT_COUNTERS = [kind for kind in KINDS if not kind.startswith("counter")]
COUNTERS = [kind for kind in KINDS if kind.startswith("counter")]
MOST_TIME = {"fixed": 1.13, "counter": 1.12, "counter, rounded": 1.18}
"""Multiples of the clairvoyant client's time; 1.02 for the other kinds."""

WITHOUT_HEADERS = {"counter": 1.15, "counter, rounded": 1.26}
"""The same where no header shows what is left: the test then holds for all phases at
once, which costs up to a tenth more time and no refusal."""


def results(setting: Setting) -> list[Result]:
    return [run(setting, seed, SEEDS, Ours) for seed in range(SEEDS)]


def ratio(setting: Setting, found: list[Result]) -> float:
    optimum = mean(Wire(setting, seed, SEEDS).optimum() for seed in range(SEEDS))
    return mean(result.seconds for result in found) / optimum


@pytest.mark.parametrize("headers", [True, False])
@pytest.mark.parametrize("kind", NOT_COUNTERS)
def test_no_429_and_hardly_slower_than_the_limit(kind: str, headers: bool) -> None:
    setting = Setting(kind=kind, headers=headers)
    found = results(setting)
    assert max(result.refusals for result in found) == 0
    assert ratio(setting, found) < MOST_TIME.get(kind, 1.02)
    slow = attrs.evolve(setting, delays=(0.02, 3.0))
    assert max(result.refusals for result in results(slow)) == 0


@pytest.mark.parametrize("kind", COUNTERS)
def test_a_sliding_counter_costs_one_429_to_detect(kind: str) -> None:
    setting = Setting(kind=kind)
    found = results(setting)
    assert mean(result.refusals for result in found) <= 1
    assert max(result.refusals for result in found) <= 3
    assert ratio(setting, found) < MOST_TIME[kind]


@pytest.mark.parametrize("kind", COUNTERS)
def test_without_headers_a_sliding_counter_costs_a_few_429s_once(kind: str) -> None:
    setting = Setting(kind=kind, headers=False)
    found = results(setting)
    assert max(result.refusals for result in found) <= 6
    assert all(result.refusals == result.worst_window for result in found)
    assert ratio(setting, found) < WITHOUT_HEADERS[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_a_restart_in_a_used_up_minute_earns_at_most_one_429_per_window(
    kind: str,
) -> None:
    found = results(Setting(kind=kind, foreign=7))
    assert max(result.worst_window for result in found) <= 1


@pytest.mark.sampled(2)
@pytest.mark.parametrize("foreign", [7, 8, 9, 10])
@pytest.mark.parametrize("kind", NOT_COUNTERS)
def test_a_restart_without_headers_earns_at_most_one_429_per_window(
    kind: str, foreign: int
) -> None:
    found = results(Setting(kind=kind, count=30, foreign=foreign, headers=False))
    assert max(result.worst_window for result in found) <= 1


@pytest.mark.parametrize("foreign", [7, 10])
@pytest.mark.parametrize("kind", COUNTERS)
def test_a_restart_on_a_sliding_counter_earns_at_most_one_429_per_window(
    kind: str, foreign: int
) -> None:
    setting = Setting(kind=kind, count=30, foreign=foreign, headers=False)
    found = [run(setting, seed, 10, Ours) for seed in range(10)]
    assert max(result.worst_window for result in found) <= 1
    assert max(result.refusals for result in found) <= 3


def test_the_least_time_is_six_round_trips_and_four_probes() -> None:
    assert least_seconds(Setting(kind="fixed"), 4, lambda: 1.0) == 5 * 60 + 6 + 4


def test_a_waiter_is_small() -> None:
    assert asyncio.run(memory_of_a_waiter(2000)) < 1536
