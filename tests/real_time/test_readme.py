"""Every Python block of the README runs as it stands, against an emulator on a port."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from finetuning_async.emulator import Emulator, serve

pytestmark = pytest.mark.usefixtures("warm_programs")

README = Path(__file__).parents[2] / "README.md"
FENCED = re.DOTALL | re.MULTILINE
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README.read_text(), FENCED)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # uvicorn supports no other loop


def test_the_readme_is_short_and_has_its_two_commands_first() -> None:
    text = README.read_text()
    assert text.count("\n") < 200
    commands = re.findall(r"^```sh\n(.*?)^```$", text, FENCED)
    assert "generate" in commands[0]
    assert "pytest" in commands[1]


def test_the_backend_of_the_readme_is_the_one_that_is_tested() -> None:
    example = (README.parent / "tests" / "programs" / "fastapi_app.py").read_text()
    _, _, program = example.removeprefix('"""').partition('"""')
    assert program.lstrip() in BLOCKS


@pytest.mark.parametrize("number", range(len(BLOCKS)))
async def test_a_python_block_of_the_readme_runs(number: int, tmp_path: Path) -> None:
    async with Emulator(speed=100) as emulator, serve(emulator) as url:
        done = await anyio.to_thread.run_sync(
            lambda: subprocess.run(
                [sys.executable, "-W", "error", "-c", BLOCKS[number]],
                cwd=tmp_path,
                env={
                    **os.environ,
                    "FINETUNING_BASE_URL": url,
                    "FINETUNING_API_KEY": emulator.api_key,
                    "HOOK_SECRETS": "a_secret_of_thirty_two_characters",
                    "PUBLIC_URL": "https://me.example",
                },
                capture_output=True,
                text=True,
                check=False,
                timeout=40,
            )
        )
    assert (done.returncode, done.stderr) == (0, "")
