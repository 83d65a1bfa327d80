"""``finetuning generate``: what it sends, prints and saves."""

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

    Run = Callable[..., Result]

ID = "5e0c7b1a-93d4-4f26-8a71-2c6f0be4d918"
CREATE = "POST /v1/generations"
DEFAULT_NAME = "slow-choir-over-tape-hiss-5e0c7b1a.mp3"


def test_the_emulator_needs_no_key_and_makes_an_mp3(finetuning: Run) -> None:
    args = [
        "generate",
        "--emulator",
        "lofi",
        "piano",
        "--duration",
        "5",
        "-o",
        "n.mp3",
    ]
    ran = finetuning(args)
    assert ran.exit_code == 0
    assert ran.stdout == ""
    assert "emulator" in ran.stderr
    assert "placeholder" in ran.stderr
    assert "Saved n.mp3 (5.0 s, " in ran.stderr
    length = miniaudio.mp3_get_file_info("n.mp3").duration
    assert length == pytest.approx(5, abs=0.1)


def test_the_emulator_ignores_the_environment(
    finetuning: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINETUNING_API_KEY", "not a key")
    monkeypatch.setenv("FINETUNING_BASE_URL", "http://elsewhere.example")
    ran = finetuning(["generate", "--emulator", "lofi", "--duration", "5", "--json"])
    assert ran.exit_code == 0
    assert json.loads(ran.stdout)["data"]["status"] == "completed"


def test_words_are_joined_and_only_what_is_set_is_sent(
    finetuning: Run, service: Any
) -> None:
    assert finetuning(["generate", "slow", "choir"]).exit_code == 0
    (body,) = service.sent(CREATE)
    assert (
        body.pop("seed") > 0
    )  # the library sets one, so that a lost create can be found
    assert body == {"tags": "slow choir"}


def test_every_option_is_sent_under_the_services_name(
    finetuning: Run, service: Any
) -> None:
    args = (
        "generate choir --duration 75 --bpm 92.5 --key Bb --scale minor --time-sig 3"
        " --language de --lyrics la --seed 0 --webhook https://hooks.example.org/x"
    )
    assert finetuning(args.split()).exit_code == 0
    assert service.sent(CREATE) == [
        {
            "tags": "choir",
            "duration": 75,
            "bpm": 92.5,
            "key": "A#",
            "scale": "minor",
            "timesignature": "3",
            "language": "de",
            "lyrics": "la",
            "seed": 0,
            "webhook": "https://hooks.example.org/x",
        }
    ]


def test_each_step_is_printed_on_stderr_and_nothing_on_stdout(
    finetuning: Run, service: Any
) -> None:
    ran = finetuning(["generate", "choir"])
    assert ran.stdout == ""
    assert ran.stderr.splitlines() == [
        f"accepted {ID} · 1705 credits left",
        "processing",
        ran.stderr.splitlines()[2],
        f"Saved {DEFAULT_NAME} (60.0 s, 240 kB)",
    ]
    assert ran.stderr.splitlines()[2].startswith("completed after ")
    assert Path(DEFAULT_NAME).stat().st_size == 240_000


def test_quiet_prints_nothing(finetuning: Run, service: Any) -> None:
    ran = finetuning(["generate", "choir", "--quiet"])
    assert (ran.stdout, ran.stderr) == ("", "")
    assert Path(DEFAULT_NAME).exists()


def test_verbose_prints_the_requests(finetuning: Run, service: Any) -> None:
    ran = finetuning(["-v", "generate", "choir"])
    assert "POST /v1/generations: 202" in ran.stderr


def test_json_prints_the_track_and_saves_nothing(finetuning: Run, service: Any) -> None:
    ran = finetuning(["generate", "choir", "--json"])
    assert json.loads(ran.stdout)["data"]["audioUrl"].endswith(f"{ID}.mp3")
    assert ran.stdout.startswith('{\n  "data": {\n    "id": ')
    assert not list(Path().iterdir())


def test_json_with_an_output_saves_too(finetuning: Run, service: Any) -> None:
    ran = finetuning(["generate", "choir", "--json", "-o", "a/b.mp3"])
    assert json.loads(ran.stdout)["data"]["id"] == ID
    assert "Saved a/b.mp3" in ran.stderr
    assert Path("a/b.mp3").exists()


def test_an_output_that_is_a_folder_gets_the_default_name(
    finetuning: Run, service: Any
) -> None:
    finetuning(["generate", "choir", "-o", "music/"])
    assert Path("music", DEFAULT_NAME).exists()


def test_an_older_file_is_replaced(finetuning: Run, service: Any) -> None:
    Path("a.mp3").write_text("old")
    assert finetuning(["generate", "choir", "-o", "a.mp3"]).exit_code == 0
    assert Path("a.mp3").stat().st_size == 240_000


def test_no_wait_prints_the_id(finetuning: Run, service: Any) -> None:
    ran = finetuning(["generate", "choir", "--no-wait"])
    assert ran.stdout == f"{ID}\n"
    assert len(service.requests) == 1


def test_a_webhook_implies_no_wait_and_its_query_is_never_shown(
    finetuning: Run, service: Any
) -> None:
    hook = "https://hooks.example.org/ft?token=s3cr3t"
    for args in ([], ["--json", "-v"]):
        ran = finetuning(["generate", "choir", "--webhook", hook, *args])
        assert ran.exit_code == 0
        assert "s3cr3t" not in ran.output
    assert json.loads(ran.stdout)["data"]["webhook"].endswith("/ft?****")
    assert service.sent(CREATE)[0]["webhook"] == hook


def test_a_webhook_with_an_output_waits(finetuning: Run, service: Any) -> None:
    args = ["generate", "choir", "--webhook", "https://hooks.example.org/x"]
    assert finetuning([*args, "-o", "a.mp3"]).exit_code == 0
    assert Path("a.mp3").exists()


def test_a_change_by_the_service_is_reported_once(
    finetuning: Run, service: Any
) -> None:
    service.respond(CREATE, "generation_created_no_webhook", status=202)
    args = ["generate", "slow choir over tape hiss", "--bpm", "92", "--seed", "41"]
    ran = finetuning([*args, "--no-wait"])
    notes = [line for line in ran.stderr.splitlines() if "note" in line]
    assert notes == ["note: the service changed bpm from 92 to 70"]


def test_a_failed_track_is_an_error_and_still_json(
    finetuning: Run, service: Any
) -> None:
    service.respond(f"GET /v1/generations/{ID}", "generation_failed")
    ran = finetuning(["generate", "choir", "--json"])
    assert ran.exit_code == 1
    assert json.loads(ran.stdout)["data"]["status"] == "failed"
    assert f"Error: {ID} failed: renderer ran out of time" in ran.stderr
    assert "finetuning wait" not in ran.stderr


def test_an_error_text_of_the_service_cannot_control_the_terminal(
    finetuning: Run, service: Any
) -> None:
    failed = {"id": ID, "status": "failed", "errorMessage": "\x1b[2Jgone"}
    service.respond(f"GET /v1/generations/{ID}", {"data": failed})
    ran = finetuning(["generate", "choir"])
    assert "gone" in ran.stderr
    assert "\x1b" not in ran.stderr


def test_a_timeout_says_how_to_resume(finetuning: Run, service: Any) -> None:
    service.respond(f"GET /v1/generations/{ID}", "generation_processing")
    ran = finetuning(["generate", "choir", "--timeout", "30", "-o", "my song.mp3"])
    assert ran.exit_code == 1
    assert "did not end within 30.0 s" in ran.stderr
    assert f"To resume: finetuning wait {ID} -o 'my song.mp3'" in ran.stderr


def test_a_failed_download_says_how_to_resume(finetuning: Run, service: Any) -> None:
    service.respond(f"GET /audio/{ID}.mp3", b"gone", status=404)
    ran = finetuning(["generate", "choir"])
    assert ran.exit_code == 1
    assert f"To resume: finetuning wait {ID} -o ." in ran.stderr
    assert not list(Path().iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
def test_a_full_disk_says_how_to_resume_even_when_quiet(
    finetuning: Run, service: Any
) -> None:
    ran = finetuning(["-q", "generate", "choir", "-o", "/dev/full"])
    assert ran.exit_code == 1
    assert "No space left" in ran.stderr
    assert f"To resume: finetuning wait {ID} -o /dev/full" in ran.stderr


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_an_interrupted_wait_prints_the_id_and_how_to_resume(
    finetuning: Run, service: Any, number: int, code: int
) -> None:
    def interrupt(request: httpx.Request) -> None:
        if request.method == "GET":
            signal.raise_signal(number)

    service.on_request = interrupt
    ran = finetuning(["generate", "choir", "-o", "a.mp3"])
    assert ran.exit_code == code
    assert f"{ID} continues at the service; its credit is spent." in ran.stderr
    assert f"To resume: finetuning wait {ID} -o a.mp3" in ran.stderr


def test_an_interrupted_create_still_prints_its_id(
    finetuning: Run, service: Any
) -> None:
    service.on_request = lambda _: signal.raise_signal(signal.SIGINT)
    ran = finetuning(["generate", "choir"])
    assert ran.exit_code == 130
    assert f"accepted {ID}" in ran.stderr
    assert f"finetuning wait {ID}" in ran.stderr


def test_a_long_wait_for_acceptance_is_explained(finetuning: Run, service: Any) -> None:
    service.respond(CREATE, "error_generation_rate_limited", status=429)
    ran = finetuning(["generate", "choir", "--no-wait"])
    assert "not accepted yet: rate limited; waiting as long as" in ran.stderr


@pytest.mark.parametrize(
    "args",
    [
        ["--speed", "4"],
        ["--emulator", "--base-url", "http://127.0.0.1:8787"],
        ["--emulator", "--no-wait"],
        ["--emulator", "--webhook", "https://hooks.example.org/x"],
        ["--no-wait", "-o", "a.mp3"],
    ],
)
def test_contradicting_options_are_rejected(
    finetuning: Run, service: Any, args: list[str]
) -> None:
    ran = finetuning(["generate", "choir", *args])
    assert ran.exit_code == 2
    assert "Usage: " in ran.stderr
    assert not service.requests


def test_a_budget_counts_what_earlier_runs_have_spent(
    finetuning: Run, service: Any
) -> None:
    service.respond("GET /v1/me", "me")
    service.respond("GET /v1/generations", "generations_list_last_page")
    args = ["generate", "choir", "--no-wait", "--journal", "tracks.db"]
    args += ["--budget", "1"]
    assert finetuning(args).exit_code == 0
    sent = sum(request.method == "POST" for request in service.requests)
    ran = finetuning(args)
    assert ran.exit_code == 1
    assert "Error: nothing was sent: 1 of 1 credits are spent" in ran.stderr
    assert sum(request.method == "POST" for request in service.requests) == sent
    ran = finetuning(["generate", "choir", "--budget", "1"])
    assert (ran.exit_code, "requires --journal" in ran.stderr) == (2, True)


def test_shared_limits_are_those_of_the_machine(
    finetuning: Run, service: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert finetuning(["generate", "choir", "--no-wait"]).exit_code == 0
    assert not [*tmp_path.rglob("*.db")]
    args = ["generate", "choir", "--no-wait", "--shared", "--priority", "high"]
    assert finetuning(args).exit_code == 0
    assert [*tmp_path.rglob("*.db")]
    ran = finetuning(["generate", "choir", "--shared", "--emulator"])
    assert (ran.exit_code, "--shared" in ran.stderr) == (2, True)
