"""A person before a batch: what priorities, shares and even spacing reach.

report      prints the table
line        creates in virtual time, through one process or two that share a store
queue       a whole client against the emulator, whose queue takes five tracks
estimates   how far `estimate` is from what happens
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str]) -> None:
    """Print the table; the stores need the extra ``test``."""
    from benchmarks.admission import report

    report.main(arguments)
