"""The blocking client in programs: Ctrl-C, forks, and exits without `close`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from finetuning_async.emulator import Fault
from tests._served_emulator import served
from tests._warm_programs import new_interpreters

if TYPE_CHECKING:
    from collections.abc import Iterator

    from finetuning_async.emulator import Emulator

pytestmark = pytest.mark.usefixtures("warm_programs")

ROOT: Final = Path(__file__).parents[2]
CREATES: Final = "/v1/generations"

START: Final = """
import os, sys, threading, time
from finetuning_async import (
    FinetuningError, GenerationRequest, RateLimit, RateLimits
)
from finetuning_async.sync import Client

def say(*words):
    print(*words, flush=True)

many = RateLimit(6000, per=60)  # so polls are frequent
limits = RateLimits(creates=many, reads=many)
client = Client(rate_limits=limits, journal=os.environ.get("JOURNAL"))
"""


@pytest.fixture(scope="module")
def service() -> Iterator[tuple[Emulator, str]]:
    with served(creates_per_minute=100_000, reads_per_minute=100_000) as (
        emulator,
        url,
    ):
        yield emulator, url


@pytest.fixture
def interpreters(warm_programs: None) -> Iterator[None]:
    """Programs of the test are new interpreters: how those exit is what it is about."""
    with new_interpreters():
        yield


class Program:
    """A program that uses `client`; it is interrupted at each line "now" of it."""

    def __init__(self, service: tuple[Emulator, str], body: str, **env: str) -> None:
        emulator, url = service
        emulator.clear_faults()
        self.emulator = emulator
        self._tracks, self._posts = set(emulator.tracks), emulator.count(method="POST")
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", START + body],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={
                **os.environ,
                "FINETUNING_API_KEY": emulator.api_key,
                "FINETUNING_BASE_URL": url,
                **env,
            },
        )

    def run(self) -> tuple[list[str], str]:
        """Interrupt it when it asks for it; its lines, and what is on stderr."""
        lines = []
        assert self._process.stdout is not None
        stop = threading.Timer(30, self._process.kill)
        stop.start()
        for line in self._process.stdout:
            lines.append(line.strip())
            if line.startswith("now"):
                self._wait_for_post() if "post" in line else time.sleep(0.2)
                self._process.send_signal(signal.SIGINT)
        _, stderr = self._process.communicate()
        stop.cancel()
        return lines, stderr

    def _wait_for_post(self) -> None:
        deadline = time.monotonic() + 10
        while not self.posts and time.monotonic() < deadline:
            time.sleep(0.01)

    @property
    def returncode(self) -> int:
        return int(self._process.returncode)

    @property
    def new_tracks(self) -> list[str]:
        return [each for each in self.emulator.tracks if each not in self._tracks]

    @property
    def posts(self) -> int:
        return self.emulator.count(method="POST") - self._posts


# Ctrl-C ---------------------------------------------------------------------------

WAITS: Final = """
def generate_many():
    with client.generate_many([GenerationRequest("rain")]) as outcomes:
        next(outcomes)
        next(iter(client.watch("no-such-track")))

began = time.monotonic()
client.me()
say("now")
try:
    {wait}
except KeyboardInterrupt:
    say("interrupted", time.monotonic() - began < 8)
say(client.me().tier)
"""


@pytest.mark.parametrize(
    "wait",
    [
        "client.wait_for_completion('no-such-track')",
        "generate_many()",
        "client.generate('rain', on_update=lambda _: time.sleep(20))",
    ],
)
def test_ctrl_c_ends_a_wait_at_once(service: tuple[Emulator, str], wait: str) -> None:
    program = Program(service, WAITS.format(wait=wait))
    lines, stderr = program.run()
    assert (lines, stderr) == (["now", "interrupted True", "pro"], "")


CREATE: Final = """
began = time.monotonic()
say("now a post is sent")
try:
    client.generate("rain", on_submitted=lambda track: say("id", track.id))
except KeyboardInterrupt:
    say("interrupted", time.monotonic() - began < 8)
