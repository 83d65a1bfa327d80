"""The limiter against every way in which the service may count.

servers      how it may count
simulation   one client against one server, in virtual time
ours         our limiter as a client
clients      its peers, and one written from the vendor's text
bound        the least time that asking first can cost
cost         time and memory of a turn
report       the table
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str]) -> None:
    """Print the table; needs the extra ``bench``."""
    # The suite imports `servers` without having the peers.
    from benchmarks.limiter import report

    report.main(arguments)
