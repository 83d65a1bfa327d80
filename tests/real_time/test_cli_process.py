"""The program as a process: signals, pipes, a terminal, a port."""

from __future__ import annotations

import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests._warm_programs import new_interpreters, python

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("warm_programs")

PROGRAM = (sys.executable, "-m", "finetuning_async")
BARE = {
    **{n: value for n, value in os.environ.items() if not n.startswith("FINETUN")},
    # No settings and no keyring of the user who runs the tests.
    "FINETUNING_CONFIG_HOME": os.devnull,
    "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
}

TERMINAL = """
import os, pty, sys
sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))
"""


def shell_program() -> str:
    """The program as a shell starts it."""
    return " ".join((*python(), *PROGRAM[1:]))


def run(
    *args: str, env: Mapping[str, str] = BARE, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *args],
        capture_output=True,
        text=True,
        env=env,
        cwd=cwd,
        check=False,
    )


@contextmanager
def started(
    *args: str, env: Mapping[str, str] = BARE
) -> Generator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*PROGRAM, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def service() -> Iterator[Mapping[str, str]]:
    """The environment for an emulator on a port, at speed 1.

    Its queue is long: more of these tests may run in a minute than tracks end.
    """
    options = ("--playlist", "Beds", "--creates-per-minute", "99", "--queue-size", "99")
    with started("emulator", "--port", "0", "-q", *options) as process:
        assert process.stdout is not None
        line = process.stdout.readline().removeprefix("export ").split()
        yield {**BARE, **dict(word.split("=", 1) for word in line)}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_emulator_with_code_0(number: int) -> None:
    with started("emulator", "--port", "0", "--speed", "20") as process:
        assert process.stdout is not None
        assert "FINETUNING_BASE_URL=http://127.0.0.1:" in process.stdout.readline()
        process.send_signal(number)
        out, err = process.communicate(timeout=10)
    assert (process.returncode, out) == (0, "")
    assert "not the service" in err
    assert "RateLimits(creates=RateLimit(10, per=3), reads=RateLimit(60, per=3))" in err
    assert err.endswith("The emulator has stopped; its tracks are lost.\n")


def test_an_emulator_on_all_addresses_prints_a_usable_url() -> None:
    everywhere = "0.0.0.0"  # noqa: S104 - for a moment
    with started("emulator", "--host", everywhere, "--port", "0", "-q") as process:
        assert process.stdout is not None
        assert "FINETUNING_BASE_URL=http://127.0.0.1:" in process.stdout.readline()


def test_a_port_in_use_is_an_error(service: Mapping[str, str]) -> None:
    port = service["FINETUNING_BASE_URL"].rpartition(":")[2]
    ran = run("emulator", "--port", port)
    assert ran.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in ran.stderr
    assert "--port 0" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_the_commands_reach_an_emulator_on_a_port(service: Mapping[str, str]) -> None:
    assert run("health", env=service).stdout == "ok\n"
    made = run("generate", "choir", "--no-wait", env=service)
    assert made.returncode == 0
    assert run("get", made.stdout.strip(), env=service).returncode == 0
    assert run("doctor", env=service).returncode == 0


def test_playlists_and_deletion_reach_it_too(service: Mapping[str, str]) -> None:
    made = run("inst", "choir", "--no-wait", env=service).stdout.strip()
    assert run("playlist", "add", "beds", made, env=service).stderr == "1 of 1 added\n"
    assert made in run("playlist", "show", "BEDS", env=service).stdout
    refused = run("delete", made, env=service)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert run("delete", made, "-y", env=service).stderr == "1 of 1 deleted\n"
    assert made not in run("playlist", "show", "beds", env=service).stdout


def test_an_effect_is_created_on_a_port(service: Mapping[str, str]) -> None:
    made = run("sfx", "gen", "crate", "--no-wait", env=service).stdout.strip()
    assert made in run("sfx", "list", env=service).stdout


def test_delete_at_a_terminal_asks_for_confirmation(service: Mapping[str, str]) -> None:
    made = run("generate", "choir", "--no-wait", env=service).stdout.strip()
    code, shown = _typed(["delete", made], "track? [y/N]: ", "n\r", service)
    assert (code, "Nothing was deleted." in shown) == (0, True)
    code, shown = _typed(["delete", made], "track? [y/N]: ", "y\r", service)
    assert (code, "1 of 1 deleted" in shown) == (0, True)


def test_a_key_typed_at_a_terminal_is_not_echoed(
    service: Mapping[str, str], tmp_path: Path
) -> None:
    key = service["FINETUNING_API_KEY"]
    env = {**service, "FINETUNING_CONFIG_HOME": str(tmp_path / "new")}
    del env["FINETUNING_API_KEY"]
    code, shown = _typed(["auth", "login"], "API key: ", key + "\r", env)
    assert code == 0
    assert "Logged in as dev@example.org" in shown
    assert key not in shown
    assert run("me", env=env).returncode == 0


@pytest.mark.parametrize("args", [["auth", "login"], ["me", "--api-key-stdin"]])
def test_ctrl_c_at_a_prompt_leaves_nothing(tmp_path: Path, args: list[str]) -> None:
    env = {**BARE, "FINETUNING_CONFIG_HOME": str(tmp_path / "new")}
    code, shown = _typed(args, "API key: ", "\x03", env)
    assert code == 130
    assert "Interrupted." in shown
    assert "Traceback" not in shown
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_an_interrupted_wait_prints_the_id(
    service: Mapping[str, str], number: int, code: int
) -> None:
    with started("generate", "choir", env=service) as process:
        assert process.stderr is not None
        accepted = process.stderr.readline().split()[1]
        process.send_signal(number)
        out, err = process.communicate(timeout=10)
    assert (process.returncode, out) == (code, "")
    assert f"finetuning wait {accepted} -o ." in err
    assert "Traceback" not in err


