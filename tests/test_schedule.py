"""Which worker runs which tests."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tests._schedule import WAITING, is_on_the_real_clock, schedule

FOLDERS = ("api", "real_time")
FILES = [f"tests/{folder}/test_{n}.py" for folder in FOLDERS for n in "abcde"]
TESTS = [f"{file}::test_{n}" for file in FILES for n in "xyz"]
OF_A_SERVER = [
    "tests/api/test_a.py::test_w[redis]",
    "tests/cli/test_f.py::test_[redis]",
]
CONFIG: Any = SimpleNamespace(
    getvalue={"tx": ["6*popen"]}.get, option=SimpleNamespace(loadscopereorder=True)
)


class Worker:
    """Stands for a process of xdist's; it runs nothing."""

    def __init__(self, name: str) -> None:
        self.gateway = SimpleNamespace(id=name)
        self.shutting_down = False
        self.tests: list[int] = []

    def send_runtest_some(self, indices: list[int]) -> None:
        self.tests += indices

    def shutdown(self) -> None:
        self.shutting_down = True


def test_each_file_is_run_by_one_worker_and_few_workers_wait() -> None:
    tests = [*TESTS, *OF_A_SERVER]
    workers = [Worker(f"gw{number}") for number in range(6)]
    scheduler: Any = schedule(CONFIG, None)
    for worker in workers:
        scheduler.add_node(worker)
        scheduler.add_node_collection(worker, tests)
    scheduler.schedule()
    while any(worker.tests for worker in workers):
        busy = [
            w for w in workers if any(is_on_the_real_clock(tests[i]) for i in w.tests)
        ]
        assert len(busy) <= WAITING
        worker = max(workers, key=lambda each: len(each.tests))
        scheduler.mark_test_complete(worker, worker.tests.pop(0))
    assert scheduler.tests_finished
    ran = {
        group: [w for w, groups in scheduler.assigned_work.items() if group in groups]
        for group in (*FILES, "redis")
    }
    assert all(len(by) == 1 for by in ran.values())
