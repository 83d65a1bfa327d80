"""``finetuning emulator`` as a process: its start, its keys, its ids, its log."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.real_time.test_cli_process import BARE, PROGRAM, run

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("warm_programs")

KEY = "ft_live_Any-40.Characters_$'Z~0123456789"


class Emulated:
    """A started emulator: its settings, its first line, its stderr so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        self.line = process.stdout.readline()
        words = ["sh", "-c", f"{self.line} env"]
        env = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        found = dict(line.split("=", 1) for line in env.splitlines() if "=" in line)
        self.url, self.key = found["FINETUNING_BASE_URL"], found["FINETUNING_API_KEY"]
        headers = {"X-API-Key": self.key}
        self.http = httpx.Client(base_url=self.url, headers=headers, timeout=30)

    def intro(self) -> str:
        """What stderr said at the start."""
        assert self.process.stderr is not None
        lines: list[str] = []
        while not lines or "Press Ctrl-C" not in lines[-1]:
            lines.append(self.process.stderr.readline())
        return "".join(lines)

    def create(self, path: str = "/v1/generations", **wish: Any) -> str:
        """Create a track; returns its id."""
        made = self.http.post(path, json={"tags": "a", "prompt": "a"} | wish)
        assert made.status_code == 202
        track_id: str = made.json()["data"]["id"]
        return track_id

    def stop(self) -> list[str]:
        """Stop it; returns the rest of its stdout."""
        self.process.terminate()
        out, _ = self.process.communicate(timeout=20)
        return out.splitlines()


@contextmanager
def emulated(*args: str, stdin: str = "") -> Generator[Emulated]:
    words = [*PROGRAM, "emulator", "--port", "0", *args]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        words, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=BARE
    ) as process:
        assert process.stdin is not None
        process.stdin.write(stdin)
        process.stdin.flush()
        emulator = None
        try:
            emulator = Emulated(process)
            yield emulator
        finally:
            process.kill()
            if emulator is not None:
                emulator.http.close()


def test_the_start_says_how_each_client_reaches_it(tmp_path: Path) -> None:
    """Each form is run as printed, but for the vendor's program, which is not here."""
    with emulated("--api-key-stdin", stdin=f"{KEY}\n") as emulator:
        intro = emulator.intro()
        assert emulator.key == KEY
        (curl,) = re.findall(r"^  (curl .*)$", intro, re.MULTILINE)
        (vendor,) = re.findall(r"^  ft (.*)$", intro, re.MULTILINE)
        words = ["sh", "-c", f"{emulator.line.strip()}; echo {vendor}; {curl} -s"]
        ran = subprocess.run(words, capture_output=True, text=True, check=False)
        asked, _, got = ran.stdout.partition("\n")
        assert asked == f"--base-url {emulator.url} me"
        if shutil.which("curl"):
            assert json.loads(got)["data"]["tier"] == "pro"

        (config,) = re.findall(r" as (\{.*\}), in$", intro, re.MULTILINE)
        (tmp_path / "config.json").write_text(config)
        home = {"FINETUNING_CONFIG_HOME": str(tmp_path), "FINETUNING_API_KEY": KEY}
        ran = run("me", "--json", env=BARE | home)
        assert json.loads(ran.stdout)["data"]["tier"] == "pro"


@pytest.mark.parametrize(
    ("key", "got"),
    [
        ("ft_live_short", "got 13 characters"),
        ("ft_test_" + "0" * 32, "got one with another beginning"),
        ("ft_live_" + "0" * 31 + "\u00e9", "not visible ASCII"),
        ("ft_live_" + "0" * 31 + " 0", "got 41 characters"),
        ("", "no API key on stdin"),
    ],
)
def test_a_key_that_cannot_work_is_refused_before_it_listens(
    key: str, got: str
) -> None:
    words = [*PROGRAM, "emulator", "--port", "0", "--api-key-stdin"]
    ran = subprocess.run(
        words, input=f"{key}\n", capture_output=True, text=True, env=BARE, check=False
    )
    assert (ran.returncode, ran.stdout) == (2, "")
    assert got in ran.stderr
    assert not key or key not in ran.stderr


def test_ids_differ_from_run_to_run_unless_a_seed_is_given() -> None:
    ids, seeds = [], []
    for seed in ((), (), ("--seed", "5"), ("--seed", "5", "--playlist", "Beds")):
        with emulated(*seed) as emulator:
            ids.append(emulator.create())
            seeds.append(re.findall(r"--seed (\d+)", emulator.intro())[0])
            listed = emulator.http.get("/v1/playlists").json()["data"]["playlists"]
            ids.extend(playlist["id"] for playlist in listed)
    first, second, seeded, again, playlist = ids
    assert first != second
    assert seeds[0] != seeds[1]
    assert seeds[2:] == ["5", "5"]
    assert seeded == again  # although the last run has a playlist as well
    assert playlist not in ids[:-1]
    with emulated("--seed", seeds[0]) as emulator:
        assert emulator.create() == first


def test_the_log_has_each_request_once_although_a_slow_one_comes_first() -> None:
    with emulated("--speed", "1000") as emulator:
        track = emulator.create(duration=210)
        audio = f"/media/audio/{track}.mp3"
        while emulator.http.head(f"/v1/generations/{track}").status_code != 200:
            pass
        threading.Event().wait(0.3)
        sizes: list[int] = []

        def download() -> None:  # it is rendered first, which takes a while
            response = httpx.get(f"{emulator.url}{audio}", timeout=60)
            sizes.append(len(response.content))

        slow = threading.Thread(target=download)
        slow.start()
        for number in range(20):
            emulator.http.get(f"/v1/generations/number-{number}")
        slow.join()
        lines = emulator.stop()
    assert sizes[0] > 100_000
    assert lines[0] == "POST /v1/generations 202"
    numbers = [line.split()[1] for line in lines if "number-" in line]
    assert numbers == [f"/v1/generations/number-{n}" for n in range(20)]
    assert lines.count(f"GET /audio/{track}.mp3 200") == 1
    assert "GET /v1/generations/number-0 404 NOT_FOUND" in lines
    heads = lines.count(f"HEAD /v1/generations/{track} 200")
    assert len(lines) == 1 + heads + 1 + 20


def test_an_emulator_whose_stdout_nobody_reads_goes_on() -> None:
    """A pipe holds 64 KiB: after that, printing waits for a reader."""
    path, many = "/v1/" + "x" * 400, 250
    with emulated() as emulator:
        for _ in range(many):
            assert emulator.http.get(path).status_code == 404
        assert emulator.stop() == [f"GET {path} 404 NOT_FOUND"] * many


def test_an_emulator_whose_reader_has_left_goes_on() -> None:
    with emulated() as emulator:
        assert emulator.process.stdout is not None
        emulator.process.stdout.close()
        for _ in range(3):
            assert emulator.http.get("/health").status_code == 200
            threading.Event().wait(0.05)
        emulator.process.stdout = None
        emulator.process.terminate()
        assert emulator.process.wait(10) == 0


def test_quiet_prints_the_settings_only() -> None:
    with emulated("-q") as emulator:
        emulator.http.get("/health")
        assert emulator.stop() == []
