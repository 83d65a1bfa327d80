"""Which worker runs which tests: those that wait beside those that compute.

Each file is run by one worker, as is what shares a server. The first `WAITING` workers
begin with tests on the real clock, while the others compute.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import pytest

WAITING: Final = 4
"""Workers that run tests on the real clock; more would slow one another, and each has
the libraries of its programs to import."""

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
            may_wait = self.nodes.index(node) < WAITING
            if real and (may_wait or not others):
                # Files with few tests come last, and take longest: they begin first.
                self.workqueue.move_to_end(real[-1], last=False)
            else:
                self.workqueue.move_to_end(others[0], last=False)
            super()._assign_work_unit(node)

    return Schedule(config, log)
