"""What the emulator costs as a process: start, memory, requests, ten thousand tracks.

Processor time is measured, not the clock on the wall: other tests run beside these.
"""

from __future__ import annotations

import os
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from finetuning_async.testing import EmulatorProcess

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="reads /proc"
)

READY_WITHIN = 0.5
MEMORY = 50
GETS_PER_SECOND = 1000


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
    with EmulatorProcess() as emulator:
        assert processor_time(emulator.pid) < READY_WITHIN
        assert memory(emulator.pid) < MEMORY


def test_ten_thousand_tracks_are_kept_and_read_fast(tmp_path: Path) -> None:
    options = ("--state-dir", str(tmp_path), "--reads-per-minute", "1000000")
    emulator = EmulatorProcess(options)
    emulator.start()
    bodies = [{"prompt": f"track {n}", "id": f"t{n}"} for n in range(10_000)]
    answer = httpx.post(f"{emulator.control_url}/tracks", json=bodies, timeout=60)
    assert answer.status_code == 201
    assert memory(emulator.pid) < MEMORY
    emulator.stop()
    with emulator:
        for path in ("/v1/generations/t77", "/v1/me"):
            assert gets_per_second(emulator, path) > GETS_PER_SECOND
        page = httpx.get(f"{emulator.control_url}/tracks", timeout=60).json()
        assert page["total"] == 10_000
        assert memory(emulator.pid) < MEMORY
        assert [track["id"] for track in page["tracks"][:2]] == ["t9999", "t9998"]


def gets_per_second(emulator: EmulatorProcess, path: str, count: int = 1000) -> float:
    """Plain GETs that a second of the emulator's core serves."""
    connection = HTTPConnection(urlsplit(emulator.url).netloc)
    before = processor_time(emulator.pid)
    for _ in range(count):
        connection.request("GET", path, headers={"X-API-Key": emulator.api_key})
        response = connection.getresponse()
        response.read()
        assert response.status == 200
    connection.close()
    return count / (processor_time(emulator.pid) - before)
