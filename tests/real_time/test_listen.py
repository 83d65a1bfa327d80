"""``finetuning listen``: webhooks reach a program on this machine, without a tunnel."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from finetuning_async.testing import EmulatorProcess
from tests.real_time.test_cli_process import BARE, PROGRAM, run

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator


pytestmark = pytest.mark.usefixtures("warm_programs")


class Receiver:
    """A program on this machine that gets webhooks."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        self.status = 204
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append(
                    (self.path, json.loads(body), dict(self.headers.items()))
                )
                self.send_response(receiver.status)
                self.end_headers()

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def emulator() -> Iterator[EmulatorProcess]:
    fast = ("--speed", "20", "--generation-time", "10", "--effect-time", "10")
    with EmulatorProcess((*fast, "--reads-per-minute", "10000")) as emulator:
        yield emulator


@contextmanager
def listening(
    emulator: EmulatorProcess, forward_to: str
) -> Generator[subprocess.Popen[str]]:
    words = [*PROGRAM, "listen", "--forward-to", forward_to, "--interval", "1"]
    env = {
        **BARE,
        "FINETUNING_BASE_URL": emulator.url,
        "FINETUNING_API_KEY": emulator.api_key,
    }
    pipe = subprocess.PIPE
    with subprocess.Popen(
        words, stdout=pipe, stderr=pipe, text=True, env=env
    ) as process:
        try:
            until(lambda: bool(requests(emulator, "/v1/sound-effects")))
            yield process
        finally:
            process.kill()


def until(truth: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not truth():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def requests(emulator: EmulatorProcess, path: str) -> list[Any]:
    query = {"path": path, "method": "GET"}
    answer = httpx.get(f"{emulator.control_url}/requests", params=query)
    rows: list[Any] = answer.json()["requests"]
    return [row for row in rows if row["status"] == 200]


def control(emulator: EmulatorProcess, path: str, body: Any) -> Any:
    answer = httpx.post(f"{emulator.control_url}{path}", json=body)
    assert answer.status_code < 300, answer.text
    return answer.json()


def create(emulator: EmulatorProcess, path: str, **wish: Any) -> str:
    headers = {"X-API-Key": emulator.api_key}
    answer = httpx.post(f"{emulator.url}{path}", json=wish, headers=headers)
    track_id: str = answer.json()["data"]["id"]
    return track_id


def test_every_end_is_posted_once_as_the_service_would(
    emulator: EmulatorProcess, receiver: Receiver
) -> None:
    control(emulator, "/tracks", {"prompt": "had ended before"})
    forward_to = f"{receiver.url}/hooks?token=s3cr3t"
    with listening(emulator, forward_to) as process:
        own = f"{receiver.url}/own"
        made = create(
            emulator, "/v1/generations", tags="rain", duration=30, webhook=own
        )
        until(lambda: len(receiver.got) == 2)
        control(emulator, "/faults", {"action": "fail"})
        failed = create(emulator, "/v1/generations", tags="night")
        effect = create(emulator, "/v1/sound-effects", prompt="door")
        until(lambda: len(receiver.got) == 4)
        time.sleep(2.5)  # two more looks
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    by_path = {path: (body, headers) for path, body, headers in receiver.got}
    original, forwarded = by_path["/own"], receiver.got[0]
    forwarded = next(g for g in receiver.got if g[1]["id"] == made and g[0] != "/own")
    same = ("Content-Type", "User-Agent")
    assert [original[1][n] for n in same] == [forwarded[2][n] for n in same]
    assert "X-API-Key" not in forwarded[2]
    # The reads have whole seconds where the service's own webhook has milliseconds.
    assert forwarded[1].pop("createdAt")[:19] == original[0].pop("createdAt")[:19]
    assert forwarded[1] == original[0]
    hooks = {b["id"]: b for path, b, _ in receiver.got if path.startswith("/hooks?")}
    assert set(hooks) == {made, failed, effect}
    assert hooks[failed]["errorMessage"]
    assert hooks[effect]["requestedDuration"] == 4
    assert len(receiver.got) == 4
    assert sorted(out.splitlines()) == sorted(
        [f"{made} completed 204", f"{failed} failed 204", f"{effect} completed 204"]
    )
    assert "s3cr3t" not in out + err


def test_the_token_of_a_track_reaches_the_receiver(
    emulator: EmulatorProcess, receiver: Receiver
) -> None:
    with listening(emulator, f"{receiver.url}/hooks"):
        webhook = "http://127.0.0.1:9/elsewhere?token=of-this-track"
        create(emulator, "/v1/generations", tags="rain", webhook=webhook)
        until(lambda: len(receiver.got) == 1)
    assert receiver.got[0][0] == "/hooks?token=of-this-track"


@pytest.mark.long
def test_a_receiver_that_is_down_and_a_look_that_fails_stop_nothing(
    emulator: EmulatorProcess, receiver: Receiver
) -> None:
    with listening(emulator, "http://127.0.0.1:9/hooks?token=s3cr3t") as process:
        broken = {"action": "status", "path": "/v1/generations", "method": "GET"}
        control(emulator, "/faults", {**broken, "times": 8})
        lost = create(emulator, "/v1/generations", tags="rain")
        assert process.stdout is not None
        assert process.stdout.readline() == (
            f"{lost} completed not delivered (ConnectError)\n"
        )
        process.kill()
        out, err = process.communicate()
    assert "s3cr3t" not in out + err
    assert receiver.got == []


def test_a_wrong_key_ends_it(emulator: EmulatorProcess) -> None:
    env = {
        **BARE,
        "FINETUNING_BASE_URL": emulator.url,
        "FINETUNING_API_KEY": "ft_live_" + 32 * "9",
    }
    ran = run("listen", "--forward-to", "http://127.0.0.1:9/", env=env)
    assert ran.returncode == 1
    assert "API key" in ran.stderr


@pytest.mark.parametrize("url", ["localhost:3000/hooks", "ftp://a/b", "http://", "x"])
def test_what_is_no_url_is_refused(url: str) -> None:
    ran = run("listen", "--forward-to", url)
    assert ran.returncode == 2
    assert "--forward-to must be an http:// or https:// URL" in ran.stderr
