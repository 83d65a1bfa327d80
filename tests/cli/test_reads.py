"""The commands that read: list, get, wait, download, me, health, doctor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

    Run = Callable[..., Result]

ID = "5e0c7b1a-93d4-4f26-8a71-2c6f0be4d918"
ROW = f"GET /v1/generations/{ID}"


def test_list_prints_a_table_on_stdout(finetuning: Run, service: Any) -> None:
    ran = finetuning(["list", "--limit", "2"])
    heads, first, second = ran.stdout.splitlines()
    assert heads.split() == ["ID", "STATUS", "SECONDS", "PROMPT", "CREATED"]
    assert first.split()[2:] == [
        *("60.0", "brass", "fanfare", "for", "a", "board", "game"),
        "2026-03-03T09:12:44Z",
    ]
    assert second.startswith(ID)
    assert ran.stderr == "More: --offset 2\n"


def test_list_sends_its_filters(finetuning: Run, service: Any) -> None:
    finetuning(
        ["list", "--status", "failed", "--type", "music", "--offset", "40", "-q"]
    )
    assert dict(service.requests[0].url.params) == {
        "limit": "20",
        "offset": "40",
        "status": "failed",
        "type": "music",
    }


def test_a_page_size_out_of_range_is_rejected(finetuning: Run, service: Any) -> None:
    ran = finetuning(["list", "--limit", "100"])
    assert ran.exit_code == 2
    assert "--limit must be a whole number of rows from 1 to 99, got 100" in ran.stderr


@pytest.mark.parametrize(
    ("args", "member"),
    [
        (["list"], "generations"),
        (["get", ID], "audioUrl"),
        (["me"], "limits"),
        (["health"], "status"),
    ],
)
def test_json_has_the_services_shape(
    finetuning: Run, service: Any, args: list[str], member: str
) -> None:
    ran = finetuning([*args, "--json"])
    assert ran.exit_code == 0
    assert list(json.loads(ran.stdout)) == ["data"]
    assert member in json.loads(ran.stdout)["data"]


def test_get_shows_a_track(finetuning: Run, service: Any) -> None:
    service.respond(ROW, "generation_completed")
    lines = finetuning(["get", ID]).stdout.splitlines()
    assert lines[0] == f"id             {ID}"
    assert "keyscale       A minor" in lines


def test_text_of_the_service_cannot_control_the_terminal(
    finetuning: Run, service: Any
) -> None:
    service.respond(ROW, {"data": {"id": ID, "status": "x\x1b[2J\ny"}})
    assert "\x1b" not in finetuning(["get", ID]).stdout


def test_json_escapes_what_controls_a_terminal_or_cannot_be_encoded(
    finetuning: Run, service: Any
) -> None:
    wild = "\x1b[2J \x9b2J \ud800 夜"
    service.respond(ROW, {"data": {"id": ID, "prompt": wild}})
    out = finetuning(["get", ID, "--json"]).stdout
    assert json.loads(out)["data"]["prompt"] == wild
    assert "\x1b" not in out
    assert "\x9b" not in out
    assert "夜" in out


def test_an_unknown_id_is_an_error_with_a_next_step(
    finetuning: Run, service: Any
) -> None:
    end = {"hasMore": False, "nextOffset": 0}
    service.respond("GET /v1/generations", {"data": {"generations": [], **end}})
    service.respond("GET /v1/sound-effects", {"data": {"soundEffects": [], **end}})
    for args in (["get", "lost"], ["wait", "lost"], ["download", "lost"]):
        ran = finetuning(args)
        assert ran.exit_code == 1
        assert "404 NOT_FOUND" in ran.stderr


def test_me_shows_the_credits_left(finetuning: Run, service: Any) -> None:
    out = finetuning(["me"]).stdout
    assert "credits   1707" in out
    assert "monthly   1682 of 2000 left" in out


def test_health_needs_no_key(
    finetuning: Run, service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FINETUNING_API_KEY")
    ran = finetuning(["health"])
    assert (ran.exit_code, ran.stdout) == (0, "ok\n")
    assert not service.hosts_with_key


def test_wait_reports_the_end_and_saves_nothing(finetuning: Run, service: Any) -> None:
    ran = finetuning(["wait", ID])
    assert ran.exit_code == 0
    assert ran.stdout == ""
    assert "completed after" in ran.stderr
    assert not list(Path().iterdir())


def test_a_track_that_had_ended_before_took_no_time(
    finetuning: Run, service: Any
) -> None:
    service.respond(ROW, "generation_completed")
    assert finetuning(["wait", ID]).stderr == "completed\n"


def test_wait_with_an_output_saves(finetuning: Run, service: Any) -> None:
    assert finetuning(["wait", ID, "-o", "."]).exit_code == 0
    assert [path.name for path in Path().iterdir()] == [
        "slow-choir-over-tape-hiss-5e0c7b1a.mp3"
    ]


def test_wait_prints_json(finetuning: Run, service: Any) -> None:
    ran = finetuning(["wait", ID, "--json"])
    assert json.loads(ran.stdout)["data"]["status"] == "completed"


def test_wait_for_a_failed_track_is_an_error(finetuning: Run, service: Any) -> None:
    service.respond(ROW, "generation_failed")
    ran = finetuning(["wait", ID, "-o", "a.mp3"])
    assert ran.exit_code == 1
    assert "renderer ran out of time" in ran.stderr
    assert not Path("a.mp3").exists()


def test_download_saves_a_completed_track(finetuning: Run, service: Any) -> None:
    service.respond(ROW, "generation_completed")
    ran = finetuning(["download", ID, "-o", "a.mp3"])
    assert (ran.exit_code, ran.stdout) == (0, "")
    assert ran.stderr == "Saved a.mp3 (60.0 s, 240 kB)\n"


@pytest.mark.parametrize("state", ["processing", "failed"])
def test_download_rejects_a_track_that_is_not_completed(
    finetuning: Run, service: Any, state: str
) -> None:
    service.respond(ROW, f"generation_{state}")
    ran = finetuning(["download", ID])
    assert ran.exit_code == 1
    assert state in ran.stderr
    assert ("finetuning wait" in ran.stderr) == (state == "processing")


def test_the_media_host_never_gets_the_key(finetuning: Run, service: Any) -> None:
    finetuning(["wait", ID, "-o", "a.mp3"])
    assert service.hosts_with_key == {"pub.finetuning.ai"}
    assert service.requests[-1].url.host == "media.finetuning.ai"


def test_doctor_shows_everything_but_the_key(finetuning: Run, service: Any) -> None:
    ran = finetuning(["doctor"])
    assert ran.exit_code == 0
    assert "ft_live_0123**** (FINETUNING_API_KEY)" in ran.stdout
    assert "https://pub.finetuning.ai (default)" in ran.stdout
    assert "ft_live_01234" not in ran.output
    assert "dev@example.org, plan pro, 1707 credits" in ran.stdout


def test_doctor_without_a_key_still_checks_the_health(
    finetuning: Run, service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FINETUNING_API_KEY")
    ran = finetuning(["doctor"])
    assert ran.exit_code == 1
    assert "health   ok" in ran.stdout
    assert "no API key" in ran.stdout
    assert "on finetuning.ai. To try it without a key, run" in ran.stdout


def test_doctor_separates_the_sentences_of_a_message(
    finetuning: Run, service: Any
) -> None:
    service.on_request = _no_network
    ran = finetuning(["doctor"])
    assert ran.exit_code == 1
    assert "not known. Check the network, and --base-url" in ran.stdout


def _no_network(request: httpx.Request) -> None:
    raise httpx.ConnectError("Name not known", request=request)


def test_doctor_shows_which_check_fails(finetuning: Run, service: Any) -> None:
    service.respond("GET /v1/me", "error_invalid_api_key", status=401)
    ran = finetuning(["doctor"])
    assert ran.exit_code == 1
    assert "health   ok" in ran.stdout
    assert "401 INVALID_API_KEY" in ran.stdout
