"""Which tests run a line, and how long each takes: measured once, kept in a folder.

A file of tests is measured again when its text changes. Of a module whose text has
changed since, no line is known, and each test that runs any of its lines counts.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import coverage

from benchmarks.proofs._forked_tests import run_forked

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest

    from benchmarks.proofs._operators import Change


BESIDE: Final = {
    "submission": {
        "test_capacity",
        "test_keyed_permits",
        "test_load",
        "test_wait_bounds",
        "test_waiting",
    },
    "pacing": {"test_estimates", "test_load"},
    "http": {
        "test_audio_stream",
        "test_events",
        "test_redirects",
        "test_reused_ids",
        "test_settings",
        "test_versions",
    },
    "journal": {
        "test_accounts",
        "test_input",
        "test_journal_budgets",
        "test_keyed_cancellation",
        "test_keyed_creates",
        "test_keyed_doubts",
        "test_keyed_leases",
        "test_pure_parts",
    },
    "polling": {"test_hints", "test_sharing"},
}
"""Files of tests in other folders that are about a wing."""


class CoveringTests:
    """The tests that run each line of a package."""

    def __init__(self, folder: Path, package: Path) -> None:
        """Read what was measured before.

        Args:
            folder: Where it is kept.
            package: The package's folder.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._package = package
        self.seconds: dict[str, float] = {}
        self._records: list[dict[str, Any]] = []
        self._lines: dict[str, dict[int, set[str]]] = {}
        self._failing: set[str] = set()

    def measure(self, path: Path, items: list[pytest.Item]) -> None:
        """Measure the tests of a file, if that has not been done."""
        # The text may have changed since the tests were collected.
        ids = "".join(item.nodeid for item in items)
        digest = hashlib.sha256(path.read_bytes() + ids.encode()).hexdigest()
        name = f"{path.parent.name}-{path.stem}-{digest[:12]}"
        record_path = self._folder / f"{name}.json"
        if not record_path.exists():
            record = self._measured(items, self._folder / f"{name}.coverage")
            record_path.write_text(json.dumps(record))
            failed = [
                test for test, (how, _) in record["tests"].items() if how != "passed"
            ]
            print(
                f"measured {path.name}: {len(items)} tests, fail: {failed}", flush=True
            )
        record = json.loads(record_path.read_text())
        self._records.append(record)
        for test, (outcome, seconds) in record["tests"].items():
            self.seconds[test] = seconds
            if outcome != "passed":
                self._failing.add(test)

    def _measured(self, items: list[pytest.Item], data: Path) -> dict[str, Any]:
        measuring = coverage.Coverage(
            data_file=str(data), source=[str(self._package)], config_file=False
        )

        class Contexts:
            """Lets each line count for the test that runs it."""

            def pytest_runtest_logstart(self, nodeid: str) -> None:
                measuring.switch_context(nodeid)

        def prepare() -> None:
            items[0].config.pluginmanager.register(Contexts())
            measuring.start()

        def conclude() -> None:
            measuring.stop()
            measuring.save()

        results = run_forked(items, prepare, conclude=conclude, stop_at_failure=False)
        tests = {result.test: (result.outcome, result.seconds) for result in results}
        modules = self._package.rglob("*.py")
        return {
            "tests": tests,
            "data": str(data.name),
            "modules": {self._name(path): hash_of(path) for path in modules},
        }

    def of(self, change: Change) -> list[str]:
        """The tests that run a changed line, those soonest to tell first.

        First those about the module's wing, of them the shortest.
        """
        lines = self._lines.get(change.file)
        if lines is None:
            lines = self._lines[change.file] = self._lines_of(change.file)
        tests = lines.get(change.line, set()) | lines.get(0, set())
        if not tests:  # the inside of an expression may count for its first line
            tests = lines.get(change.first_line, set())

        def promise(test: str) -> tuple[bool, float]:
            path = Path(test.partition("::")[0])
            return not is_about(change.wing, path), self.seconds[test]

        return sorted(tests - self._failing, key=promise)

    def _lines_of(self, file: str) -> dict[int, set[str]]:
        """The tests by line; those of line 0 may run any line."""
        tests: defaultdict[int, set[str]] = defaultdict(set)
        path = self._package / file
        for record in self._records:
            if not (self._folder / record["data"]).exists():  # its process was ended
                continue
            data = coverage.CoverageData(str(self._folder / record["data"]))
            data.read()
            is_same = record["modules"].get(file) == hash_of(path)
            for line, contexts in data.contexts_by_lineno(str(path)).items():
                tests[line if is_same else 0].update(filter(None, contexts))
            data.close()
        known = self.seconds.keys()
        return {line: found & known for line, found in tests.items()}

    def _name(self, path: Path) -> str:
        return path.relative_to(self._package).as_posix()


def is_about(wing: str, path: Path) -> bool:
    """Whether a file of tests is about a wing."""
    return path.parent.name == wing or path.stem in BESIDE.get(wing, ())


def hash_of(path: Path) -> str:
    """The SHA-256 of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def by_file(items: Iterable[pytest.Item]) -> dict[Path, list[pytest.Item]]:
    """Tests by the file they are in."""
    files = defaultdict(list)
    for item in items:
        files[item.path].append(item)
    return files
