"""The tests detect mistakes: each wrong line listed here fails the test it names.

    python -m benchmarks proofs mutants [WORD ...]

With words, only the mutants whose name or test contains one of them.

Each mutant is made in a temporary copy of the package, where its test is run.

    python -m benchmarks proofs mutants --random N [--seed S] [--jobs J] [MODULE ...]

N mutants drawn at random over what decides, or over the modules whose path contains one
of the words; see `_random_mutants`. A run that is interrupted goes on where it stopped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.proofs import (
    _budget_mutations,
    _journal_mutations,
    _key_mutations,
    _mutations,
)

if TYPE_CHECKING:
    from benchmarks.proofs._mutant import Mutant

MUTANTS = (
    *_mutations.MUTANTS,
    *_journal_mutations.MUTANTS,
    *_key_mutations.MUTANTS,
    *_budget_mutations.MUTANTS,
)

ROOT = Path(__file__).parents[2]
COPIED = ("finetuning_async", "tests", "benchmarks", "pyproject.toml")


def main(arguments: list[str]) -> bool:
    """Run the proof; returns whether every mutant was killed."""
    if "--random" in arguments:
        # It has the tests and coverage.py loaded, which the others do without.
        from benchmarks.proofs import _random_mutants

        return _random_mutants.main(arguments)
    mutants = [mutant for mutant in MUTANTS if _is_chosen(mutant, arguments)]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in COPIED:
            _copy(ROOT / name, copy / name)
        passing = [_passes(copy, mutant) for mutant in mutants]
        killed = [_kill(copy, mutant) for mutant in mutants]
    print(f"killed {sum(killed)} of {len(mutants)}")
    return all(passing) and all(killed)


def _is_chosen(mutant: Mutant, words: list[str]) -> bool:
    text = f"{mutant.name} {mutant.test}"
    return not words or any(word in text for word in words)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
        shutil.copytree(source, target, ignore=ignored)
    else:
        shutil.copy(source, target)


def _passes(copy: Path, mutant: Mutant) -> bool:
    """Whether the test passes as long as the line is right."""
    passes = _run(copy, mutant.test)
    if not passes:
        print(f"the test fails already: {mutant.test}")
    return passes


def _kill(copy: Path, mutant: Mutant) -> bool:
    path = copy / "finetuning_async" / mutant.file
    right = path.read_text()
    if right.count(mutant.old) != 1:
        print(f"{mutant.name}: the line is not there once")
        return False
    path.write_text(right.replace(mutant.old, mutant.new))
    try:
        killed = not _run(copy, mutant.test)
    finally:
        path.write_text(right)
    word = "killed by" if killed else "SURVIVES"
    print(f"{mutant.name}: {word} {mutant.test}", flush=True)
    return killed


def _run(copy: Path, test: str) -> bool:
    """Whether a test passes in the copy."""
    quiet = ["-q", "-x", "--long", "-p", "no:cacheprovider"]
    outcome = subprocess.run(  # noqa: S603 - our own tests
        [sys.executable, "-m", "pytest", *quiet, test],
        cwd=copy,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        check=False,
    )
    if outcome.returncode not in (0, 1):
        raise RuntimeError(outcome.stdout.decode() + outcome.stderr.decode())
    return outcome.returncode == 0
