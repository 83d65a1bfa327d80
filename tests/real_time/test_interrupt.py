"""Ctrl-C while a create is in flight, in a separate process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("warm_programs")

ROOT = Path(__file__).parents[2]

PROGRAM = """
import asyncio, logging, sys
import httpx
from finetuning_async import AsyncClient
from finetuning_async.emulator import Emulator

logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
logging.getLogger("httpx").setLevel(logging.WARNING)

async def create(client):
    try:
        await client.generations.create("x", on_submitted=lambda t: print("id", t.id))
    except asyncio.CancelledError:
        print("cancelled")
        raise

async def main(shape):
    async with Emulator(latency=(0.5, 0.5)) as emulator:
        http = httpx.AsyncClient(transport=emulator.transport())
        try:
            async with AsyncClient(
                emulator.api_key, base_url=emulator.base_url, http_client=http
            ) as client:
                loop = asyncio.get_running_loop()
                loop.call_later(0.2, print, "in flight")
                if shape == "group":
                    async with asyncio.TaskGroup() as group:
                        group.create_task(create(client))
                elif shape == "task":
                    asyncio.create_task(create(client))
                    await asyncio.sleep(60)
                else:
                    await create(client)
        finally:
            posts = emulator.count(method="POST")
            print("posts", posts, "tracks", *emulator.tracks, flush=True)

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.parametrize("shape", ["plain", "group", "task"])
def test_ctrl_c_lets_a_create_in_flight_report_its_id(shape: str) -> None:
    program = subprocess.Popen(
        [sys.executable, "-u", "-c", PROGRAM, shape],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    lines = []
    for line in program.stdout:
        lines.append(line.strip())
        if line.startswith("in flight"):
            program.send_signal(signal.SIGINT)
    _, stderr = program.communicate(timeout=20)
    assert "KeyboardInterrupt" in stderr
    assert program.returncode != 0
    (counts,) = [line.split() for line in lines if line.startswith("posts")]
    assert counts[:2] == ["posts", "1"]
    track_id = counts[3]
    assert f"id {track_id}" in lines
    assert f"accepted music {track_id}" in lines
    if shape != "task":  # there closing the client cancels the create
        assert lines.index(f"id {track_id}") < lines.index("cancelled")
