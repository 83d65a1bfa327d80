"""Which worker runs which tests: those that wait beside those that compute.

Each file is run by one worker, as is what shares a server. At most `WAITING` workers
run tests on the real clock at a time, while another computes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import pytest

WAITING: Final = 4
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

    class Schedule(LoadScopeScheduling):  # type: ignore[misc]  # has no types
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

        def _assign_work_unit(self, node: Any) -> None:
            real = [group for group in self.workqueue if is_on_the_real_clock(group)]
            others = [group for group in self.workqueue if group not in real]
            if real and (not others or self._count_waiting() < WAITING):
                # Files with few tests come last, and take longest: they begin first.
                self.workqueue.move_to_end(real[-1], last=False)
            else:
                self.workqueue.move_to_end(others[0], last=False)
            super()._assign_work_unit(node)

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
