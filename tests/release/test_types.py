"""What strict type checkers say to programs of a user, of the README and the guides."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.release._guides import GUIDES, ROOT, as_module, fragments, programs

HERE = Path(__file__).parent
TEXTS = [ROOT / "README.md", *GUIDES]
PROGRAM = '"""'
"""How a block begins that is a file of `tests/programs`; mypy checks it there."""


@pytest.fixture
def modules(tmp_path: Path) -> list[str]:
    """The names of the files of a program, and of each Python block for people."""
    names = [Path(shutil.copy(HERE / "user_program.py", tmp_path)).name]
    for text in TEXTS:
        whole = [block for block in programs(text) if not block.startswith(PROGRAM)]
        for block in [*whole, *map(as_module, fragments(text))]:
            names.append(f"{text.stem.lower().replace('-', '_')}_{len(names)}.py")
            (tmp_path / names[-1]).write_text(block, encoding="utf-8")
    assert len(names) > 3
    return names


@pytest.mark.long  # `.ci/run` runs it beside the other types
def test_they_pass_a_strict_pyright(tmp_path: Path, modules: list[str]) -> None:
    """Beside mypy, which checks all of ours, pyright: it sees some things otherwise."""
    settings = {
        "typeCheckingMode": "strict",
        "extraPaths": [str(ROOT)],
        "reportUnnecessaryTypeIgnoreComment": "error",  # so that what must fail does
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    said = checked(tmp_path, "basedpyright", "--pythonpath", sys.executable, *modules)
    assert said == "0 errors, 0 warnings, 0 notes"


@pytest.mark.long  # `.ci/run` runs it with the cache of its check of all of ours
def test_they_pass_a_strict_mypy(tmp_path: Path, modules: list[str]) -> None:
    settings = f"--config-file={ROOT / 'pyproject.toml'}"
    paths = [str(tmp_path / name) for name in modules]
    said = checked(ROOT, "mypy", "--strict", settings, *paths)
    assert said == f"Success: no issues found in {len(modules)} source files"


def checked(folder: Path, *words: str) -> str:
    """What a checker says in this folder."""
    ran = subprocess.run(
        [sys.executable, "-m", *words],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
    )
    return ran.stdout.strip() + ran.stderr.strip()
