"""The limiter against every way in which the service may count.

report       prints the tables
simulation   one client against one server, in virtual time
servers      the ways in which the service may count
ours         our limiter as a client, whole and with one rule removed
stores       our limiter in two processes that share a store
clients      its peers, and one that follows the vendor's advice
bound        the least time that sending single probes first can cost
cost         time and memory of a permit
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str]) -> None:
    """Print the table; needs the extra ``bench``."""
    # The tests import `servers`, and may not have the peers installed.
    from benchmarks.limiter import report

    report.main(arguments)
