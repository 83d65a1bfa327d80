"""Makes the pictures of the README: the demo's page, and a terminal.

    python -m tests.release.pictures

It needs the extra ``test`` and a Chromium. They are made of what a user sees: the page
in a browser, on an emulator; a program in a terminal of 80 columns.
"""

from __future__ import annotations

import io
import os
import pty
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import anyio
import pyte
from playwright.async_api import Browser, Page, async_playwright
from rich.console import Console
from rich.text import Text

from finetuning_async.testing import EmulatorProcess
from tests.browser.conftest import demo
from tests.release._guides import ROOT

IMAGES: Final = ROOT / "finetuning_async" / "guides" / "images"
CHROMIUM: Final = os.environ.get("CHROMIUM") or shutil.which("chromium")
COLUMNS, ROWS = 80, 26
COMMANDS: Final = (
    'generate "lofi chill piano night" --duration 30 -o night.mp3',
    "list",
    "batch run songs.csv --out album --dry-run",
)
OPTIONS: Final = ("--speed", "20", "--seed", "1")
SONGS: Final = "tags,duration\n" + "".join(f"piano {n},45\n" for n in range(200))


def terminal() -> str:
    """What a terminal shows after the commands, as an SVG."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    with tempfile.TemporaryDirectory() as folder, EmulatorProcess(OPTIONS) as emulator:
        (Path(folder) / "songs.csv").write_text(SONGS)
        for command in COMMANDS:
            stream.feed(f"\x1b[1m$ finetuning {command}\x1b[0m\r\n".encode())
            stream.feed(_run(command, folder, emulator))
            stream.feed(b"\r\n")
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    for line in range(screen.cursor.y):
        console.print(_styled(screen, line))
    return console.export_svg(title="finetuning")


def _run(command: str, folder: str, emulator: EmulatorProcess) -> bytes:
    """The bytes that a command writes to a terminal of `COLUMNS`."""
    main, inner = pty.openpty()
    environment = {
        **os.environ,
        "COLUMNS": str(COLUMNS),
        "TERM": "xterm-256color",
        "FINETUNING_CONFIG_HOME": folder,
        "FINETUNING_API_KEY": emulator.api_key,
        "FINETUNING_BASE_URL": emulator.url,
    }
    with subprocess.Popen(  # noqa: S602 - our own commands
        f"{sys.executable} -m finetuning_async {command}",
        shell=True,
        cwd=folder,
        env=environment,
        stdin=inner,
        stdout=inner,
        stderr=inner,
    ) as process:
        os.close(inner)
        written = b""
        try:
            while piece := os.read(main, 65536):
                written += piece
        except OSError:  # the end of a pty, on Linux
            pass
        assert process.wait() == 0, written
    os.close(main)
    return written


def _styled(screen: pyte.Screen, line: int) -> Text:
    text = Text()
    for column in range(COLUMNS):
        cell = screen.buffer[line][column]
        colour = "" if cell.fg == "default" else cell.fg.replace("brown", "yellow")
        text.append(cell.data, f"{'bold ' if cell.bold else ''}{colour}".strip())
    text.rstrip()
    return text


async def page() -> bytes:
    """The demo's page with a finished track, one in progress and one that waits."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--mute-audio"]
        )
        async with demo(speed=4.0, generation_time=(20.0, 40.0), queue_size=2) as made:
            _, url = made
            picture = await _three_tracks(browser, url)
        await browser.close()
    return picture


async def _three_tracks(browser: Browser, url: str) -> bytes:
    shown = await browser.new_page(viewport={"width": 1000, "height": 830})
    await shown.goto(url)
    await _ask_for(shown, "lofi chill piano night")
    await anyio.sleep(11)
    for tags in ("slow choir over tape hiss", "brass fanfare for a board game"):
        await _ask_for(shown, tags)
        await anyio.sleep(1)
    return await shown.screenshot()


async def _ask_for(shown: Page, tags: str) -> None:
    await shown.fill("#tags", tags)
    await shown.fill("#duration", "30")
    await shown.click("#make")


def main() -> None:
    """Write both."""
    IMAGES.mkdir(exist_ok=True)
    (IMAGES / "terminal.svg").write_text(terminal(), encoding="utf-8")
    (IMAGES / "page.png").write_bytes(anyio.run(page))


if __name__ == "__main__":
    main()
