"""The examples in `tests/programs` run as they stand, against an emulator on a port."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio.to_thread
import pytest

from finetuning_async.emulator import Emulator, serve
from finetuning_async.postgres._journal_store import PostgresStore

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = pytest.mark.usefixtures("warm_programs")

EXAMPLES: Final = Path(__file__).parents[1] / "programs"

NOTEBOOK: Final = """
import ast, asyncio, inspect, json, sys

async def main():
    names = {}
    with open(sys.argv[1], encoding="utf-8") as file:
        cells = json.load(file)["cells"]
    for cell in cells:
        if cell["cell_type"] == "code":
            flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
            code = compile("".join(cell["source"]), "cell", "exec", flags)
            result = eval(code, names)
            if inspect.iscoroutine(result):
                await result

asyncio.run(main())
"""
"""Runs cells as a notebook does: one after another, in one running loop."""

FLASK: Final = """
import sys, time
sys.path.insert(0, sys.argv[1])
from flask_app import app

browser = app.test_client()
made = browser.post("/tracks", data={"tags": "lofi chill piano night"})
assert made.status_code == 202, made.text
path = f"/tracks/{made.json['id']}"
while (track := browser.get(path).json)["status"] != "completed":
    time.sleep(0.05)
assert track["audio"].endswith(".mp3"), track
assert len(browser.get(f"{path}/audio").data) == 200_000
assert browser.get("/tracks/no-such-track").status_code == 502
"""


DJANGO: Final = """
import sys, time
sys.path.insert(0, sys.argv[1])
import django_app
from django.test import Client as Browser

browser = Browser()
made = browser.post("/tracks", {"tags": "lofi chill piano night"})
assert made.status_code == 202, made.content
path = f"/tracks/{made.json()['id']}"
while browser.get(path).json()["status"] != "completed":
    time.sleep(0.05)
assert len(b"".join(browser.get(f"{path}/audio"))) == 200_000
assert browser.post("/tracks", {"tags": 800 * "x"}).status_code == 502
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # uvicorn supports no other loop


@pytest.fixture
async def surroundings() -> AsyncGenerator[dict[str, str]]:
    """The environment that points a program to the emulator."""
    quick = Emulator(speed=100, generation_time=(20, 30), audio=bytes(200_000))
    async with quick as emulator, serve(emulator) as url:
        service = {
            "FINETUNING_BASE_URL": url,
            "FINETUNING_API_KEY": emulator.api_key,
        }
        yield {**os.environ, **service}


async def ran(folder: Path, env: dict[str, str], *words: str) -> str:
    """The output of a Python program that must succeed with an empty stderr."""
    done = await ended(folder, env, *words)
    assert (done.returncode, done.stderr) == (0, "")
    return str(done.stdout)


async def spoken(folder: Path, env: dict[str, str], *words: str) -> tuple[int, str]:
    """The exit code and the output of a Python program."""
    done = await ended(folder, env, *words)
    return done.returncode, done.stdout + done.stderr


async def ended(folder: Path, env: dict[str, str], *words: str) -> Any:
    """Run a Python program to its end."""

    def run() -> Any:
        command = [sys.executable, "-W", "error", *words]
        return subprocess.run(
            command,
            cwd=folder,
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=40,
        )

    return await anyio.to_thread.run_sync(run)


async def test_the_script_saves_a_track(
    tmp_path: Path, surroundings: dict[str, str]
) -> None:
    shown = await ran(tmp_path, surroundings, str(EXAMPLES / "script.py"), "rain")
    assert "track.mp3: 30.0 s" in shown
    assert (tmp_path / "track.mp3").stat().st_size == 200_000


async def test_sync_code_uses_the_blocking_client(
    tmp_path: Path, surroundings: dict[str, str]
) -> None:
    shown = await ran(tmp_path, surroundings, str(EXAMPLES / "sync_code.py"))
    assert shown == "200000 bytes, 60.0 s\n"
    source = (EXAMPLES / "sync_code.py").read_text(encoding="utf-8")
    body = ast.parse(source).body[1:]
    assert sum(len(ast.unparse(node).splitlines()) for node in body) <= 5


@pytest.mark.parametrize("name", ["notebook", "sync_notebook"])
async def test_the_cells_of_the_notebook_run(
    tmp_path: Path, surroundings: dict[str, str], name: str
) -> None:
    notebook = str(EXAMPLES / f"{name}.ipynb")
    shown = await ran(tmp_path, surroundings, "-c", NOTEBOOK, notebook)
    assert "2000 credits left" in shown
    assert (tmp_path / "track.mp3").is_file()


@pytest.mark.parametrize("name", ["notebook", "sync_notebook"])
async def test_the_notebook_holds_no_output_and_no_key(name: str) -> None:
    cells = json.loads((EXAMPLES / f"{name}.ipynb").read_text("utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)


async def test_the_flask_application_shares_one_client(
    tmp_path: Path, surroundings: dict[str, str]
) -> None:
    state = {"XDG_STATE_HOME": str(tmp_path)}
    await ran(tmp_path, surroundings | state, "-c", FLASK, str(EXAMPLES))


async def test_the_django_application_shares_one_client(
    tmp_path: Path, surroundings: dict[str, str]
) -> None:
    state = {"XDG_STATE_HOME": str(tmp_path)}
    await ran(tmp_path, surroundings | state, "-c", DJANGO, str(EXAMPLES))


async def test_machines_that_share_a_database_work_on_a_batch(
    tmp_path: Path, surroundings: dict[str, str], postgres: str
) -> None:
    env = surroundings | {"DATABASE_URL": postgres, "PYTHONPATH": search_path()}
    program = ["-m", "procrastinate", "--app=many_machines.app"]
    order = "import asyncio, many_machines as m; asyncio.run(m.order())"

    assert (await spoken(tmp_path, env, *program, "schema", "--apply"))[0] == 0
    assert "5 new, 0 known" in await ran(tmp_path, env, "-c", order)
    code, said = await spoken(
        tmp_path,
        env,
        *program,
        "worker",
        "-c5",
        "--one-shot",
        "--delete-jobs=successful",
    )
    assert code == 0, said
    assert "Traceback" not in said
    assert "Warning" not in said
    store = PostgresStore(postgres)
    assert store.summary("album").states["downloaded"] == 5
    store.close()
    assert len(list((tmp_path / "music" / "album").glob("*.mp3"))) == 5


def search_path() -> str:
    """The import path of the programs: the examples, and that of this process."""
    return os.pathsep.join([str(EXAMPLES), os.environ.get("PYTHONPATH", "")])
