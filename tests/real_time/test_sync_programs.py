"""The guide to the blocking client: its programs and its blocks run as they stand."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests._served_emulator import served

if TYPE_CHECKING:
    from collections.abc import Iterator

    from finetuning_async.emulator import Emulator

pytestmark = pytest.mark.usefixtures("warm_programs")

ROOT: Final = Path(__file__).parents[2]
PROGRAMS: Final = ROOT / "tests" / "programs"
GUIDE: Final = (ROOT / "finetuning_async" / "guides" / "sync.md").read_text("utf-8")
BLOCKS: Final = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)
OTHER_BLOCKS: Final = [block for block in BLOCKS if not block.startswith('"""')]

TASKS: Final = """
import celery_tasks as c

for order in (1, 1, 2):
    c.make.delay("rain", f"order-{order}")
c.app.worker_main(["worker", "--pool=prefork", "--concurrency=2", "--loglevel=info"])
"""
"""Celery's broker in memory is one of a process, which also queues the tasks."""


@pytest.fixture(scope="module")
def service() -> Iterator[tuple[Emulator, str]]:
    with served() as (emulator, url):
        yield emulator, url


@pytest.fixture
def env(service: tuple[Emulator, str], tmp_path: Path) -> dict[str, str]:
    path = [str(PROGRAMS), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "FINETUNING_API_KEY": service[0].api_key,
        "FINETUNING_BASE_URL": service[1],
        "PYTHONPATH": os.pathsep.join(path),
        "XDG_STATE_HOME": str(tmp_path),
    }


@pytest.mark.parametrize("name", ["flask_app", "django_app", "celery_tasks"])
def test_the_guide_shows_the_program_that_is_tested(name: str) -> None:
    assert (PROGRAMS / f"{name}.py").read_text("utf-8") in BLOCKS


@pytest.mark.sampled(2)
@pytest.mark.parametrize("block", OTHER_BLOCKS)
def test_another_block_of_the_guide_runs(
    env: dict[str, str], tmp_path: Path, block: str
) -> None:
    command = [sys.executable, "-W", "error", "-c", block]
    ran = subprocess.run(
        command, env=env, cwd=tmp_path, capture_output=True, check=False, timeout=40
    )
    assert (ran.returncode, ran.stderr) == (0, b"")


def test_celery_workers_that_fork_use_the_client_of_their_parent(
    service: tuple[Emulator, str], env: dict[str, str], tmp_path: Path
) -> None:
    before = len(service[0].tracks)
    worker = subprocess.Popen(
        [sys.executable, "-c", TASKS],
        env=env,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    lines: list[str] = []
    assert worker.stderr is not None
    for line in worker.stderr:
        lines.append(line)
        if sum("succeeded" in each for each in lines) == 3 or "Traceback" in line:
            break
    # Asked to stop, Celery would take 8 s.
    os.killpg(worker.pid, signal.SIGKILL)
    worker.communicate()
    assert "Traceback" not in "".join(lines)
    assert {path.name for path in tmp_path.glob("*.mp3")} == {
        "order-1.mp3",
        "order-2.mp3",
    }
    assert len(service[0].tracks) - before == 2  # one for each order
