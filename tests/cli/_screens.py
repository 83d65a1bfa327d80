"""What the program shows on terminals of several widths.

The program runs in one process whose terminal is a pty, on scripted responses; between
two screens the width of the terminal changes. `capture` starts that process and reads
the screens; ``python -m tests.cli._screens`` writes them to ``screens.txt``.
"""

from __future__ import annotations

import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from fcntl import ioctl
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pyte
from rich.console import Console
from rich.live import Live

WIDTHS = (40, 60, 80, 120)
ROWS = 200
FILE = Path(__file__).with_name("screens.txt")
MARK = re.compile(rb"\x1b\]0;(\d+) ([^\x07]*)\x07")
"""Ends a screen: its width and its name, as a title, which takes no place."""

UUID = "{:08x}-93d4-4f26-8a71-2c6f0be4d918"


def capture() -> dict[tuple[int, str], list[str]]:
    """The lines of each screen, by its width and its name."""
    number, side = pty.openpty()
    ours = ("FINETUN", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")
    environ = {n: v for n, v in os.environ.items() if not n.startswith(ours)}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.cli._screens", "--show"],
        cwd=Path(__file__).parents[2],
        stdin=side,
        stdout=side,
        stderr=side,
        start_new_session=True,
        env=environ | {"TERM": "xterm", "TZ": "Asia/Tokyo", "LC_ALL": "C.UTF-8"},
    ):
        os.close(side)
        shown = _read(number)
    os.close(number)
    return _screens(shown)


def _read(number: int) -> bytes:
    parts = []
    try:
        while part := os.read(number, 1 << 16):
            parts.append(part)
    except OSError:  # how Linux ends a terminal whose last process has left
        pass
    return b"".join(parts)


def _screens(shown: bytes) -> dict[tuple[int, str], list[str]]:
    screens = {}
    rest = 0
    for mark in MARK.finditer(shown):
        width = int(mark[1])
        screen = pyte.Screen(width, ROWS)
        pyte.ByteStream(screen).feed(shown[rest : mark.start()])
        rest = mark.end()
        # After a wide letter pyte has an empty cell.
        lines = [
            "".join(screen.buffer[row][n].data for n in range(width)).rstrip()
            for row in range(ROWS)
        ]
        while lines and not lines[-1]:
            lines.pop()
        screens[width, mark[2].decode()] = lines
    if not screens:
        raise AssertionError(shown.decode())
    return screens


def written(screens: dict[tuple[int, str], list[str]]) -> str:
    """The screens as the file holds them, but for those that show how time goes by."""
    parts = [
        f"{f' {name}, {width} ':=^{width}}\n" + "".join(f"{line}\n" for line in lines)
        for (width, name), lines in screens.items()
        if not name.startswith("bar")
    ]
    return "\n".join(parts)


# From here on: the process on the terminal.


def _track(number: int, status: str, prompt: str, **more: Any) -> dict[str, Any]:
    return {
        "id": UUID.format(number * 0x01020304),
        "status": status,
        "type": "music",
        "prompt": prompt,
        "createdAt": f"2026-03-03 19:{number:02}:44",
        "parameters": {"duration": 60, "bpm": 92, "keyscale": "A minor"},
        **more,
    }


TRACKS = [
    _track(1, "processing", "brass fanfare for a board game about sheep and wood"),
    _track(
        2,
        "completed",
        "夜のピアノ、静かな雨と遠くの電車の音が聞こえる部屋で",
        duration=61.5,
    ),
    _track(3, "failed", "slow choir over tape hiss", errorMessage="out of time"),
    _track(4, "completed", "rain", duration=210),
]
COMPLETED = {
    **TRACKS[3],
    "title": "Rain, and nothing but rain on a tin roof in the middle of the night",
    "audioUrl": f"https://media.finetuning.ai/audio/{UUID.format(4)}.mp3",
    "completedAt": "2026-03-03 19:05:30",
}
EFFECTS = [
    {
        "id": UUID.format(9),
        "status": "completed",
        "prompt": "a crate falls down the stairs of an empty house",
        "duration": 4,
        "actualDuration": 3.96,
        "createdAt": "2026-03-03 19:12:44",
    }
]
PLAYLISTS: list[dict[str, Any]] = [
    {
        "id": UUID.format(0xC46A8F02),
        "name": "Trailer beds for the second season, 夜の部",
        "trackCount": 12,
        "totalDuration": 1130,
        "isPublic": False,
    }
]
END = {"hasMore": False, "nextOffset": 0}


