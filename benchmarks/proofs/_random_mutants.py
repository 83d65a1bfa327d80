"""``proofs mutants --random N``: wrong operators anywhere in what decides.

Each mutant runs in a fork that has loaded everything, with the tests that cover its
line, those of its wing first, until one fails. One that outlives all of them, or as
many as fit in its time, survives: a sentence is missing, or the line decides nothing,
or it is one of `EQUIVALENTS`, where the wrong line does what the right one does.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import importlib
import itertools
import json
import os
import pkgutil
import sys
import tempfile
from collections import Counter
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
import pytest

import finetuning_async
from benchmarks.proofs._covering_tests import CoveringTests, by_file, is_about
from benchmarks.proofs._equivalents import EQUIVALENTS
from benchmarks.proofs._forked_tests import needs_nothing_else, run_forked
from benchmarks.proofs._mutated_code import LoadedFunctions
from benchmarks.proofs._operators import DECIDING, Change, draw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.proofs._forked_tests import TestResult

PACKAGE: Final = Path(finetuning_async.__file__).parent
ROOT: Final = PACKAGE.parent

TESTS: Final = (
    "submission",
    "journal",
    "pacing",
    "coordination",
    "downloads",
    "http",
    "polling",
    "api",
    "runtime",
    "session",
    "resources",
    "batch",
    "webhooks",
)
"""Folders of tests, and the files beside them, that run these modules."""

TOO_LONG: Final = (
    "test_absence_proof.py",
    "test_submit_proof.py",
    "test_budget_proof.py",
    "::test_a_create_cancelled_at_every_step",
    "test_keyed_crashes.py",
    "test_crashes.py",
    "test_worker_crashes.py",
    "::test_a_keyed_create_cancelled_at",
)
"""Tests that take minutes: what only they would find counts as not found."""

OUTCOMES: Final = (
    "killed",
    "timeout",
    "equivalent",
    "survived",
    "not covered",
    "not run",
)


def main(arguments: list[str]) -> bool:
    """Draw mutants and run them; returns whether none survived."""
    options = _options(arguments)
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = tempfile.mkdtemp()
    options.state.mkdir(parents=True, exist_ok=True)
    drawn = draw(PACKAGE, options.modules, options.random, options.seed)
    runner = _Runner(options, drawn)
    folders = [str(ROOT / "tests" / name) for name in TESTS]
    files = sorted(str(path) for path in (ROOT / "tests").glob("test_*.py"))
    quiet = ["-q", "--no-header", "--capture=sys", "-p", "no:cacheprovider"]
    status = pytest.main([*quiet, *folders, *files], plugins=[runner])
    if status != pytest.ExitCode.OK:
        sys.exit(f"the tests cannot be collected: {status!r}")
    return _report(drawn, runner.log)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks proofs mutants")
    parser.add_argument("--random", type=int, required=True, help="how many")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="mutants at once")
    parser.add_argument(
        "--seconds", type=float, default=120.0, help="CPU time of tests a mutant"
    )
    parser.add_argument(
        "--own", action="store_true", help="only with the tests about its wing"
    )
    parser.add_argument("--again", action="store_true", help="run survivors again")
    parser.add_argument("--state", type=Path, default=ROOT / ".mutants")
    parser.add_argument(
        "modules", nargs="*", metavar="MODULE", help="parts of their paths"
    )
    return parser.parse_args(arguments)


class _Log:
    """What became of each mutant, kept in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, change: Change, outcome: str, **facts: Any) -> None:
        row = {"mutant": _key(change), "outcome": outcome, "change": str(change)}
        with self._path.open("a") as file:
            file.write(json.dumps(row | facts) + "\n")

    def outcomes(self) -> dict[str, dict[str, Any]]:
        """The last row of each mutant."""
        if not self._path.exists():
            return {}
        rows = map(json.loads, self._path.read_text().splitlines())
        return {row["mutant"]: row for row in rows}


@functools.cache
def _source(file: str) -> str:
    """The text of a module as it was first read."""
    return (PACKAGE / file).read_text()


def _key(change: Change) -> str:
    """A mutant of the module's present text."""
    span = f"{change.start}-{change.end}:{change.new}"
    text = hashlib.sha256(_source(change.file).encode()).hexdigest()[:12]
    return f"{change.file} {text} {span}"