def test_a_second_ctrl_c_does_not_wait_for_the_response() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = "http://127.0.0.1:{}".format(*silent.getsockname()[1:])
        env = {**BARE, "FINETUNING_API_KEY": "x", "FINETUNING_BASE_URL": url}
        with started("generate", "choir", env=env) as process:
            connection = silent.accept()[0]
            assert connection.recv(4096)
            process.send_signal(signal.SIGINT)
            assert process.stderr is not None
            lines = iter(process.stderr.readline, "")
            assert any("Ctrl-C again to quit now" in line for line in lines)
            process.send_signal(signal.SIGINT)
            rest = "".join(lines)
        connection.close()
    assert process.returncode == 130
    assert "Interrupted. A request was sent, but no response came" in rest
    assert "Traceback" not in rest


def test_a_full_disk_is_an_error(service: Mapping[str, str]) -> None:
    run("generate", "rain", "--no-wait", env=service)  # an empty list prints nothing
    ran = subprocess.run(
        ["/bin/sh", "-c", f"{shell_program()} list > /dev/full"],
        capture_output=True,
        text=True,
        env=service,
        check=False,
    )
    assert ran.returncode == 1
    assert ran.stderr == "Error: [Errno 28] No space left on device\n"


def test_closed_streams_are_no_error(service: Mapping[str, str]) -> None:
    args = ["/bin/sh", "-c", f"{shell_program()} list >&- 2>&-"]
    assert subprocess.run(args, env=service, check=False).returncode == 0


@pytest.mark.parametrize("lost", ["2>/dev/full", "2>&1 >/dev/null | head -n 1"])
def test_a_paid_track_is_saved_even_if_stderr_is_unwritable(
    tmp_path: Path, lost: str
) -> None:
    args = "generate choir --duration 5 --emulator --speed 60 -o made.mp3"
    command = f"{shell_program()} {args} {lost}"
    ran = subprocess.run(
        ["/bin/bash", "-c", f"set -o pipefail; {command}"],
        env=BARE,
        cwd=tmp_path,
        check=False,
        capture_output=True,
    )
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert (tmp_path / "made.mp3").stat().st_size > 10_000


def test_text_that_stdout_cannot_encode_is_escaped(service: Mapping[str, str]) -> None:
    made = run("generate", "夜", "--no-wait", env=service).stdout.strip()
    env = {**service, "PYTHONIOENCODING": "latin-1"}
    ran = run("get", made, env=env)
    assert ran.returncode == 0
    assert "\\u591c" in ran.stdout


@pytest.mark.parametrize("args", ["list", "list --json", "--help"])
def test_a_reader_that_closes_stdout_early_is_no_error(
    service: Mapping[str, str], args: str
) -> None:
    run("generate", "rain", "--no-wait", env=service)  # an empty list has a note
    pipeline = f"{shell_program()} {args} | true; echo ${{PIPESTATUS[0]}}"
    ran = subprocess.run(
        ["/bin/bash", "-c", pipeline],
        capture_output=True,
        text=True,
        env=service,
        check=False,
    )
    assert (ran.stdout, ran.stderr) == ("0\n", "")


@pytest.mark.parametrize("colours", [True, False])
def test_on_a_terminal_a_bar_shows_the_time(tmp_path: Path, colours: bool) -> None:
    env = {**BARE, "TERM": "xterm-256color", "NO_COLOR": "" if colours else "1"}
    shown = _on_a_terminal(
        ["generate", "--emulator", "--speed", "60", "choir", "--duration", "5"],
        env,
        tmp_path,
    )
    assert "of about 0:01" in shown
    assert "Saved choir-" in shown
    assert ("\x1b[38;5;" in shown) == colours
    assert len(list(tmp_path.glob("choir-*.mp3"))) == 1


def _on_a_terminal(args: list[str], env: Mapping[str, str], folder: Path) -> str:
    """What the program prints on a terminal as its stderr."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*PROGRAM, *args], stdout=subprocess.PIPE, stderr=slave, env=env, cwd=folder
    )
    os.close(slave)
    shown = b""
    with process:
        while chunk := _read(master):
            shown += chunk
        assert process.stdout is not None
        assert process.stdout.read() == b""
    os.close(master)
    return shown.decode()


def _typed(
    args: list[str], prompt: str, answer: str, env: Mapping[str, str]
) -> tuple[int, str]:
    """Type an answer at a prompt; the exit code, and everything that is shown."""
    with subprocess.Popen(
        [sys.executable, "-c", TERMINAL, *PROGRAM, *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=env,
    ) as terminal:
        assert terminal.stdin is not None
        assert terminal.stdout is not None
        shown = b""
        while chunk := os.read(terminal.stdout.fileno(), 4096):
            shown += chunk
            if shown.endswith(prompt.encode()):
                terminal.stdin.write(answer.encode())
                terminal.stdin.flush()
    return terminal.returncode, shown.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # Linux raises it once the other side has closed
        return b""


@pytest.mark.parametrize("args", ["", "generate", "auth login", "sfx wait", "delete"])
def test_help_is_quick(args: str) -> None:
    took = (_seconds(*args.split(), "--help") for _ in range(3))
    assert any(seconds < 1.0 for seconds in took)  # 0.2 on a quiet machine


def _seconds(*args: str) -> float:
    began = time.perf_counter()
    with new_interpreters():
        assert run(*args).returncode == 0
    return time.perf_counter() - began


def test_the_module_is_the_program() -> None:
    with new_interpreters():
        said = run("--version").stdout
    assert re.fullmatch(r"finetuning \d+\.\d+\.\d+\S*\n", said)
