"""``finetuning batch run --out s3://...``: killed while a slow store takes a file."""

from __future__ import annotations

import json
import subprocess
import time
from typing import TYPE_CHECKING, Any

import httpx
import obstore
import pytest
from obstore.store import S3Store

from finetuning_async.testing import EmulatorProcess
from tests._s3_server import BUCKET, S3Server, s3_server
from tests.real_time.test_cli_process import BARE, PROGRAM

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SONG = b"ID3" + bytes(5000)
ITEMS = 4
OUT = f"s3://{BUCKET}/album/"

pytestmark = [
    pytest.mark.usefixtures("warm_programs"),
    pytest.mark.timeout(150),  # several processes start one after another
]


@pytest.fixture
def s3() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[EmulatorProcess]:
    song = tmp_path / "song.mp3"
    song.write_bytes(SONG)
    options = ("--speed", "60", "--generation-time", "20-30", "--audio", str(song))
    with EmulatorProcess(options) as emulator:
        yield emulator


def start(
    emulator: EmulatorProcess, s3: S3Server, folder: Path, *args: str
) -> subprocess.Popen[str]:
    words = [*PROGRAM, "batch", "run", "songs.csv", "--out", OUT, "--speed", "60"]
    env = {
        **BARE,
        **s3.env,
        "FINETUNING_BASE_URL": emulator.url,
        "FINETUNING_API_KEY": emulator.api_key,
        "XDG_STATE_HOME": str(folder / "state"),
    }
    return subprocess.Popen(
        [*words, *args],
        cwd=folder,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def files(s3: S3Server) -> dict[str, bytes]:
    config: Any = {name.lower(): value for name, value in s3.env.items()}
    store = S3Store(BUCKET, prefix="album", config=config)
    names = [row["path"] for rows in obstore.list(store) for row in rows]
    return {name: bytes(obstore.get(store, name).bytes()) for name in names}


def ledger(emulator: EmulatorProcess) -> list[Any]:
    found = httpx.get(f"{emulator.control_url}/ledger", timeout=30).json()
    rows: list[Any] = found["ledger"]
    return rows


@pytest.mark.sampled(2)
@pytest.mark.parametrize("moment", ["before it is stored", "after it is stored"])
def test_a_run_that_is_killed_while_a_file_is_written(
    emulator: EmulatorProcess, s3: S3Server, tmp_path: Path, moment: str
) -> None:
    rows = "".join(f"song {n}\n" for n in range(ITEMS))
    (tmp_path / "songs.csv").write_text(f"tags\n{rows}")
    s3.before, s3.after = (60.0, 0.0) if "before" in moment else (0.0, 60.0)
    with start(emulator, s3, tmp_path) as killed:
        deadline = time.monotonic() + 40
        while not (s3.begun if s3.before else s3.puts):
            assert time.monotonic() < deadline
            assert killed.poll() is None
            time.sleep(0.02)
        killed.kill()
    assert set(files(s3).values()) >= ({SONG} if s3.puts else set())
    s3.before = s3.after = 0.0
    with start(emulator, s3, tmp_path) as resumed:
        told, _ = resumed.communicate(timeout=50)
    assert resumed.returncode == 0, told
    found = files(s3)
    songs = [name for name in found if name.endswith(".mp3")]
    assert len(songs) == ITEMS
    assert {found[name] for name in songs} == {SONG}
    lines = [json.loads(line) for line in found["results.jsonl"].splitlines()]
    assert sorted(line["file"] for line in lines) == sorted(songs)
    assert len(ledger(emulator)) == ITEMS
    status = [*PROGRAM, "batch", "status", OUT, "--json"]
    env = {**BARE, **s3.env, "XDG_STATE_HOME": str(tmp_path / "state")}
    shown = subprocess.run(status, env=env, text=True, capture_output=True, check=False)
    assert shown.returncode == 0, shown.stderr
    assert f'"downloaded": {ITEMS}' in shown.stdout
