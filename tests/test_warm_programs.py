"""A program forked from a warm parent is what a new interpreter would have been."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests._warm_programs import new_interpreters, python, warm_parent, warm_programs

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["warm_parent", "warm_programs"]

pytestmark = [
    pytest.mark.usefixtures("warm_programs"),
    pytest.mark.skipif(
        sys.platform != "linux", reason="programs are forked on Linux only"
    ),
]

FACTS = """
import os, sys, warnings
print(__name__, sys.argv, os.getcwd(), sys.path[0], sorted(os.environ)[-1])
print(sys.stdin.read(), os.environ["ZZ"], sys.stdout.isatty(), len(warnings.filters))
"""
SLEEPER = "PY -c 'import time; print(1, flush=True); time.sleep(9)'"
UNTIL_BEGUN = "until [ -s f ]; do sleep 0.01; done"


def both(*words: str, **more: object) -> subprocess.CompletedProcess[str]:
    """What a program did, the same in a fork and in a new interpreter."""
    command = [sys.executable, *words]
    options = {"capture_output": True, "text": True, "check": False, **more}
    with new_interpreters():
        expected = subprocess.run(command, **options)  # type: ignore[call-overload]
    ran: subprocess.CompletedProcess[str]
    ran = subprocess.run(command, **options)  # type: ignore[call-overload]
    assert (ran.returncode, ran.stdout) == (expected.returncode, expected.stdout)
    assert ran.stderr == expected.stderr
    return ran


def test_it_has_its_own_arguments_folder_environment_and_input(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(FACTS)
    env = {**os.environ, "ZZ": "1", "PYTHONPATH": str(tmp_path)}
    for words in (["-c", FACTS], ["-m", "program"], ["program.py"]):
        both(*words, "a", "b", cwd=tmp_path, env=env, input="typed")
    both("-W", "error", "-c", FACTS, cwd=tmp_path, env=env, input="")


@pytest.mark.parametrize(
    ("program", "code"),
    [
        ("1 / 0", 1),
        ("raise SystemExit('no')", 1),
        ("import sys; sys.exit(7)", 7),
        ("raise KeyboardInterrupt", -signal.SIGINT),
        ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL),
        ("import atexit; atexit.register(print, 'at the end'); print('before')", 0),
        ("import threading as t; t.Timer(0.1, print, ['a thread']).start()", 0),
        ("import warnings; warnings.warn('shown')", 0),
    ],
)
def test_it_ends_in_the_same_way(program: str, code: int) -> None:
    assert both("-c", program).returncode == code


def test_what_is_not_buffered_is_written_at_once() -> None:
    program = "import os; print('begun'); os._exit(0)"  # which flushes nothing
    assert both("-u", "-c", program).stdout == "begun\n"
    both("-c", program)  # as the environment says


def test_it_is_a_child_and_takes_descriptors_and_signals() -> None:
    reading, writing = os.pipe()
    program = f"import os; os.write({writing}, b'x'); input()"
    command = [sys.executable, "-c", program]
    with subprocess.Popen(
        command, pass_fds=[writing], stdin=subprocess.PIPE, start_new_session=True
    ) as process:
        assert os.read(reading, 1) == b"x"
        assert os.getpgid(process.pid) == process.pid
        process.terminate()
        assert process.wait(10) == -signal.SIGTERM
    for descriptor in (reading, writing):
        os.close(descriptor)


@pytest.mark.parametrize(
    ("line", "printed"),
    [
        ("umask 077; PY -c 'import os; print(os.umask(0))'", "63\n"),
        ("PY -c 'import os; os.write(5, b\"to 5\")' 5>&1", "to 5"),
        ("PY -c 'import sys; print(sys.stdout)' >&-; echo $?", "0\n"),
        ("PY -c 'import os; os.kill(os.getpid(), 9)'; echo $?", "137\n"),
        (f"{SLEEPER} > f & {UNTIL_BEGUN}; kill -TERM $!; wait $!; echo $?", "143\n"),
    ],
)
def test_a_shell_starts_it_with_what_it_has(
    line: str, printed: str, tmp_path: Path
) -> None:
    command = ["/bin/bash", "-c", line.replace("PY", " ".join(python()))]
    ran = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=20
    )
    assert ran.stdout == printed
