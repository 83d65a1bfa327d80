"""What strict type checkers say to programs of a user, of the README and the guides."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TEXTS = [ROOT / "README.md", *ROOT.glob("finetuning_async/guides/*.md")]
PROGRAM = '"""'
"""How a block begins that is a file of `tests/programs`; mypy checks it there."""


@pytest.fixture
def programs(tmp_path: Path) -> list[str]:
    """The names of the files of a program, and of each Python block for people."""
    names = [Path(shutil.copy(HERE / "user_program.py", tmp_path)).name]
    fenced = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    for text in TEXTS:
        for found in fenced.findall(text.read_text("utf-8")):
            if not found.startswith(PROGRAM):
                names.append(f"{text.stem.lower().replace('-', '_')}_{len(names)}.py")
                (tmp_path / names[-1]).write_text(found, encoding="utf-8")
    assert len(names) > 3
    return names


def test_they_pass_a_strict_pyright(tmp_path: Path, programs: list[str]) -> None:
    """Beside mypy, which checks all of ours, pyright: it sees some things otherwise."""
    settings = {"typeCheckingMode": "strict", "extraPaths": [str(ROOT)]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    said = checked(tmp_path, "basedpyright", "--pythonpath", sys.executable, *programs)
    assert said == "0 errors, 0 warnings, 0 notes"


def test_they_pass_a_strict_mypy(
    tmp_path: Path, programs: list[str], pytestconfig: pytest.Config
) -> None:
    assert pytestconfig.cache is not None
    cache = f"--cache-dir={pytestconfig.cache.mkdir('mypy')}"
    said = checked(tmp_path, "mypy", "--strict", "--config-file=", cache, *programs)
    assert said == f"Success: no issues found in {len(programs)} source files"


def checked(folder: Path, *words: str) -> str:
    """What a checker says, of programs that lie where its user's lie."""
    ran = subprocess.run(
        [sys.executable, "-m", *words],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
    )
    return ran.stdout.strip() + ran.stderr.strip()
