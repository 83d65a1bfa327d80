"""The least time that going one by one at first can cost.

Where no header tells what others have sent, a client that will not be refused twice
must know one answer before it sends the next request. And whatever the delays, it is
refused by no window and no log only if each later request leaves a period after the
answer that made room for it. So much follows for any client; here are no margins, no
late timers and no other rule. `_first_news.SINGLY` is chosen by this table.
"""

from __future__ import annotations

import random
from statistics import mean
from typing import TYPE_CHECKING, Final

import attrs

from benchmarks.limiter.simulation import Setting, Wire

if TYPE_CHECKING:
    from collections.abc import Callable

RUNS: Final = 5_000
PHASES: Final = 100
KINDS: Final = ("fixed", "first")


def least_seconds(setting: Setting, singly: int, trip: Callable[[], float]) -> float:
    """Until the last answer, if the first `singly` go one by one, the rest at once."""
    now = 0.0
    answers = []
    for _ in range(singly):
        now += trip()
        answers.append(now)
    answers += [now + trip() for _ in range(setting.limit - singly)]
    for _ in range(setting.count // setting.limit - 1):
        answers = [answer + setting.per + trip() for answer in sorted(answers)]
    return max(answers)


def ratios(setting: Setting, singly: int) -> list[float]:
    """The mean least time, as a multiple of the clairvoyant client's, per kind."""
    rng = random.Random(1)

    def trip() -> float:
        return rng.uniform(*setting.delays) + rng.uniform(*setting.delays)

    seconds = mean(least_seconds(setting, singly, trip) for _ in range(RUNS))
    return [seconds / _optimum(attrs.evolve(setting, kind=kind)) for kind in KINDS]


def table() -> str:
    """One row per number of single requests, in Markdown."""
    lines = [f"| one by one | {' | '.join(KINDS)} |", "|---" * (len(KINDS) + 1) + "|"]
    setting = Setting(kind="")
    for singly in range(1, setting.limit + 1):
        cells = " | ".join(f"{ratio:.4f}" for ratio in ratios(setting, singly))
        lines.append(f"| {singly} | {cells} |")
    return "\n".join(lines)


def _optimum(setting: Setting) -> float:
    return mean(Wire(setting, seed, PHASES).optimum() for seed in range(PHASES))
