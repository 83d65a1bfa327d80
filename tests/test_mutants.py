"""What ``python -m benchmarks proofs mutants --random`` makes of the source."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import finetuning_async
from benchmarks.proofs._equivalents import EQUIVALENTS
from benchmarks.proofs._mutated_code import LoadedFunctions
from benchmarks.proofs._operators import changes_of, draw

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(finetuning_async.__file__).parent

SOURCE = """\
LIMIT = 1 + 1


def is_low(count: int = 3 - 1) -> bool:
    text = f"{count + 1}!"
    return (
        count < 2
        # and not a comment
        and not text in "12"
    )


def wrapped(seen: list[int]) -> bool:
    return any(min(each, 5) == 5 for each in seen)
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "mutated_module.py"
    path.write_text(SOURCE)
    yield path
    sys.modules.pop("mutated_module", None)


def test_each_operator_within_a_function_is_replaced_by_another(path: Path) -> None:
    changes = changes_of(path, path.name)
    assert {(change.line, change.becomes) for change in changes} == {
        (7, "count <= 2"),
        (7, "count >= 2"),
        (7, "count < 3"),
        (9, 'or not text in "12")'),
        (9, 'and text in "12"'),
        (9, 'and not text not in "12"'),
        (14, "return any(max(each, 5) == 5 for each in seen)"),
        (14, "return any(min(each, 5) != 5 for each in seen)"),
        (14, "return any(min(each, 5) == 6 for each in seen)"),
    }


def test_who_has_imported_a_function_runs_the_changed_line(path: Path) -> None:
    from mutated_module import (  # type: ignore[import-not-found]
        is_low,
        wrapped,
    )

    changes = {change.becomes: change for change in changes_of(path, path.name)}
    assert (is_low(2), wrapped([7])) == (False, True)
    gc.freeze()  # as all that is loaded when the tests have been collected
    functions = LoadedFunctions()
    for line in ("count <= 2", "return any(max(each, 5) == 5 for each in seen)"):
        assert functions.replace(path, SOURCE, changes[line].apply(SOURCE)) == 1
    assert (is_low(2), wrapped([7])) == (True, False)


def test_a_seed_draws_the_same_mutants_again() -> None:
    modules = ["_pacing/_dealer", "_downloads/_placement"]
    drawn = draw(PACKAGE, modules, 20, seed=1)
    assert drawn == draw(PACKAGE, modules, 20, seed=1)
    assert drawn != draw(PACKAGE, modules, 20, seed=2)
    assert {change.wing for change in drawn} == {"pacing", "downloads"}


def test_each_equivalent_is_a_change_that_is_there() -> None:
    files = {equivalent.file for equivalent in EQUIVALENTS}
    changes = [each for file in files for each in changes_of(PACKAGE / file, file)]
    for equivalent in EQUIVALENTS:
        assert any(equivalent.is_of(change) for change in changes), equivalent