def _script(service: Any) -> None:
    """What the service responds."""
    service.respond("GET /v1/me", "me")
    service.respond("GET /health", "health")
    service.respond("GET /v1/generations", {"data": {"generations": TRACKS, **END}})
    service.respond("GET /v1/sound-effects", {"data": {"soundEffects": EFFECTS, **END}})
    service.respond("GET /v1/playlists", {"data": {"playlists": PLAYLISTS}})
    beds = {**PLAYLISTS[0], "isOwner": True, "tracks": TRACKS[1:]}
    service.respond(f"GET /v1/playlists/{beds['id']}", {"data": beds})
    for track in (*TRACKS[:3], COMPLETED):
        service.respond(f"GET /v1/generations/{track['id']}", {"data": track})


SCREENS: dict[str, tuple[str, ...]] = {
    "list": ("list",),
    "list, empty": ("list", "--status", "failed"),
    "get": ("get", "04080c10"),
    "get, failed": ("get", TRACKS[2]["id"]),
    "get, unknown": ("get", "lost"),
    "sfx list": ("sfx", "list"),
    "playlists": ("playlists",),
    "playlist show": ("playlist", "show", PLAYLISTS[0]["id"]),
    "playlist, unknown": ("playlist", "show", "Bed"),
    "me": ("me",),
    "doctor": ("doctor",),
    "batch, dry run": ("batch", "run", "songs.jsonl", "--out", "a", "--dry-run"),
    "generate, out of range": ("generate", "choir", "--bpm", "500", "--emulator"),
    "help": ("--help",),
    "help of generate": ("generate", "--help"),
    "help of batch run": ("batch", "run", "--help"),
}


def _show() -> None:
    """Show every screen at every width."""
    import finetuning_async
    from finetuning_async.cli import _event_loop
    from finetuning_async.cli._program import program
    from tests.cli.conftest import FakeService, LastingClock

    _event_loop.BACKEND["backend_options"] = {"loop_factory": LastingClock()}
    service = FakeService()
    http = httpx.AsyncClient(transport=httpx.MockTransport(service.handle))
    client: Any = partial(finetuning_async.AsyncClient, http_client=http)
    vars(finetuning_async)["AsyncClient"] = client  # only in this process
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["FINETUNING_CONFIG_HOME"] = "settings"
        os.environ["FINETUNING_API_KEY"] = "ft_live_0123456789abcdef0123456789abcdef"
        Path("songs.jsonl").write_text('{"tags": "rain"}\n' * 30, "utf-8")
        for width in WIDTHS:
            size = struct.pack("HHHH", ROWS, width, 0, 0)
            ioctl(0, termios.TIOCSWINSZ, size)
            for name, words in SCREENS.items():
                _script(service)
                if name == "list, empty":
                    empty = {"data": {"generations": [], **END}}
                    service.respond("GET /v1/generations", empty)
                program.main(list(words), "finetuning", standalone_mode=False)
                _mark(width, name)
            _bars(width)
            _batch(width)


def _mark(width: int, name: str) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os.write(1, f"\x1b]0;{width} {name}\x07".encode())


def _bars(width: int) -> None:
    """Progress at several moments of a track."""
    from finetuning_async.cli._delay_notice import QUEUE_FULL, RATE_LIMIT, Delay
    from finetuning_async.cli._progress_bar import BarReporter

    for name, delay in {
        "sending": None,
        "rate limit": Delay(RATE_LIMIT, 42.0, 12, is_wait=True),
        "queue": Delay(QUEUE_FULL, is_wait=True),
        "unreachable": Delay("cannot reach the service " * 12),
        "downloading": None,
    }.items():
        with BarReporter(70.0, "sending", no_color=False) as reporter:
            if delay is not None:
                reporter.delayed(delay, 0)
            if name == "downloading":
                reporter.loading(120_000, 1_400_000)
            reporter._progress.refresh()
            _mark(width, f"bar, {name}")


def _batch(width: int) -> None:
    """The table of a running batch, of more tracks than most have."""
    from finetuning_async.cli._batch_view import LiveView

    view = LiveView.__new__(LiveView)  # with numbers of our own, and no batch
    view._console = Console(stderr=True)
    with Live(console=view._console, transient=True, auto_refresh=False) as view._live:
        told: Any = view
        told.counts = lambda: {
            "done": "1234 of 20000",
            "running": "5",
            "queued": "18755",
            "failed": "4",
            "in doubt": "2",
            "credits": "1243",
        }
        told.forecast = lambda: ["next create when a track ends", "expected end in 9 h"]
        view.refresh()
        _mark(width, "bar of a batch")


if __name__ == "__main__":
    if "--show" in sys.argv:
        _show()
    else:
        FILE.write_text(written(capture()), "utf-8")
