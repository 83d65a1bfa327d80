"""``-o`` may be whatever a shell can write to: pipes, devices, open files."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import miniaudio
import pytest

from tests.real_time.test_cli_process import BARE, PROGRAM, run, shell_program, started

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("warm_programs")

WORDS = "夜のピアノ"


@pytest.fixture(scope="module")
def service() -> Iterator[Mapping[str, str]]:
    """The environment of a client of an emulator on a port, at speed 200."""
    with started("emulator", "--port", "0", "-q", "--speed", "200") as process:
        assert process.stdout is not None
        line = process.stdout.readline().removeprefix("export ").split()
        yield {**BARE, **dict(word.split("=", 1) for word in line)}


@pytest.fixture(scope="module")
def track(
    service: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, bytes]:
    """The id of a track, and its audio."""
    folder = tmp_path_factory.mktemp("track")
    made = run("generate", WORDS, "--no-wait", env=service).stdout.strip()
    assert run("wait", made, "-o", ".", env=service, cwd=folder).returncode == 0
    (path,) = folder.iterdir()
    assert path.name == f"{WORDS}-{made[:8]}.mp3"
    return made, path.read_bytes()


def shell(line: str, env: Mapping[str, str], folder: Path) -> tuple[int, str]:
    ran = subprocess.run(
        ["/bin/sh", "-c", line.replace("finetuning", shell_program())],
        capture_output=True,
        text=True,
        env=env,
        cwd=folder,
        check=False,
        timeout=30,
    )
    return ran.returncode, ran.stderr


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    "line",
    [
        "finetuning download $T -o /dev/stdout > out",
        "finetuning download $T -o /dev/stdout | cat > out",
        "finetuning download $T -o /dev/fd/3 3> out",
        "mkfifo f; cat f > out & finetuning download $T -o f && wait && test -p f",
        "ln -s out link; finetuning download $T -o link && test -L link",
        "umask 077; finetuning download $T -o out && test $(stat -c %a out) = 600",
    ],
)
def test_output_may_be_a_device_a_pipe_or_a_link(
    line: str,
    service: Mapping[str, str],
    track: tuple[str, bytes],
    tmp_path: Path,
) -> None:
    code, err = shell(line.replace("$T", track[0]), service, tmp_path)
    assert (code, "Saved" in err) == (0, True)
    assert (tmp_path / "out").read_bytes() == track[1]


def test_output_is_written_between_what_others_write(
    service: Mapping[str, str], track: tuple[str, bytes], tmp_path: Path
) -> None:
    line = f"(echo a; finetuning download {track[0]} -o /dev/stdout; echo b) > out"
    assert shell(line, service, tmp_path)[0] == 0
    assert (tmp_path / "out").read_bytes() == b"a\n" + track[1] + b"b\n"


def test_a_reader_that_closes_the_pipe_is_an_error(
    service: Mapping[str, str], track: tuple[str, bytes], tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "f")
    line = f"head -c 9 f > out & finetuning download {track[0]} -o f"
    code, err = shell(line, service, tmp_path)
    assert code == 1
    assert "its reader closed the pipe" in err
    assert "Traceback" not in err


def test_a_paid_track_whose_reader_closes_the_pipe_can_be_resumed(
    service: Mapping[str, str], tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "f")
    line = f"head -c 9 f > out & finetuning -q generate {WORDS} --duration 60 -o f"
    code, err = shell(line, service, tmp_path)
    assert code == 1
    assert "its reader closed the pipe" in err
    assert "To resume: finetuning wait" in err


def test_a_dash_writes_the_audio_to_stdout() -> None:
    args = [*PROGRAM, "generate", "choir", "--emulator", "--duration", "5", "-o", "-"]
    ran = subprocess.run(args, capture_output=True, env=BARE, check=True)
    assert miniaudio.decode(ran.stdout).duration == pytest.approx(5, abs=0.1)
    assert b"Saved to stdout (5.0 s)" in ran.stderr
