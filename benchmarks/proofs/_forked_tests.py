"""Collected tests, run in forks of the process that collected them.

To load pytest, the package and the tests takes half a minute, a fork takes 20 ms.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pytest

CPU_LIMIT: Final = 5.0
"""CPU seconds a test may take that took none when it was measured."""

CPU_FACTOR: Final = 5.0
"""How many times the CPU seconds it took before a test may take."""

SILENCE_LIMIT: Final = 120.0
"""Seconds after which a fork that reports nothing is killed."""

PROGRAMS: Final = ("postgres", "redis")
"""Programs that a test starts or needs which has this in its name or fixtures."""


@attrs.frozen
class TestResult:
    """What became of a test.

    Attributes:
        test: Its id.
        outcome: "passed", "failed" or "timeout".
        seconds: CPU seconds of its process that it took.
    """

    test: str
    outcome: str
    seconds: float


def run_forked(
    items: Sequence[pytest.Item],
    prepare: Callable[[], object],
    *,
    seconds: dict[str, float] | None = None,
    conclude: Callable[[], object] = lambda: None,
    stop_at_failure: bool,
) -> Iterator[TestResult]:
    """Run tests in a fork of this process, one after the other.

    Args:
        items: The tests, in the order to run them in.
        prepare: Called in the fork before the first test.
        seconds: CPU seconds each test takes if all is well; without it, there is no
            limit but pytest's.
        conclude: Called in the fork after the last test.
        stop_at_failure: Whether the fork ends at the first failure.

    Yields:
        The result of each test as it ends.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _run_and_exit(items, prepare, conclude, writing, seconds, stop_at_failure)
    os.close(writing)
    try:
        yield from _results(reading)
    finally:
        os.close(reading)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _results(reading: int) -> Iterator[TestResult]:
    """What the fork reports; a test that began and did not end has hung."""
    begun = None
    buffer = b""
    while True:
        ready, _, _ = select.select([reading], [], [], SILENCE_LIMIT)
        data = os.read(reading, 65536) if ready else b""
        if not data:
            break
        *lines, buffer = (buffer + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "begun" in message:
                begun = message["begun"]
                continue
            begun = None
            yield TestResult(**message)
    if begun is not None:
        yield TestResult(begun, "timeout", 0.0)


def _run_and_exit(
    items: Sequence[pytest.Item],
    prepare: Callable[[], object],
    conclude: Callable[[], object],
    writing: int,
    seconds: dict[str, float] | None,
    stop_at_failure: bool,
) -> None:
    status = 1
    try:
        shutil.rmtree(os.environ["HYPOTHESIS_STORAGE_DIRECTORY"], ignore_errors=True)
        prepare()
        _run(items, writing, seconds, stop_at_failure)
        conclude()
        status = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)  # what the parent has at exit is not this process's


def _run(
    items: Sequence[pytest.Item],
    writing: int,
    seconds: dict[str, float] | None,
    stop_at_failure: bool,
) -> None:
    if not items:
        return
    plugins = items[0].config.pluginmanager
    plugins.unregister(name="terminalreporter")
    reports = _Reports()
    plugins.register(reports)
    for item, following in zip(items, [*items[1:], None], strict=True):
        _tell(writing, {"begun": item.nodeid})
        began = time.process_time()
        if seconds is not None:
            limit = CPU_LIMIT + CPU_FACTOR * seconds.get(item.nodeid, 0.0)
            # The signal ends a process that has no handler for it.
            signal.setitimer(signal.ITIMER_PROF, limit)
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        took = round(time.process_time() - began, 3)
        outcome = reports.take()
        _tell(writing, {"test": item.nodeid, "outcome": outcome, "seconds": took})
        if outcome != "passed" and stop_at_failure:
            break
    signal.setitimer(signal.ITIMER_PROF, 0.0)


def _tell(writing: int, message: dict[str, Any]) -> None:
    os.write(writing, json.dumps(message).encode() + b"\n")


class _Reports:
    """Whether the test that runs has failed."""

    def __init__(self) -> None:
        self._outcome = "passed"

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and self._outcome == "passed":
            timed_out = "Failed: Timeout" in report.longreprtext
            self._outcome = "timeout" if timed_out else "failed"

    def take(self) -> str:
        """The outcome of the test that ended."""
        outcome, self._outcome = self._outcome, "passed"
        return outcome


def needs_nothing_else(item: pytest.Item) -> bool:
    """Whether a test runs in this process alone, in virtual time."""
    names = (item.name, *getattr(item, "fixturenames", ()))
    needs_program = any(word in name for name in names for word in PROGRAMS)
    return not item.get_closest_marker("real_time") and not needs_program
