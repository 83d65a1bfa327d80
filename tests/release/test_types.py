"""What a strict type checker says to a program of a user's."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def test_a_program_of_a_users_passes_a_strict_checker(tmp_path: Path) -> None:
    """Beside mypy, which checks all of ours, pyright: it sees some things otherwise."""
    program = shutil.copy(HERE / "user_program.py", tmp_path)
    settings = {"typeCheckingMode": "strict", "extraPaths": [str(HERE.parents[1])]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    words = ["-m", "basedpyright", "--pythonpath", sys.executable, str(program)]
    ran = subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
