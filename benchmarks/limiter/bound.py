"""The least time that sending single probes first can cost.

Where no header shows what others have sent, a client that must not be refused twice has
to wait for one response before it sends the next request. And whatever the delays, no
window and no log refuses it only if each later request is sent a period after the
response that made room for it. This holds for any client, without margins, late timers
or other rules. `_remaining_credit.SINGLE_PROBES` is chosen by this table.
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


def least_seconds(setting: Setting, probes: int, trip: Callable[[], float]) -> float:
    """Until the last response, if `probes` go one at a time and then all the rest."""
    now = 0.0
    responses = []
    for _ in range(probes):
        now += trip()
        responses.append(now)
    responses += [now + trip() for _ in range(setting.limit - probes)]
    for _ in range(setting.count // setting.limit - 1):
        responses = [at + setting.per + trip() for at in sorted(responses)]
    return max(responses)


def ratios(setting: Setting, probes: int) -> list[float]:
    """The mean least time per kind, as a multiple of the clairvoyant client's."""
    rng = random.Random(1)

    def trip() -> float:
        return rng.uniform(*setting.delays) + rng.uniform(*setting.delays)

    seconds = mean(least_seconds(setting, probes, trip) for _ in range(RUNS))
    return [seconds / _optimum(attrs.evolve(setting, kind=kind)) for kind in KINDS]


def table() -> str:
    """One row per number of single probes, in Markdown."""
    lines = [
        f"| single probes | {' | '.join(KINDS)} |",
        "|---" * (len(KINDS) + 1) + "|",
    ]
    setting = Setting(kind="")
    for probes in range(1, setting.limit + 1):
        cells = " | ".join(f"{ratio:.4f}" for ratio in ratios(setting, probes))
        lines.append(f"| {probes} | {cells} |")
    return "\n".join(lines)


def _optimum(setting: Setting) -> float:
    return mean(Wire(setting, seed, PHASES).optimum() for seed in range(PHASES))