"""


def test_ctrl_c_lets_a_create_in_flight_report_its_id(
    service: tuple[Emulator, str],
) -> None:
    program = Program(service, CREATE)
    program.emulator.add_fault(Fault("slow_answer", CREATES, method="POST", seconds=1))
    lines, stderr = program.run()
    (track_id,) = program.new_tracks
    assert (lines[1:], stderr) == ([f"id {track_id}", "interrupted True"], "")
    assert program.posts == 1


AGAIN: Final = """
began = time.monotonic()
say("now a post is sent")
threading.Timer(1.0, say, ["now"]).start()
try:
    client.generate("rain")
except KeyboardInterrupt:
    say("interrupted", time.monotonic() - began < 4)
"""


@pytest.mark.usefixtures("interpreters")
def test_a_second_ctrl_c_ends_the_call_and_the_exit_hears_the_create(
    service: tuple[Emulator, str],
) -> None:
    program = Program(service, AGAIN, FINETUNING_LOG="info")
    program.emulator.add_fault(
        Fault("slow_answer", CREATES, method="POST", seconds=4.5)
    )
    lines, stderr = program.run()
    assert lines[1:] == ["now", "interrupted True"]
    (track_id,) = program.new_tracks
    assert f"accepted music {track_id}" in stderr
    assert "Traceback" not in stderr


# Exits without `close` --------------------------------------------------------------

EXITS: Final = {
    "after a call": "client.me()",
    "in a block": """
outcomes = client.generate_many([GenerationRequest("rain")] * 3).__enter__()
next(outcomes)
""",
    "while threads wait": """
def wait():
    client.wait_for_completion("no-such-track")
for _ in range(5):
    threading.Thread(target=wait, daemon=True).start()
client.generate("rain")
""",
    "from a callback": """
client.generate("rain", on_update=lambda _: sys.exit(3))
""",
}


@pytest.mark.sampled(2)
@pytest.mark.usefixtures("interpreters")
@pytest.mark.parametrize("body", EXITS.values(), ids=EXITS)
def test_an_exit_without_close_hangs_not_and_says_nothing(
    service: tuple[Emulator, str], body: str
) -> None:
    program = Program(service, body)
    lines, stderr = program.run()
    assert (lines, stderr) == ([], "")
    # One that hangs is killed.
    assert program.returncode == (3 if "sys.exit(3)" in body else 0)


# Forks ------------------------------------------------------------------------------

FORKS: Final = """
def in_child(work):
    if os.fork() == 0:
        try:
            work()
        except FinetuningError as error:
            say(error)
        os._exit(0)
    os.wait()

def use():
    say(client.generate("rain", idempotency_key="child").status)
    client.close()
    say(client.is_closed)

in_child(use)
client.me()
states = client.watch(client.generations.create("rain"))
in_child(lambda: next(states))
busy = [
    threading.Thread(target=client.generate, args=(f"song {n}",)) for n in range(4)
]
for thread in busy:
    thread.start()
for _ in range(4):
    in_child(use)
    time.sleep(0.01)
for thread in busy:
    thread.join()
say(list(states)[-1].status, client.is_closed)
"""


def test_a_forked_child_uses_the_client_of_its_parent(
    service: tuple[Emulator, str], tmp_path: Path
) -> None:
    program = Program(service, FORKS, JOURNAL=str(tmp_path / "tracks.db"))
    lines, stderr = program.run()
    child = ["completed", "True"]
    assert (lines[:2], lines[3:-1], stderr) == (child, 4 * child, "")
    assert lines[2].startswith("this was begun before the process was forked")
    assert lines[-1] == "completed False"
    assert program.posts == 6  # one key is one track


HTTP_CLIENT: Final = """
import httpx
given = Client(http_client=httpx.AsyncClient())
for _ in range(2):
    if os.fork() == 0:
        try:
            say(given.me().tier)
        except FinetuningError as error:
            say(error)
        os._exit(0)
    os.wait()
    given.me()
"""


@pytest.mark.usefixtures("interpreters")
def test_a_forked_child_does_not_use_the_connections_of_its_parent(
    service: tuple[Emulator, str],
) -> None:
    lines, stderr = Program(service, HTTP_CLIENT).run()
    assert (lines[0], stderr) == ("pro", "")
    assert "make the Client in the child" in lines[1]
