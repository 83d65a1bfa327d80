"""Imports: what a wing needs, and the error that names what is missing."""

from __future__ import annotations

import subprocess
import sys

import pytest


def run(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("module", "missing"),
    [
        ("fastapi", "fastapi"),
        ("fastapi", "sse_starlette"),
        ("demo", "fastapi"),
        ("demo", "sse_starlette"),
        ("demo", "uvicorn"),
    ],
)
def test_a_missing_extra_is_named(module: str, missing: str) -> None:
    output = run(
        f"""
import sys
sys.modules[{missing!r}] = None
try:
    import finetuning_async.{module}
except ImportError as error:
    print(error)
"""
    )
    assert f"pip install 'finetuning-async[{module}]'" in output
    assert missing in output


def test_the_core_loads_no_web_framework() -> None:
    output = run(
        "import sys; import finetuning_async; finetuning_async.AsyncClient;"
        "print([n for n in ('fastapi', 'sse_starlette', 'starlette', 'uvicorn',"
        "'finetuning_async.webhooks') if n in sys.modules])"
    )
    assert output == "[]"