@attrs.define
class _Runner:
    """The plugin of pytest that runs the mutants in the place of the tests."""

    options: argparse.Namespace
    drawn: list[Change]
    log: _Log = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.log = _Log(self.options.state / "results.jsonl")

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        chosen = {item.nodeid: item for item in filter(needs_nothing_else, items)}
        items[:] = [
            item
            for test, item in chosen.items()
            # On trio, a test runs the same lines of ours.
            if ("[trio" not in test or test.replace("[trio", "[asyncio") not in chosen)
            and not any(words in test for words in TOO_LONG)
        ]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Measure what has not been measured, then run what has not been run."""
        if session.testsfailed:
            raise session.Interrupted("errors while collecting")
        _load_everything()
        capture = session.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            done = self.log.outcomes()
            left = [change for change in self.drawn if self._is_to_run(change, done)]
            functions = LoadedFunctions()
            for wing, changes in itertools.groupby(left, key=attrgetter("wing")):
                tests = CoveringTests(self.options.state / "coverage", PACKAGE)
                for path, items in by_file(session.items).items():
                    if is_about(wing, path) or not self.options.own:
                        tests.measure(path, items)
                mutants = _Mutants(self.options, session, tests, functions, self.log)
                mutants.run(list(changes))
        return True

    def _is_to_run(self, change: Change, done: dict[str, dict[str, Any]]) -> bool:
        if _is_equivalent(change):
            return False
        outcome = done.get(_key(change), {}).get("outcome")
        survived = outcome in ("survived", "not covered")
        return outcome is None or (self.options.again and survived)


def _load_everything() -> None:
    """Load all modules, so that each function is there to be changed."""
    for wing in DECIDING:
        for module in pkgutil.iter_modules([str(PACKAGE / wing)]):
            importlib.import_module(f"finetuning_async.{wing}.{module.name}")


class _Mutants:
    """Runs mutants, some at once."""

    def __init__(
        self,
        options: argparse.Namespace,
        session: pytest.Session,
        tests: CoveringTests,
        functions: LoadedFunctions,
        log: _Log,
    ) -> None:
        self._options = options
        self._items = {item.nodeid: item for item in session.items}
        self._tests = tests
        self._log = log
        self._functions = functions

    def run(self, changes: list[Change]) -> None:
        """Run each in a fork of one of so many forks."""
        children = []
        jobs = self._options.jobs
        for first in range(jobs):
            child = os.fork()
            if not child:
                self._run_and_exit(changes[first::jobs])
            children.append(child)
        for child in children:
            _, status = os.waitpid(child, 0)
            if status:
                raise RuntimeError(f"a process ended with {status}")

    def _run_and_exit(self, changes: list[Change]) -> None:
        status = 1
        try:
            for change in changes:
                self._run_one(change)
            status = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(status)

    def _run_one(self, change: Change) -> None:
        tests = self._tests.of(change)
        items = [self._items[test] for test in tests if test in self._items]
        if not items:
            self._say(change, "not covered")
            return
        apply = functools.partial(self._apply, change)
        spent, ran = 0.0, 0
        while ran < len(items) and spent <= self._options.seconds:
            before = ran
            for result in self._results(items[ran:], apply):
                spent = round(spent + result.seconds, 3)
                ran += 1
                # Under load, a test may fail by itself: the others go on.
                if result.outcome != "passed" and self._passes(result.test):
                    outcome = "killed" if result.outcome == "failed" else "timeout"
                    self._say(change, outcome, test=result.test, ran=ran, seconds=spent)
                    return
                if spent > self._options.seconds:
                    break
            if ran == before:
                raise RuntimeError(f"no test was run: {change}")
        self._say(change, "survived", ran=ran, of=len(items), seconds=spent)

    def _results(
        self, items: list[pytest.Item], prepare: Callable[[], object]
    ) -> Iterator[TestResult]:
        seconds = self._tests.seconds
        return run_forked(items, prepare, seconds=seconds, stop_at_failure=True)

    def _apply(self, change: Change) -> None:
        path, source = PACKAGE / change.file, _source(change.file)
        if not self._functions.replace(path, source, change.apply(source)):
            raise RuntimeError(f"no function has this code: {change}")

    def _passes(self, test: str) -> bool:
        """Whether a test passes without the mutant."""
        results = self._results([self._items[test]], lambda: None)
        return all(result.outcome == "passed" for result in results)

    def _say(self, change: Change, outcome: str, **facts: Any) -> None:
        self._log.append(change, outcome, **facts)
        told = " ".join(f"{name}={value}" for name, value in facts.items())
        print(f"{outcome} {change} {told}", flush=True)


def _is_equivalent(change: Change) -> bool:
    return any(equivalent.is_of(change) for equivalent in EQUIVALENTS)


def _report(drawn: list[Change], log: _Log) -> bool:
    """Print the survivors and the table; returns whether there are none."""
    done = log.outcomes()
    counts: dict[str, Counter[str]] = {}
    survivors = []
    for change in drawn:
        row = done.get(_key(change), {"outcome": "not run"})
        outcome = "equivalent" if _is_equivalent(change) else row["outcome"]
        counts.setdefault(change.file, Counter())[outcome] += 1
        if outcome in ("survived", "not covered"):
            survivors.append((outcome, change, row))
    for outcome, change, row in survivors:
        print(f"{outcome} after {row.get('ran', 0)} tests: {change}")
    print(f"{'module':40}", *(f"{name:>12}" for name in OUTCOMES))
    for file, numbers in sorted(counts.items()):
        print(f"{file:40}", *(f"{numbers[name]:12}" for name in OUTCOMES))
    total = sum(counts.values(), Counter())
    print(f"{'all':40}", *(f"{total[name]:12}" for name in OUTCOMES))
    killed = total["killed"] + total["timeout"]
    judged = killed + len(survivors)
    print(f"killed {killed} of {judged} ({killed / max(judged, 1):.1%})")
    return not survivors
