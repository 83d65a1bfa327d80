"""Two processes that share a store are as fast as one, on a small sample."""

from __future__ import annotations

from contextlib import ExitStack
from functools import cache
from statistics import mean
from typing import TYPE_CHECKING

import pytest

from benchmarks.limiter.ours import Ours
from benchmarks.limiter.simulation import Result, Setting, run
from benchmarks.limiter.stores import maker
from tests._redis_server import program

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.limiter.simulation import Client

SEEDS = 1


def means(setting: Setting, make: Callable[[Setting], Client]) -> tuple[float, float]:
    """Return the mean number of 429s and of seconds."""
    found: list[Result] = [run(setting, seed, SEEDS, make) for seed in range(SEEDS)]
    return mean(r.refusals for r in found), mean(r.seconds for r in found)


@cache
def alone(setting: Setting) -> tuple[float, float]:
    """Return the means of one process."""
    return means(setting, Ours)


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("store", "kind", "headers"),
    [
        ("memory", "log", True),
        ("memory", "counter", True),
        ("memory", "counter", False),
        ("redis", "log", True),
    ],
)
def test_two_processes_need_no_more_time_and_429s_than_one(
    store: str, kind: str, headers: bool
) -> None:
    if store == "redis" and program() is None:
        pytest.skip("no Redis is installed (Debian: apt-get install redis-server)")
    setting = Setting(kind=kind, headers=headers)
    refusals, seconds = alone(setting)
    with ExitStack() as stack:
        shared_refusals, shared_seconds = means(setting, maker(store, stack))
    assert shared_refusals <= refusals + 0.5
    assert shared_seconds <= 1.03 * seconds
