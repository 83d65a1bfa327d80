"""The guide to the emulator: its script runs, and prints what the guide says."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest

from finetuning_async.testing import EmulatorProcess
from tests.real_time.test_cli_process import BARE, shell_program

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("warm_programs")

ROOT: Final = Path(__file__).parents[2]
GUIDE: Final = (ROOT / "finetuning_async" / "guides" / "emulator.md").read_text("utf-8")
BLOCKS: Final = re.findall(r"^```(\w+)\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)
BETWEEN: Final = "---- next block"
FRAME: Final = """
set -eu
# The vendor's program is not here: ours, told the same.
ft() {
    [ "$1 $3" = "--base-url --api-key" ]
    vendors_url=$2 vendors_key=$4
    shift 4
    FINETUNING_API_KEY=$vendors_key finetuning --base-url "$vendors_url" "$@"
}
"""


def blocks(language: str) -> list[str]:
    return [text for kind, text in BLOCKS if kind == language]


def expected() -> list[str | None]:
    """What the guide says that each shell block prints, if it says so."""
    kinds = [*BLOCKS, ("", "")]
    return [
        after if kind_after == "text" else None
        for (kind, _), (kind_after, after) in pairwise(kinds)
        if kind == "sh"
    ]


def pattern(text: str) -> str:
    """A text as a pattern: an ellipsis is anything; curl does not end its lines."""
    return re.escape(text.replace("\n", "")).replace("…", ".*")


@pytest.fixture
def app() -> Iterator[str]:
    """The URL of a program that takes webhooks."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files that the guide shows: blocks that begin with a name."""
    for text in blocks("yaml"):
        name = text.splitlines()[0].removeprefix("# ")
        (tmp_path / name).write_text(text)
    return tmp_path


def run_script(folder: Path, **more: str) -> list[str]:
    """What each of the shell blocks printed."""
    (folder / "bin").mkdir()
    program = folder / "bin" / "finetuning"
    program.write_text(f'#!/bin/sh\nexec {shell_program()} "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    script = FRAME + f'\necho "{BETWEEN}"\n'.join(blocks("sh"))
    with (folder / "stdout").open("w") as out, (folder / "stderr").open("w") as err:
        ran = subprocess.Popen(
            [shutil.which("sh") or "sh", "-c", script],
            stdout=out,
            stderr=err,
            cwd=folder,
            env={**BARE, "PATH": path, **more},
            start_new_session=True,
        )
        try:
            code = ran.wait(50)
        finally:  # what it has left in the background, too
            with contextlib.suppress(ProcessLookupError):
                os.killpg(ran.pid, signal.SIGKILL)
            ran.wait()
    text = (folder / "stdout").read_text()
    assert code == 0, text + (folder / "stderr").read_text()
    return text.split(f"{BETWEEN}\n")


@pytest.mark.skipif(
    shutil.which("curl") is None or os.name == "nt", reason="needs sh and curl"
)
def test_the_script_prints_what_the_guide_says(folder: Path, app: str) -> None:
    printed = run_script(folder, app=app)
    assert len(printed) == len(expected())
    for said, got in zip(expected(), printed, strict=True):
        if said is not None:
            assert re.fullmatch(pattern(said), got.replace("\n", "")), got


@pytest.mark.skipif(
    shutil.which("node") is None or os.name == "nt", reason="needs Node, not on Windows"
)
def test_the_program_for_node_prints_what_the_guide_says(tmp_path: Path) -> None:
    (said,) = [after for (kind, _), (_, after) in pairwise(BLOCKS) if kind == "js"]
    (tmp_path / "rehearse.mjs").write_text(blocks("js")[0])
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        [shutil.which("node") or "node", "rehearse.mjs"],
        cwd=tmp_path,
        env={**BARE, "PATH": path},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (ran.stdout, ran.stderr) == (said, "")


@pytest.mark.parametrize("block", blocks("python"))
def test_a_python_block_runs(block: str, tmp_path: Path) -> None:
    words = [sys.executable, "-W", "error", "-c", block]
    subprocess.run(words, cwd=tmp_path, check=True, timeout=50)


def test_the_container_starts_what_its_lines_say() -> None:
    (dockerfile,) = blocks("dockerfile")
    (extras,) = re.findall(r"RUN pip install 'finetuning-async\[(.*)\]'", dockerfile)
    assert set(extras.split(",")) == {"cli", "emulator"}
    (entrypoint,) = re.findall(r"^ENTRYPOINT (.*)$", dockerfile, re.MULTILINE)
    program, command, *words = json.loads(entrypoint)
    assert (program, command) == ("finetuning", "emulator")
    compose = next(text for text in blocks("yaml") if "compose" in text)
    (more,) = re.findall(r"command: (.*)", compose)
    (token,) = re.findall(r"FINETUNING_EMULATOR_ADMIN_TOKEN: ([\w-]+)", compose)
    environment = {**BARE, "FINETUNING_EMULATOR_ADMIN_TOKEN": token}
    arguments = (*words, *json.loads(more))
    with EmulatorProcess(arguments, environment=environment) as emulator:
        assert emulator.api_key in compose
        there = {"Host": "emulator:8787"}
        url = f"{emulator.control_url}/settings"
        assert httpx.get(url, headers=there).status_code == 401
        headers = {**there, "Authorization": f"Bearer {token}"}
        settings = httpx.get(url, headers=headers).json()["settings"]
        assert (settings["speed"], settings["webhook_hosts"]) == (10, ["app"])


def test_every_path_of_the_control_api_is_in_the_guide() -> None:
    with EmulatorProcess() as emulator:
        document = httpx.get(f"{emulator.control_url}/openapi.json").json()
    table = re.sub(r"/(ID|KEY|NUMBER)", "/{}", GUIDE)
    rows = re.findall(r"^\| `(.*?)` \|", table, re.MULTILINE)
    shown = {
        (method, path.strip("`"))
        for row in rows
        for entry in row.split("`, `")
        for methods, _, path in [entry.rpartition(" ")]
        for method in methods.split(", ")
    }
    for path, item in document["paths"].items():
        name = re.sub(r"\{\w+\}", "{}", path.removeprefix("/_emulator/"))
        if path.startswith("/_emulator/") and name not in ("", "openapi.json"):
            for method in set(item) - {"parameters"}:
                assert (method.upper(), name) in shown, (method, path)
