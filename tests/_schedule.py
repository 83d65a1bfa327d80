"""Which worker runs which tests: those that wait beside those that compute.

Each file is run by one worker, as is what shares a server. At most `WAITING` workers
run tests on the real clock at a time, while another computes.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import pytest

WAITING: Final = 3
"""Workers that run tests on the real clock at a time; more would slow one another."""

TOGETHER: Final = ("postgres", "redis")
"""In the names of those that need a server, which is then started once."""


def is_on_the_real_clock(nodeid: str) -> bool:
    """Whether a test or a file of tests uses real sockets, processes or browsers."""
    return nodeid.startswith(("tests/real_time/", "tests/browser/"))


def group_of(nodeid: str) -> str:
    """The name of what one worker runs: a file, or what shares a server."""
    file = nodeid.partition("::")[0]
    if is_on_the_real_clock(file):
        return file
    return next((word for word in TOGETHER if word in nodeid), file)


def schedule(config: pytest.Config, log: Any) -> Any:
    """A scheduler of xdist's; its own groups, by a marker, do nothing in pytest 9.2."""
    from xdist.scheduler import LoadScopeScheduling

    class Schedule(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

        @cached_property
        def _on_the_real_clock(self) -> list[str]:
            """Those with the fewest tests last: they take longest, and begin first."""
            return [group for group in self.workqueue if is_on_the_real_clock(group)]

        def _assign_work_unit(self, node: Any) -> None:
            waiting = self._on_the_real_clock
            if waiting and self._count_waiting() < WAITING:
                self.workqueue.move_to_end(waiting.pop(), last=False)
            elif computing := self._first_that_computes():
                self.workqueue.move_to_end(computing, last=False)
            super()._assign_work_unit(node)

        def _first_that_computes(self) -> str | None:
            groups = (g for g in self.workqueue if not is_on_the_real_clock(g))
            return next(groups, None)

        def _count_waiting(self) -> int:
            """How many workers run tests on the real clock now."""
            return sum(
                any(
                    is_on_the_real_clock(group) and not all(tests.values())
                    for group, tests in groups.items()
                )
                for groups in self.assigned_work.values()
            )

    return Schedule(config, log)
