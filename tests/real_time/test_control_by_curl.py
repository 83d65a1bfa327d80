"""A program that only knows HTTP, a shell script with curl, rehearses every error."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from finetuning_async.testing import EmulatorProcess

SCRIPT = Path(__file__).parents[1] / "programs" / "control.sh"
EXPECTED = """\
401 MISSING_API_KEY
401 INVALID_API_KEY
400 VALIDATION_ERROR
404 NOT_FOUND
403 PRO_PLAN_REQUIRED
402 MONTHLY_LIMIT_REACHED
202
429 QUEUE_FULL
202
429 GENERATION_RATE_LIMITED
Retry-After N
200
429 RATE_LIMITED
500 GENERATION_FAILED
500 INTERNAL_ERROR
202
200
processing
200
completed
lost
1
202
200
completed
an hour later
"""


@pytest.mark.skipif(
    shutil.which("curl") is None or os.name == "nt", reason="needs sh and curl"
)
def test_a_shell_script_makes_every_error() -> None:
    with EmulatorProcess(("--window-phase", "0")) as emulator:
        env = {**os.environ, "URL": emulator.url, "KEY": emulator.api_key}
        words = ["sh", str(SCRIPT)]
        ran = subprocess.run(
            words, env=env, capture_output=True, text=True, check=False
        )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.sub(r"Retry-After \d+", "Retry-After N", ran.stdout) == EXPECTED
    (seconds,) = re.findall(r"Retry-After (\d+)", ran.stdout)
    assert 1 <= int(seconds) <= 60
