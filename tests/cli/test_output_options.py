"""Where a track goes, what is read for it, and how lists are printed."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

    Run = Callable[..., Result]

ID = "5e0c7b1a-93d4-4f26-8a71-2c6f0be4d918"
CREATE = "POST /v1/generations"


def _put_on_path(monkeypatch: pytest.MonkeyPatch, name: str, code: int = 0) -> Path:
    """Put a program on an otherwise empty path; it notes its arguments in a file."""
    folder = Path("bin").absolute()
    folder.mkdir()
    program, notes = folder / name, folder / "notes"
    program.write_text(f'#!/bin/sh\necho "$@" > {notes}\nexit {code}\n', "utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return notes


def test_no_clobber_leaves_an_existing_file_alone_and_spends_nothing(
    finetuning: Run, service: Any
) -> None:
    Path("a.mp3").write_text("mine", "utf-8")
    for args in (["generate", "choir"], ["wait", ID], ["download", ID]):
        ran = finetuning([*args, "-o", "a.mp3", "--no-clobber"])
        assert ran.exit_code == 2
        assert "-o/--output must be a file that is not there yet, got 'a.mp3'; to" in (
            ran.stderr
        )
    assert Path("a.mp3").read_text("utf-8") == "mine"
    assert not service.requests
    assert finetuning(["wait", ID, "-o", "b.mp3", "--no-clobber"]).exit_code == 0


def test_no_clobber_holds_for_the_default_name_too(
    finetuning: Run, service: Any
) -> None:
    args = ["download", ID, "--no-clobber"]
    service.respond(f"GET /v1/generations/{ID}", "generation_completed")
    assert finetuning(args).exit_code == 0
    ran = finetuning(args)
    assert (ran.exit_code, "that is not there yet" in ran.stderr) == (2, True)


@pytest.mark.parametrize("name", ["song.wav", "song.FLAC", "a/b.ogg"])
def test_the_name_of_another_format_is_refused_before_anything_is_spent(
    finetuning: Run, service: Any, name: str
) -> None:
    ran = finetuning(["generate", "choir", "-o", name])
    assert ran.exit_code == 2
    assert (
        f"must be a name that ends in .mp3, since the service makes MP3s, got '{name}'"
        in (ran.stderr)
    )
    assert not service.requests
    assert finetuning(["generate", "choir", "-o", "song.bin"]).exit_code == 0


def test_lyrics_come_from_a_file_or_from_stdin(finetuning: Run, service: Any) -> None:
    Path("song.txt").write_text("\ufeffla\nlä\n", "utf-8")
    finetuning(["generate", "choir", "--no-wait", "--lyrics", "@song.txt"])
    finetuning(["generate", "choir", "--no-wait", "--lyrics", "@-"], input="lo\n")
    finetuning(["generate", "choir", "--no-wait", "--lyrics", "@@home"])
    assert [body["lyrics"] for body in service.sent(CREATE)] == [
        "la\nlä",
        "lo",
        "@home",
    ]


def test_lyrics_that_cannot_be_read_are_an_error(finetuning: Run, service: Any) -> None:
    Path("latin.txt").write_bytes(b"\xe4\xf6")
    for name, why in {
        "no.txt": "No such file",
        "latin.txt": "not text in UTF-8",
    }.items():
        ran = finetuning(["generate", "choir", "--lyrics", f"@{name}"])
        assert ran.exit_code == 2
        assert f"cannot read {name}" in ran.stderr
        assert why in ran.stderr
    assert not service.requests


def test_a_saved_track_is_played(
    finetuning: Run, service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = _put_on_path(monkeypatch, "mpg123")
    assert finetuning(["generate", "choir", "-o", "a.mp3", "--play"]).exit_code == 0
    assert notes.read_text("utf-8") == "-q a.mp3\n"
    service.respond(f"GET /v1/generations/{ID}", "generation_completed")
    assert finetuning(["download", ID, "-o", "b.mp3", "--play"]).exit_code == 0
    assert notes.read_text("utf-8") == "-q b.mp3\n"


def test_a_player_that_fails_is_an_error_and_the_file_stays(
    finetuning: Run, service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _put_on_path(monkeypatch, "mpv", code=2)
    ran = finetuning(["generate", "choir", "-o", "a.mp3", "--play"])
    assert (ran.exit_code, ran.stderr.splitlines()[-1]) == (
        1,
        "Error: mpv could not play a.mp3.",
    )
    assert Path("a.mp3").exists()


def test_what_cannot_be_played_is_refused_before_anything_is_spent(
    finetuning: Run, service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "nowhere")
    ran = finetuning(["generate", "choir", "--play"])
    assert (ran.exit_code, "install one of mpv, ffplay" in ran.stderr) == (2, True)
    ran = finetuning(["wait", ID, "--play"])
    assert (ran.exit_code, "--play needs a saved file" in ran.stderr) == (2, True)
    assert not service.requests


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(os, "fork"),
    reason="each system opens URLs its way",
)
def test_open_opens_the_audio_of_a_track(
    finetuning: Run, service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.respond(f"GET /v1/generations/{ID}", "generation_completed")
    notes = _put_on_path(monkeypatch, "xdg-open")
    assert finetuning(["open", ID]).exit_code == 0
    assert notes.read_text("utf-8").endswith(f"{ID}.mp3\n")
    service.respond(f"GET /v1/generations/{ID}", "generation_processing")
    ran = finetuning(["open", ID])
    assert (ran.exit_code, "is processing; there is no audio" in ran.stderr) == (
        1,
        True,
    )


def test_list_all_reads_every_page(finetuning: Run, emulator: Any) -> None:
    for n in range(7):
        finetuning(["sfx", "gen", f"crate {n}", "--no-wait", "-q"])
    rows = finetuning(["sfx", "list", "--all", "--limit", "3"])
    numbers = [line.partition("crate ")[2][:1] for line in rows.stdout.splitlines()]
    assert numbers == ["", *"6543210"]
    assert rows.stderr == ""
    assert emulator.count(path="/v1/sound-effects") - 7 >= 3  # pages
    one = json.loads(finetuning(["sfx", "list", "--all", "--json"]).stdout)["data"]
    assert [row["prompt"][-1] for row in one["soundEffects"]] == [*"6543210"]


def test_jsonl_prints_a_track_a_line(finetuning: Run, service: Any) -> None:
    ran = finetuning(["list", "--limit", "2", "--jsonl"])
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    assert lines[0]["prompt"] == "brass fanfare for a board game"
    assert lines[1]["id"] == ID
    assert ran.stderr == "More: --offset 2\n"
    ran = finetuning(["list", "--json", "--jsonl"])
    assert (ran.exit_code, "choose one" in ran.stderr) == (2, True)


def test_two_things_on_stdout_are_refused(finetuning: Run, service: Any) -> None:
    ran = finetuning(["generate", "choir", "-o", "-", "--json"])
    assert (ran.exit_code, "both use stdout" in ran.stderr) == (2, True)


def test_a_saved_track_can_say_what_it_is_and_be_checked(finetuning: Run) -> None:
    args = ["generate", "rain", "--emulator", "--duration", "5", "--lyrics", "la"]
    ran = finetuning([*args, "-o", "a.mp3", "--metadata", "--check", "--sidecar"])
    assert ran.exit_code == 0, ran.stderr
    content = Path("a.mp3").read_bytes()
    assert b"USLT" in content
    assert b"TXXX" in content
    known = json.loads(Path("a.json").read_text("utf-8"))["data"]
    assert known["prompt"] == "rain"
    assert known["id"].encode() in content


def test_a_file_that_fails_the_check_is_kept_and_reported(
    finetuning: Run, service: Any
) -> None:
    ran = finetuning(["generate", "choir", "-o", "a.mp3", "--check"])
    assert ran.exit_code == 1
    assert ran.stderr.endswith(
        "Error: a.mp3 is saved, but it is not an MP3; to have another one made costs"
        " another credit\n"
    )
    assert Path("a.mp3").stat().st_size == 240_000


@pytest.mark.parametrize("option", ["--metadata", "--check", "--sidecar", "--play"])
def test_an_option_of_a_file_is_refused_where_none_is_saved(
    finetuning: Run, service: Any, option: str
) -> None:
    for args in (["wait", ID], ["generate", "x", "--no-wait"], ["inst", "x", "--json"]):
        ran = finetuning([*args, option])
        assert (ran.exit_code, f"{option} needs a saved file" in ran.stderr) == (
            2,
            True,
        )
    assert not service.requests
