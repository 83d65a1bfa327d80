"""``instrumental`` and ``sfx``: create, list, show, wait, save."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import miniaudio
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx
    from click.testing import Result

    from finetuning_async.emulator import Emulator

    Run = Callable[..., Result]

EFFECT = "POST /v1/sound-effects"


@pytest.mark.parametrize("name", ["instrumental", "inst"])
def test_an_instrumental_is_made_and_saved(
    finetuning: Run, emulator: Emulator, name: str
) -> None:
    ran = finetuning([name, "glass", "marimba", "loop"])
    assert (ran.exit_code, ran.stdout) == (0, "")
    assert "1999 credits left" in ran.stderr
    assert [path.stem[:18] for path in Path().iterdir()] == ["glass-marimba-loop"]
    (made,) = emulator.tracks.values()
    assert (made.kind, made.prompt) == ("instrumental", "glass marimba loop")


def test_a_rounded_duration_of_an_instrumental_is_reported(
    finetuning: Run, emulator: Emulator
) -> None:
    ran = finetuning(["inst", "loop", "--duration", "40", "--no-wait"])
    assert "note: the service changed duration from 40 to 45\n" in ran.stderr
    assert ran.stdout.strip() in emulator.tracks


@pytest.mark.parametrize(
    ("args", "sent"),
    [
        ([], True),
        (["--no-enhance"], False),
        (["--enhance=false"], False),
        (["--enhance=true"], True),
    ],
)
@pytest.mark.parametrize(
    ("command", "path"),
    [(["inst"], "POST /v1/instrumental"), (["sfx", "gen"], EFFECT)],
)
def test_enhance_is_always_sent_and_can_be_switched_off_in_both_spellings(
    finetuning: Run,
    service: Any,
    command: list[str],
    path: str,
    args: list[str],
    sent: bool,
) -> None:
    service.respond(path, "sound_effect_created", status=202)
    assert finetuning([*command, "crate", *args, "--no-wait"]).exit_code == 0
    assert service.sent(path)[0]["enhance"] is sent


def test_after_two_dashes_nothing_is_an_option(finetuning: Run, service: Any) -> None:
    service.respond(EFFECT, "sound_effect_created", status=202)
    args = ["sfx", "gen", "--no-wait", "--", "a", "--enhance=false"]
    assert finetuning(args).exit_code == 0
    assert service.sent(EFFECT) == [{"prompt": "a --enhance=false", "enhance": True}]


@pytest.mark.parametrize("name", ["generate", "gen"])
def test_an_effect_is_made_and_saved(
    finetuning: Run, emulator: Emulator, name: str
) -> None:
    args = ["sfx", name, "wooden", "crate", "--duration", "2.2"]
    ran = finetuning(args)
    assert (ran.exit_code, ran.stdout) == (0, "")
    first, second, *_, last = ran.stderr.splitlines()
    assert first.endswith(" · 99 left today")
    assert second == "note: the service changed duration from 2.2 to 2"
    (made,) = emulator.tracks
    assert last.startswith(f"Saved wooden-crate-{made[:8]}.mp3 (2.0 s")


def test_an_effect_with_json_is_printed_and_not_saved(
    finetuning: Run, emulator: Emulator
) -> None:
    ran = finetuning(["sfx", "generate", "crate", "--json"])
    assert json.loads(ran.stdout)["data"]["status"] == "completed"
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("args", "seconds"),
    [(["sfx", "gen", "--duration", "2"], 2), (["inst", "--duration", "30"], 30)],
)
def test_both_work_with_the_emulator_without_a_key(
    finetuning: Run, args: list[str], seconds: int
) -> None:
    ran = finetuning([*args, "--emulator", "crate", "-o", "a.mp3"])
    assert ran.exit_code == 0
    length = miniaudio.mp3_get_file_info("a.mp3").duration
    assert length == pytest.approx(seconds, abs=0.1)


def test_effects_are_listed_newest_first(finetuning: Run, emulator: Emulator) -> None:
    for prompt in ("one", "two", "three"):
        finetuning(["sfx", "gen", prompt, "--no-wait"])
    ran = finetuning(["sfx", "list", "--limit", "2"])
    heads, *rows = ran.stdout.splitlines()
    assert heads.split() == ["ID", "STATUS", "SECONDS", "PROMPT", "CREATED"]
    assert [row.split()[-2] for row in rows] == ["three", "two"]
    assert ran.stderr == "More: --offset 2\n"
    again = finetuning(["sfx", "list", "--offset", "2", "--json"])
    assert [row["prompt"] for row in json.loads(again.stdout)["data"]["soundEffects"]]


def test_effects_can_be_filtered(finetuning: Run, service: Any) -> None:
    service.respond("GET /v1/sound-effects", "sound_effects_list")
    finetuning(["sfx", "list", "--status", "failed"])
    assert service.requests[0].url.params["status"] == "failed"


def test_an_effect_is_shown(finetuning: Run, emulator: Emulator) -> None:
    made = finetuning(["sfx", "gen", "crate", "--no-wait"]).stdout.strip()
    assert f"id         {made}\n" in finetuning(["sfx", "get", made]).stdout
    ran = finetuning(["sfx", "get", made, "--json"])
    assert json.loads(ran.stdout)["data"]["id"] == made


def test_an_effect_is_waited_for_and_saved(finetuning: Run, emulator: Emulator) -> None:
    made = finetuning(["sfx", "gen", "crate", "--no-wait"]).stdout.strip()
    early = finetuning(["sfx", "download", made])
    assert early.exit_code == 1
    assert f"finetuning sfx wait {made} -o ." in early.stderr
    ran = finetuning(["sfx", "wait", made, "-o", "a.mp3"])
    assert ran.exit_code == 0
    assert "completed after" in ran.stderr
    assert finetuning(["sfx", "download", made]).exit_code == 0
    assert {path.name for path in Path().iterdir()} == {
        "a.mp3",
        f"crate-{made[:8]}.mp3",
    }


def test_an_unknown_effect_says_where_to_look(
    finetuning: Run, emulator: Emulator
) -> None:
    for name in ("get", "wait", "download"):
        ran = finetuning(["sfx", name, "lost"])
        assert ran.exit_code == 1
        assert "finetuning sfx list" in ran.stderr


def test_an_interrupted_effect_says_how_to_resume(
    finetuning: Run, service: Any
) -> None:
    def interrupt(request: httpx.Request) -> None:
        if request.method == "GET":
            signal.raise_signal(signal.SIGINT)

    service.respond(EFFECT, "sound_effect_created", status=202)
    service.on_request = interrupt
    ran = finetuning(["sfx", "gen", "crate", "--config", "c.json"])
    assert ran.exit_code == 2  # that file is not there
    Path("c.json").write_text("{}")
    ran = finetuning(["sfx", "gen", "crate", "--config", "c.json"])
    made = "2f6b90d4-7c1e-4a83-b0f5-d94e37a1c682"
    assert ran.exit_code == 130
    assert (
        f"{made} continues at the service; it counts toward the daily limit."
        in ran.stderr
    )
    assert f"To resume: finetuning sfx wait {made} -o . --config c.json" in ran.stderr


def test_the_daily_limit_is_reported_at_once(
    finetuning: Run, emulator: Emulator
) -> None:
    object.__setattr__(emulator, "daily_effects", 1)
    assert finetuning(["sfx", "gen", "crate"]).exit_code == 0
    ran = finetuning(["sfx", "gen", "crate"])
    assert ran.exit_code == 1
    assert "DAILY_LIMIT_REACHED" in ran.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["inst", "x", "--duration", "29"],
            "--duration must be a whole number from 30 to 210 seconds, got 29",
        ),
        (
            ["sfx", "gen", "x", "--duration", "9"],
            "--duration must be a number from 1 to 8 seconds, got 9",
        ),
        (["sfx", "gen", " "], "PROMPT must be a non-blank string, got ' '"),
        (["sfx", "gen", "x", "--seed", "4"], "No such option"),
        (["sfx"], "sfx [OPTIONS] COMMAND"),
    ],
)
def test_an_invalid_value_is_rejected_before_anything_is_sent(
    finetuning: Run, service: Any, args: list[str], message: str
) -> None:
    ran = finetuning(args)
    assert ran.exit_code == 2
    assert message in ran.stderr
    assert not service.requests
