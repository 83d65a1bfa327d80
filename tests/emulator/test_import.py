"""The emulator says what it needs, and knows nothing of the client."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import finetuning_async.emulator

MISSING = """
import sys
sys.modules[{name!r}] = None
import finetuning_async.emulator
"""


@pytest.mark.parametrize("name", ["lameenc", "starlette", "uvicorn"])
def test_a_missing_extra_is_named_with_its_remedy(name: str) -> None:
    code = MISSING.format(name=name)
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    last = run.stderr.splitlines()[-1]
    assert last.startswith("ImportError: the emulator needs")
    assert "pip install 'finetuning-async[emulator]'" in last


def test_nothing_of_the_client_is_imported() -> None:
    folder = Path(finetuning_async.emulator.__file__).parent
    for file in folder.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                ours = node.module.startswith("finetuning_async")
                assert not ours or node.module.startswith("finetuning_async.emulator")


def test_public_names_are_sorted_and_there() -> None:
    names = finetuning_async.emulator.__all__
    assert list(names) == sorted(names)
    assert all(hasattr(finetuning_async.emulator, name) for name in names)
