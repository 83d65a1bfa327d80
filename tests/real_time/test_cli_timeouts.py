"""``--timeout`` on real sockets: the program ends, and says how to resume."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.real_time.test_cli_process import BARE, run, started

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

pytestmark = pytest.mark.usefixtures("warm_programs")

TIMEOUT = 2.0
GRACE = 5.0
"""Seconds more that a create on the wire gets for its response."""

STARTING = 4.0
"""Seconds for the process itself, beside twice those of one that only starts; without
a bound it never ends."""

CREATES = [
    ("generate", "choir"),
    ("inst", "choir"),
    ("sfx", "generate", "choir"),
]
WAITS = ["wait", "sfx wait"]


def timed(*args: str, env: Mapping[str, str]) -> tuple[float, int, str]:
    """The seconds it took beyond starting, the exit code, and what it printed."""
    began = time.perf_counter()
    assert run("--version", env=env).returncode == 0
    ready = time.perf_counter()
    ran = run(*args, "--timeout", f"{TIMEOUT:g}", env=env)
    assert ran.stdout == ""
    assert "Traceback" not in ran.stderr
    took = time.perf_counter() - ready - 2 * (ready - began)
    return took, ran.returncode, ran.stderr


def timed_at_once(
    commands: list[tuple[str, ...]], env: Mapping[str, str]
) -> list[tuple[float, int, str]]:
    """The same of several programs, which wait at the same time."""
    with ThreadPoolExecutor(len(commands)) as pool:
        return list(pool.map(lambda words: timed(*words, env=env), commands))


def client_of(port: int) -> dict[str, str]:
    return {
        **BARE,
        "FINETUNING_API_KEY": "x",
        "FINETUNING_BASE_URL": f"http://127.0.0.1:{port}",
    }


@pytest.fixture
def silent() -> Iterator[dict[str, str]]:
    """The environment for a service that accepts connections and never responds."""
    with socket.create_server(("127.0.0.1", 0)) as service:
        yield client_of(service.getsockname()[1])


@pytest.fixture
def refusing() -> dict[str, str]:
    """The environment for a port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as service:
        return client_of(service.getsockname()[1])


@pytest.fixture(scope="module")
def busy() -> Iterator[tuple[Mapping[str, str], str]]:
    """The environment for an emulator with a full queue, and the id of its track."""
    args = ("emulator", "--port", "0", "-q", "--queue-size", "1", "--speed", "0.1")
    with started(*args) as process:
        assert process.stdout is not None
        line = process.stdout.readline().removeprefix("export ").split()
        env = {**BARE, **dict(word.split("=", 1) for word in line)}
        made = run("generate", "choir", "--no-wait", env=env)
        yield env, made.stdout.strip()


def test_a_create_times_out_without_a_response(silent: dict[str, str]) -> None:
    for took, code, said in timed_at_once(CREATES, silent):
        assert took < TIMEOUT + GRACE + STARTING
        assert code == 1
        assert "it may have been charged" in said
        assert "To look for it: finetuning" in said


def test_a_create_times_out_without_a_server(refusing: dict[str, str]) -> None:
    for took, code, said in timed_at_once(CREATES, refusing):
        assert took < TIMEOUT + STARTING
        assert code == 1
        assert "was not sent" in said


def test_a_create_times_out_in_a_full_queue(
    busy: tuple[Mapping[str, str], str],
) -> None:
    for took, code, said in timed_at_once(CREATES, busy[0]):
        assert took < TIMEOUT + STARTING
        assert code == 1
        assert "QUEUE_FULL" in said
        assert "Nothing was charged." in said


@pytest.mark.parametrize("service", ["silent", "refusing"])
def test_a_wait_times_out_and_prints_the_command_that_resumes(
    request: pytest.FixtureRequest, service: str
) -> None:
    env = dict(request.getfixturevalue(service))
    url = env.pop("FINETUNING_BASE_URL")
    ended = timed_at_once(
        [(*w.split(), "gen_1", "--base-url", url) for w in WAITS], env
    )
    for args, (took, code, said) in zip(WAITS, ended, strict=True):
        assert took < TIMEOUT + 1 + STARTING
        assert code == 1
        assert said.endswith(f"To resume: finetuning {args} gen_1 --base-url {url}\n")


def test_a_wait_that_times_out_prints_the_id(
    busy: tuple[Mapping[str, str], str],
) -> None:
    took, code, said = timed("wait", busy[1], env=busy[0])
    assert took < TIMEOUT + STARTING
    assert code == 1
    assert f"{busy[1]} is still in progress: it did not end within 2.0 s" in said
    assert f"To resume: finetuning wait {busy[1]}\n" in said


def test_the_timeout_of_a_create_covers_the_wait() -> None:
    with started("emulator", "--port", "0", "-q") as process:
        assert process.stdout is not None
        line = process.stdout.readline().removeprefix("export ").split()
        env = {**BARE, **dict(word.split("=", 1) for word in line)}
        took, code, said = timed("generate", "choir", env=env)
    made = said.split()[1]
    assert took < TIMEOUT + STARTING
    assert code == 1
    assert f"{made} is still in progress: it did not end within" in said
    assert f"To resume: finetuning wait {made} -o .\n" in said
