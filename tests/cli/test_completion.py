"""Shell completion: the script, and what it offers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    Run = Callable[..., Result]


def _completed(finetuning: Run, *args: str) -> list[str]:
    """What bash would offer after these words; the last one may be incomplete."""
    variables = {
        "_FINETUNING_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(("finetuning", *args)),
        "COMP_CWORD": str(len(args)),
    }
    ran = finetuning([], env=variables, prog_name="finetuning")
    return [line.removeprefix("plain,") for line in ran.stdout.splitlines()]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_the_one_click_makes(finetuning: Run, shell: str) -> None:
    ran = finetuning(["completion", shell])
    assert ran.exit_code == 0
    assert f"_FINETUNING_COMPLETE={shell}_complete" in ran.stdout
    variable = {"_FINETUNING_COMPLETE": f"{shell}_source"}
    clicks = finetuning([], env=variable, prog_name="finetuning").stdout
    assert clicks.rstrip() == ran.stdout.rstrip()


def test_an_unknown_shell_is_rejected(finetuning: Run) -> None:
    assert finetuning(["completion", "tcsh"]).exit_code == 2


@pytest.mark.parametrize(
    ("args", "offered"),
    [
        (["pl"], ["playlists", "playlist"]),
        (["auth", ""], ["login", "logout", "whoami"]),
        (["playlist", "m"], ["move"]),
        (["sfx", "g"], ["generate", "get"]),
        (["generate", "--time"], ["--time-sig", "--timeout"]),
        (["inst", "--no-e"], ["--no-enhance"]),
        (["--verb"], ["--verbose"]),
    ],
)
def test_commands_and_options_are_completed(
    finetuning: Run, args: list[str], offered: list[str]
) -> None:
    assert _completed(finetuning, *args) == offered


def test_bash_completes_with_the_script(tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")
    program = tmp_path / "finetuning"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m finetuning_async "$@"\n')
    program.chmod(0o755)
    script = """
eval "$(finetuning completion bash)"
COMP_WORDS=(finetuning playl) COMP_CWORD=1
_finetuning_completion finetuning playl finetuning
echo "${COMPREPLY[@]}"
"""
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        [bash, "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path},
        check=False,
    )
    assert ran.stdout.splitlines()[-1:] == ["playlists playlist"]
