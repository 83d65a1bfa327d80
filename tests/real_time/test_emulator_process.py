"""`EmulatorProcess`: the emulator for suites that only know HTTP."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from finetuning_async.testing import EmulatorProcess
from tests._warm_programs import new_interpreters

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.usefixtures("warm_programs")


def listens(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=20).status_code == 200
    except httpx.ConnectError:
        return False


def test_it_listens_in_the_block_and_is_gone_after_it() -> None:
    with EmulatorProcess(("--queue-size", "2")) as emulator:
        headers = {"X-API-Key": emulator.api_key}
        me = httpx.get(f"{emulator.url}/v1/me", headers=headers, timeout=20)
        assert me.json()["data"]["tier"] == "pro"
        settings = httpx.get(f"{emulator.control_url}/settings", timeout=20).json()
        assert settings["settings"]["queue_size"] == 2
        url, pid = emulator.url, emulator.pid
        assert repr(emulator).count(emulator.api_key) == 0
    assert not listens(url)
    if os.name != "nt":
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_two_run_side_by_side() -> None:
    with EmulatorProcess() as one, EmulatorProcess() as two:
        assert one.url != two.url
        assert listens(one.url)
        assert listens(two.url)


def test_an_option_that_is_wrong_is_told() -> None:
    emulator = EmulatorProcess(("--queue-size", "0"))
    with pytest.raises(RuntimeError, match=r"exit code \d[\s\S]*--queue-size"):
        emulator.start()
    assert emulator.pid == 0


def test_one_that_is_too_slow_is_stopped() -> None:
    emulator = EmulatorProcess(start_timeout=0.01)
    with pytest.raises(RuntimeError, match=r"within 0\.01 s"):
        emulator.start()


def test_it_is_started_once() -> None:
    with EmulatorProcess() as emulator:
        with pytest.raises(RuntimeError, match=rf"runs already.*{emulator.pid}"):
            emulator.start()


def test_a_crash_leaves_what_was_kept(tmp_path: Path) -> None:
    emulator = EmulatorProcess(("--state-dir", str(tmp_path)))
    emulator.start()
    httpx.post(f"{emulator.control_url}/tracks", json={"prompt": "x"}, timeout=20)
    time.sleep(1)
    emulator.kill()
    emulator.start()
    try:
        state = httpx.get(f"{emulator.control_url}/state", timeout=20).json()
        assert state["tracks"]["completed"] == 1
    finally:
        emulator.stop()
    emulator.stop()  # a second time is nothing


def test_importing_it_needs_no_emulator() -> None:
    code = "import finetuning_async.testing as t, sys; t.EmulatorProcess;"
    code += "assert 'starlette' not in sys.modules"
    with new_interpreters():
        subprocess.run([sys.executable, "-c", code], check=True)
