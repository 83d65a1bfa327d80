"""Ctrl-C at any moment of a process's life never shows a traceback.

Before the first line of the program only Python runs: there no handler can help.
"""

from __future__ import annotations

import os
import pty
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests._raw_server import KEY
from tests.real_time.test_cli_process import BARE, PROGRAM

if TYPE_CHECKING:
    from collections.abc import Iterator

AT_AN_IMPORT = """
import os, signal, sys
nth, times = int(sys.argv[1]), int(sys.argv[2])
seen = 0

def count(event, args):
    global seen
    if event == "import":
        seen += 1
        if seen == nth:
            for _ in range(times):
                os.kill(os.getpid(), signal.SIGINT)

from finetuning_async.cli import main, _signals
sys.argv[1:] = ["generate", "choir"]
sys.addaudithook(count)
sys.exit(main())
"""

AT_THE_END = """
import atexit, os, signal, sys
atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))  # the last to be called
from finetuning_async.cli import main
sys.argv[1:] = ["--version"]
sys.exit(main())
"""

BEGUN = """
import os, sys
reported = []

def report(event, args):
    if event == "import" and not reported:
        reported.append(os.write(1, b"begun\\n"))

from finetuning_async.cli import main, _signals
sys.addaudithook(report)
sys.exit(main())
"""


@pytest.fixture
def silent() -> Iterator[dict[str, str]]:
    """The environment for a service that never responds."""
    with socket.create_server(("127.0.0.1", 0)) as service:
        url = "http://127.0.0.1:{}".format(*service.getsockname()[1:])
        yield {**BARE, "FINETUNING_API_KEY": KEY, "FINETUNING_BASE_URL": url}


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("nth", [1, 3, 30, 90, 150])
def test_ctrl_c_during_imports_prints_one_line(nth: int, times: int) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", AT_AN_IMPORT, str(nth), str(times)],
        capture_output=True,
        text=True,
        env=BARE,
        check=False,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "", "Interrupted.\n")


def test_ctrl_c_during_shutdown_changes_nothing() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", AT_THE_END],
        capture_output=True,
        text=True,
        env=BARE,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.sampled(3)
@pytest.mark.parametrize("gap", [None, 0.0, 0.02])
@pytest.mark.parametrize("delay", [0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6])
def test_ctrl_c_soon_after_the_start_once_or_twice_shows_no_traceback(
    silent: dict[str, str], delay: float, gap: float | None
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", BEGUN, "list"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=silent,
    )
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        if gap is not None:
            time.sleep(gap)
            process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (130, "Interrupted.\n")


def test_two_quick_ctrl_c_count_as_one_and_the_id_is_printed() -> None:
    """A second press within half a second does not give up a paid track."""
    with socket.create_server(("127.0.0.1", 0)) as service:
        url = "http://127.0.0.1:{}".format(*service.getsockname()[1:])
        env = {**BARE, "FINETUNING_API_KEY": "x", "FINETUNING_BASE_URL": url}
        process = subprocess.Popen(
            [*PROGRAM, "generate", "choir"], stderr=subprocess.PIPE, text=True, env=env
        )
        with process:
            connection = service.accept()[0]
            assert connection.recv(4096)
            process.send_signal(signal.SIGINT)
            time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            time.sleep(0.05)
            body = b'{"data": {"id": "gen_1", "status": "pending", "prompt": "choir"}}'
            head = f"HTTP/1.1 202 Accepted\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
            _, err = process.communicate(timeout=10)
        connection.close()
    assert process.returncode == 130
    assert "To resume: finetuning wait gen_1" in err
    assert "Traceback" not in err


def test_exiting_at_once_shows_the_cursor_again() -> None:
    master, slave = pty.openpty()
    with socket.create_server(("127.0.0.1", 0)) as service:
        url = "http://127.0.0.1:{}".format(*service.getsockname()[1:])
        env = {**BARE, "FINETUNING_API_KEY": KEY, "FINETUNING_BASE_URL": url}
        process = subprocess.Popen(
            [*PROGRAM, "generate", "choir"],
            stderr=slave,
            env={**env, "TERM": "xterm-256color"},
        )
        os.close(slave)
        shown = b""
        with process, service.accept()[0] as connection:
            assert connection.recv(4096)  # before that one Ctrl-C is enough
            process.send_signal(signal.SIGINT)
            while b"to quit now" not in shown:
                shown += os.read(master, 4096)
            process.send_signal(signal.SIGINT)
            while chunk := _read(master):
                shown += chunk
    os.close(master)
    assert process.returncode == 130
    assert shown.rindex(b"\x1b[?25h") > shown.rindex(b"\x1b[?25l")
    assert b"Interrupted." in shown


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # Linux raises it once the other side has closed
        return b""
