"""What the emulator costs as a process: start, memory, requests, ten thousand tracks.

Processor time is measured, not the clock on the wall: other tests run beside these.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from finetuning_async.testing import EmulatorProcess

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="reads /proc"
)

MEMORY = 50
READY_WITHIN = 0.5
GETS_PER_SECOND = 1000
PATHS = ("/v1/generations/t77", "/v1/me")


def processor_time(pid: int) -> float:
    """Seconds of one core that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # type: ignore[attr-defined, unused-ignore]  # POSIX only


def memory(pid: int) -> float:
    """MiB that a process holds."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (size,) = [line.split()[1] for line in lines if line.startswith("VmRSS")]
    return int(size) / 1024


def test_a_started_emulator_is_small() -> None:
    libraries = time_of_program("import httpx, uvicorn")
    with EmulatorProcess() as emulator:
        assert processor_time(emulator.pid) < 2 * libraries
        assert memory(emulator.pid) < MEMORY


def time_of_program(code: str) -> float:
    """Seconds of one core that a program of Python takes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize("tracks", [1000, pytest.param(10_000, marks=pytest.mark.long)])
def test_thousands_of_tracks_are_kept_and_read_as_fast_as_one(
    tmp_path: Path, tracks: int
) -> None:
    options = ("--state-dir", str(tmp_path), "--reads-per-minute", "1000000")
    with EmulatorProcess(options[2:]) as small:
        add_tracks(small, ["t77"])
        with_one = [time_of_gets(small, path) for path in PATHS]
    emulator = EmulatorProcess(options)
    emulator.start()
    add_tracks(emulator, [f"t{n}" for n in range(tracks)])
    assert memory(emulator.pid) < MEMORY
    emulator.stop()
    with emulator:
        with_all = [time_of_gets(emulator, path) for path in PATHS]
        assert sum(with_all) < 2 * sum(with_one)
        page = httpx.get(f"{emulator.control_url}/tracks", timeout=60).json()
        assert page["total"] == tracks
        assert memory(emulator.pid) < MEMORY
        newest = [track["id"] for track in page["tracks"][:2]]
        assert newest == [f"t{tracks - 1}", f"t{tracks - 2}"]


@pytest.mark.long  # bounds of a machine that is not busy
def test_a_core_starts_it_in_half_a_second_and_serves_a_thousand_reads_a_second(
    tmp_path: Path,
) -> None:
    options = ("--state-dir", str(tmp_path), "--reads-per-minute", "1000000")
    with EmulatorProcess(options) as emulator:
        assert processor_time(emulator.pid) < READY_WITHIN
        add_tracks(emulator, [f"t{n}" for n in range(10_000)])
    with emulator:
        for path in PATHS:
            assert 1000 / time_of_gets(emulator, path, 1000) > GETS_PER_SECOND


def add_tracks(emulator: EmulatorProcess, ids: list[str]) -> None:
    bodies = [{"prompt": f"track {name}", "id": name} for name in ids]
    answer = httpx.post(f"{emulator.control_url}/tracks", json=bodies, timeout=60)
    assert answer.status_code == 201


def time_of_gets(emulator: EmulatorProcess, path: str, count: int = 150) -> float:
    """Seconds of the emulator's core that plain GETs take."""
    connection = HTTPConnection(urlsplit(emulator.url).netloc)
    before = processor_time(emulator.pid)
    for _ in range(count):
        connection.request("GET", path, headers={"X-API-Key": emulator.api_key})
        response = connection.getresponse()
        response.read()
        assert response.status == 200
    connection.close()
    return processor_time(emulator.pid) - before
