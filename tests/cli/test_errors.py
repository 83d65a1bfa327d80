"""Bad input and bad responses: a clear message, the right exit code, nothing lost."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from finetuning_async import (
    APIResponseError,
    APITimeoutError,
    AsyncClient,
    RateLimit,
    RateLimits,
)
from finetuning_async.cli import main
from finetuning_async.cli._messages import describe_error
from finetuning_async.cli.commands import me

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

    Run = Callable[..., Result]

KEY = "ft_live_0123456789abcdef0123456789abcdef"
CREATE = "POST /v1/generations"
HTML = b"<html><body>Welcome to the hotel's WLAN</body></html>"


def test_without_a_key_it_says_where_to_get_one(finetuning: Run) -> None:
    ran = finetuning(["generate", "choir"])
    assert ran.exit_code == 2
    for hint in ("Profile > API", "FINETUNING_API_KEY", "--emulator"):
        assert hint in ran.stderr


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("ft_live_0123", "40 characters long, but it has 12"),
        ("sk_test_" + 32 * "0", "begins with ft_live_"),
        (KEY[:-1] + "ä", "printable ASCII"),
    ],
)
def test_a_malformed_key_is_rejected_and_not_repeated(
    finetuning: Run,
    service: Any,
    monkeypatch: pytest.MonkeyPatch,
    key: str,
    reason: str,
) -> None:
    monkeypatch.setenv("FINETUNING_API_KEY", key)
    ran = finetuning(["generate", "choir"])
    assert ran.exit_code == 2
    assert reason in ran.stderr
    assert key not in ran.output
    assert not service.requests


def test_an_emulator_on_this_machine_may_take_any_key(
    finetuning: Run, service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINETUNING_API_KEY", "test")
    ran = finetuning(["me", "--base-url", "http://127.0.0.1:8787"])
    assert ran.exit_code == 0


@pytest.mark.parametrize("by_option", [True, False])
def test_http_to_another_machine_is_rejected(
    finetuning: Run, service: Any, monkeypatch: pytest.MonkeyPatch, by_option: bool
) -> None:
    url = "http://pub.finetuning.ai"
    if not by_option:
        monkeypatch.setenv("FINETUNING_BASE_URL", url)
    ran = finetuning(["generate", "choir", *(["--base-url", url] if by_option else [])])
    assert ran.exit_code == 2
    assert "the base URL must be an https:// URL" in ran.stderr
    assert f"got '{url}'" in ran.stderr
    assert not service.requests


@pytest.mark.parametrize("output", ["file/a.mp3", "folder"])
def test_an_unwritable_output_is_found_before_the_credit_is_spent(
    finetuning: Run, service: Any, output: str
) -> None:
    Path("file").write_text("in the way")
    Path("folder").mkdir()
    Path("folder", "generation.mp3").mkdir()
    ran = finetuning(["generate", "choir", "-o", output])
    assert ran.exit_code == 2
    assert "-o/--output" in ran.stderr
    assert (
        "(a part of the path is a file)" in ran.stderr or "(it is a dir" in ran.stderr
    )
    assert not service.requests


@pytest.mark.skipif(
    getattr(os, "geteuid", lambda: 0)() == 0, reason="root can write everywhere"
)
def test_a_folder_without_write_permission_is_found_as_well(
    finetuning: Run, service: Any
) -> None:
    Path("locked").mkdir(mode=0o500)
    ran = finetuning(["generate", "choir", "-o", "locked/a.mp3"])
    assert ran.exit_code == 2
    assert not service.requests


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["--duration", "500"],
            "--duration must be a number from 5 to 210 seconds, got 500",
        ),
        (["--duration", "nan"], "seconds, got nan"),
        (["--duration", "long"], "must be a number, got 'long'"),
        (["--time-sig", "9"], "from 2 to 7 beats per bar, got '9'"),
        (["--key", "H"], "--key must be one of C, C#, D"),
        (["--webhook", "http://a.example/?s3cr3t"], "--webhook must be a URL"),
        (["--bpn", "60"], "No such option"),
        (["--timeout", "-1"], "'--timeout': must be a number of at least 0, got -1"),
    ],
)
def test_an_invalid_value_names_the_option_and_sends_nothing(
    finetuning: Run, service: Any, args: list[str], message: str
) -> None:
    ran = finetuning(["generate", "choir", *args])
    assert ran.exit_code == 2
    assert message in ran.stderr
    assert "s3cr3t" not in ran.output
    assert not service.requests


def test_blank_tags_are_rejected(finetuning: Run, service: Any) -> None:
    ran = finetuning(["generate", " "])
    assert ran.exit_code == 2
    assert (
        "TAGS must be a non-blank string of 1 to 700 characters, got ' '" in ran.stderr
    )


def test_an_unknown_command_is_rejected(finetuning: Run) -> None:
    ran = finetuning(["compose"])
    assert ran.exit_code == 2
    assert "No such command 'compose'" in ran.stderr


def test_a_response_in_html_is_a_short_error(finetuning: Run, service: Any) -> None:
    service.respond("GET /v1/me", HTML)
    ran = finetuning(["me"])
    assert ran.exit_code == 1
    assert ran.stderr.startswith("Error: ")
    assert "--base-url" in ran.stderr
    assert len(ran.stderr.splitlines()) <= 2


def test_a_create_with_a_response_in_html_says_the_seed_to_look_for(
    finetuning: Run, service: Any
) -> None:
    service.respond(CREATE, HTML)
    service.respond("GET /v1/generations", HTML)
    ran = finetuning(["generate", "choir", "--seed", "77"])
    assert ran.exit_code == 1
    assert "seed=77" in ran.stderr
    assert "finetuning list" in ran.stderr
    assert len(service.sent(CREATE)) == 1


@pytest.mark.parametrize(
    ("body", "status", "code", "hint"),
    [
        ("error_validation", 400, 2, "bpm is outside 60-200"),
        ("error_invalid_api_key", 401, 1, "Profile > API"),
        ("error_monthly_limit_reached", 402, 1, "monthly reset"),
        ("error_pro_plan_required", 403, 1, "Pro and Lifetime"),
    ],
)
def test_an_error_of_the_service_has_its_exit_code_and_advice(
    finetuning: Run, service: Any, body: str, status: int, code: int, hint: str
) -> None:
    service.respond(CREATE, body, status=status)
    ran = finetuning(["generate", "choir"])
    assert ran.exit_code == code
    assert hint in ran.stderr
    assert "Traceback" not in ran.output


def test_an_unreachable_service_is_an_error(finetuning: Run, service: Any) -> None:
    def refuse(_: object) -> None:
        raise httpx.ConnectError("refused")

    service.on_request = refuse
    ran = finetuning(["me"])
    assert ran.exit_code == 1
    assert "Check the network" in ran.stderr


def _break(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise RuntimeError(f"a bug that shows {KEY}")

    monkeypatch.setattr(me, "fields", broken)


def test_a_bug_is_a_short_error_that_mentions_debug(
    finetuning: Run, service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _break(monkeypatch)
    ran = finetuning(["me"])
    assert ran.exit_code == 1
    assert ran.stderr.startswith("Error: internal error: RuntimeError: a bug")
    assert "--debug" in ran.stderr
    assert "Traceback" not in ran.output
    assert KEY not in ran.output


def test_debug_shows_the_traceback_without_the_key(
    finetuning: Run, service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _break(monkeypatch)
    ran = finetuning(["me", "--debug"])
    assert "Traceback" in ran.stderr
    assert KEY not in ran.output


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_its_libraries_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    assert main() == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert f"needs {missing}: pip install 'finetuning-async[cli]'" in err


def test_without_the_emulators_libraries_it_says_what_to_install(
    finetuning: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "finetuning_async.emulator", raising=False)
    monkeypatch.setitem(sys.modules, "lameenc", None)
    ran = finetuning(["generate", "--emulator", "choir"])
    assert ran.exit_code == 1
    assert "Traceback" not in ran.output
    assert "pip install 'finetuning-async[emulator]'" in ran.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("generate choir --emulator --speed -1", "must be a number above 0, got -1."),
        ("generate choir --emulator --speed inf", "must be a number above 0, got inf."),
        ("emulator --speed 0", "'--speed': must be a number above 0, got 0."),
        ("emulator --failure-rate 2", "must be a number from 0 to 1, got 2."),
        ("emulator --queue-size 0", "'--queue-size': 0 is not in the range"),
        ("emulator --credits -3", "'--credits': -3 is not in the range"),
        ("demo --speed nan", "'--speed': must be a number above 0, got nan."),
        (
            "batch run songs.csv --out album --speed 0",
            "must be a number above 0, got 0.",
        ),
    ],
)
def test_an_emulator_setting_out_of_range_is_rejected_by_its_option(
    finetuning: Run, args: str, message: str
) -> None:
    ran = finetuning(args.split())
    assert ran.exit_code == 2
    assert message in ran.stderr


@pytest.mark.parametrize("command", ["emulator", "demo"])
def test_the_advice_for_a_foreign_address_is_another_host(
    finetuning: Run, command: str
) -> None:
    ran = finetuning([command, "--host", "192.0.2.1", "--port", "0"])
    assert ran.exit_code == 1
    assert "cannot listen on 192.0.2.1:0: Cannot assign requested" in ran.stderr
    assert "with --host" in ran.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("demo --base-url http://127.0.0.1:8787", "without --paid the demo uses an"),
        ("demo --paid --speed 2", "--speed is for the emulator; --paid uses none."),
        ("health --api-key-stdin", "No such option"),
        ("auth login --api-key-stdin", "No such option"),
    ],
)
def test_no_command_takes_what_it_would_ignore(
    finetuning: Run, args: str, message: str
) -> None:
    ran = finetuning(args.split())
    assert (ran.exit_code, message in ran.stderr) == (2, True)


@pytest.mark.parametrize(
    ("args", "what", "where"),
    [
        ("generate", "Missing argument 'TAGS...'.", "generate [OPTIONS] TAGS..."),
        ("list --lmit 3", "No such option '--lmit'. Did you mean '--limit'?", "list"),
        (
            "batch status --out album",
            "No such option '--out'.",
            "batch status [OPTIONS] FOLDER",
        ),
        # The option is like --config, --output and --timeout, but not enough.
        (
            "generate x --count 3",
            "No such option '--count'.",
            "generate [OPTIONS] TAGS...",
        ),
        (
            "listen",
            "Missing option '--forward-to'. Where to post each webhook.",
            "listen",
        ),
        (
            "completion",
            "Missing argument '{bash|zsh|fish}'. Choose from: bash, zsh, fish.",
            "completion [OPTIONS] {bash|zsh|fish}",
        ),
        (
            "--base-url http://localhost:1 generate x --emulator",
            "--emulator is the service of this command; leave out --base-url.",
            "generate [OPTIONS] TAGS...",
        ),
    ],
)
def test_what_was_typed_wrong_is_one_line_that_says_what_to_type(
    finetuning: Run, args: str, what: str, where: str
) -> None:
    ran = finetuning(args.split())
    usage = where if "[" in where else f"{where} [OPTIONS]"
    assert (ran.exit_code, ran.stdout) == (2, "")
    expected = f"Error: {what} Usage: program {usage} (--help says more)\n"
    assert ran.stderr == expected


@pytest.mark.parametrize(
    ("args", "what", "where"),
    [
        (
            "sfx door",
            "No such command 'door'. Commands: download, generate, get, list, wait.",
            " sfx",
        ),
        ("zzz", "No such command 'zzz'.", ""),
        (
            "generate x --duration long",
            "Invalid value for '--duration': must be a number, got 'long'.",
            " generate",
        ),
    ],
)
def test_a_wrong_command_or_value_is_one_line_that_names_the_help(
    finetuning: Run, args: str, what: str, where: str
) -> None:
    ran = finetuning(args.split())
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert ran.stderr == f"Error: {what} Try 'program{where} --help'.\n"


def test_a_timeout_of_the_rate_limit_blames_no_network(
    finetuning: Run, service: Any
) -> None:
    ran = finetuning(["generate", "x", "--timeout", "0"])
    assert ran.exit_code == 1
    assert "waiting for the rate limit; nothing was sent\nTo wait" in ran.stderr
    assert "network" not in ran.stderr
    assert not service.requests


async def test_a_read_that_is_not_answered_in_time_may_be_the_network() -> None:
    async def hang(request: httpx.Request) -> httpx.Response:
        await anyio.sleep(1000)
        return httpx.Response(503, request=request)

    http = httpx.AsyncClient(transport=httpx.MockTransport(hang))
    async with http, AsyncClient(KEY, http_client=http) as client:
        with pytest.raises(APITimeoutError) as caught:
            await client.me(timeout=2)
    assert "waiting for the rate limit included" in str(caught.value)
    assert "Check the network" in describe_error(caught.value)[1]


async def test_a_read_that_the_rate_limit_allows_too_late_blames_no_network() -> None:
    limits = RateLimits(reads=RateLimit(1))

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"status": "ok"}, request=request)

    http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    async with (
        http,
        AsyncClient(KEY, http_client=http, rate_limits=limits) as client,
    ):
        with suppress(APIResponseError):
            await client.me()
        with pytest.raises(APITimeoutError) as caught:
            await client.me(timeout=2)
    assert "the rate limit allows it in" in str(caught.value)
    assert "network" not in describe_error(caught.value)[1]
