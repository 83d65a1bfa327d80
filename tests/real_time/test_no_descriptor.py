"""A create is accepted while the process has no file descriptor left."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.usefixtures("warm_programs")

SCRIPT = """
import os, resource, sys
import anyio
from finetuning_async import AsyncClient
from tests._raw_server import KEY
from tests._raw_server import created
from tests._raw_server import row
from tests._raw_server import serving

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
taken = []

async def answer(asked):
    try:
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        return created(row(asked, 1))

async def main():
    ids = []
    async with serving(answer) as server:
        async with AsyncClient(KEY, base_url=server.url) as client:
            with anyio.fail_after(5):
                track = await client.generations.create("x", on_submitted=ids.append)
        for each in taken:
            os.close(each)
        print(track.id, track.prompt, len(ids), len(server.asked))

anyio.run(main, backend=sys.argv[1])
"""


@pytest.fixture(params=["asyncio", "trio"])
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_an_acceptance_is_read_without_opening_a_file(loop: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, loop],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("gen_1 x 1 1\n", 0), done.stderr
