"""What ``finetuning emulator`` is told: settings, a seed file, a folder, a token."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import attrs
import click
import httpx
import pytest

from finetuning_async.cli._emulator_options import emulator_options
from finetuning_async.emulator import EmulatorSettings
from tests.real_time.test_cli_process import BARE, PROGRAM, run

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("warm_programs")

KEY = "ft_live_" + 32 * "7"
OTHER_KEY = "ft_live_" + 32 * "b"
IN_PROCESS_ONLY = {"base_url", "media_url", "webhook_sender", "on_request"}


@contextmanager
def started(*args: str) -> Generator[tuple[dict[str, Any], subprocess.Popen[str]]]:
    """A started emulator: what it prints as JSON, and its process."""
    words = [*PROGRAM, "emulator", "--port", "0", "--json", *args]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=BARE
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            yield json.loads(line or "{}"), process
        finally:
            process.kill()


def ask(found: dict[str, Any], path: str, **more: Any) -> Any:
    headers = {"X-API-Key": found["api_key"]}
    answer = httpx.get(f"{found['url']}{path}", headers=headers, timeout=20, **more)
    return answer.json()


def playlists(found: dict[str, Any]) -> set[tuple[str, int]]:
    """Names and numbers of tracks."""
    lists = ask(found, "/v1/playlists")["data"]["playlists"]
    return {(entry["name"], entry["trackCount"]) for entry in lists}


def options() -> dict[str, click.Option]:
    @emulator_options
    @click.command()
    def command() -> None: ...

    return {p.name or "": p for p in command.params if isinstance(p, click.Option)}


def test_every_setting_is_an_option() -> None:
    names = set(attrs.fields_dict(EmulatorSettings)) - IN_PROCESS_ONLY
    assert names <= set(options())


def test_the_help_names_the_defaults() -> None:
    """Those that are numbers and choices; the others are told in words."""
    fields = attrs.fields_dict(EmulatorSettings)
    checked = 0
    for name, option in options().items():
        told = re.search(r"\[default: ([\w.]+)\]", option.help or "")
        default = fields[name].default if name in fields else None
        if told is None or isinstance(default, bool):
            continue
        if isinstance(default, int | float | str):
            assert told[1] == str(default).removesuffix(".0"), name
            checked += 1
    assert checked > 12


def test_options_come_before_the_seed_file(tmp_path: Path) -> None:
    seed = tmp_path / "seed.yaml"
    seed.write_text(
        f"""
        settings: {{queue_size: 2, generation_time: [1, 2], api_key: {KEY}}}
        accounts:
          - {{api_key: {OTHER_KEY}, tier: free, credits: 3}}
        tracks:
          - {{prompt: rain, id: rain-1, duration: 30}}
          - {{prompt: night, status: stuck, api_key: {OTHER_KEY}}}
        playlists:
          - {{name: Rain, tracks: [rain-1]}}
        faults:
          - {{action: status, path: /v1/me, status: 500}}
        """
    )
    ready = tmp_path / "ready.json"
    files = ("--seed-file", str(seed), "--ready-file", str(ready))
    with started(*files, "--queue-size", "7", "--playlist", "Own") as (found, _):
        assert json.loads(ready.read_text()) == found
        assert found["api_key"] == KEY
        settings = ask(found, "/_emulator/settings")["settings"]
        assert settings["queue_size"] == 7
        assert settings["generation_time"] == [1, 2]
        rows = ask(found, "/v1/generations")["data"]["generations"]
        assert [row["id"] for row in rows] == ["rain-1"]
        assert playlists(found) == {("Rain", 1), ("Own", 0)}
        assert ask(found, "/v1/me")["error"]["code"] == "INTERNAL_ERROR"
        httpx.post(f"{found['url']}/_emulator/reset")
        assert ask(found, "/v1/me")["error"]["code"] == "INTERNAL_ERROR"
        assert len(ask(found, "/_emulator/tracks")["tracks"]) == 2
        assert playlists(found) == {("Rain", 1), ("Own", 0)}
        assert len(ask(found, "/_emulator/accounts")["accounts"]) == 2


def test_every_option_reaches_its_setting() -> None:
    words = (
        "--speed 2 --seed 5 --credits 7 --pack-credits 8 --tier lifetime --window log"
        " --window-phase 3 --creates-per-minute 4 --reads-per-minute 500"
        " --count-rejected --no-rate-limit-headers --retry-after-in body"
        " --other-creates creates --queue-size 3 --queue-full-retry-after 9"
        " --generation-time 1-2 --effect-time 3 --pending-time 0-1"
        " --failure-rate 0.25 --refund-failed --daily-effects 6"
        " --daily-limit-status 402 --clamp-out-of-range --rewrite-prompts"
        " --ignore-seeds --no-loopback-webhooks --webhook-hosts app,*.internal"
        " --webhook-timeout 11 --latency 0-0.01"
        f" --start-time 2026-03-31T23:59:00Z --api-key {KEY}"
    )
    with started(*words.split()) as (found, _):
        settings = ask(found, "/_emulator/settings")["settings"]
    del settings["base_url"], settings["media_url"]
    assert settings == {
        "speed": 2,
        "seed": 5,
        "credits": 7,
        "pack_credits": 8,
        "tier": "lifetime",
        "window": "log",
        "window_phase": 3,
        "creates_per_minute": 4,
        "reads_per_minute": 500,
        "count_rejected": True,
        "rate_limit_headers": False,
        "retry_after_in": "body",
        "other_creates": "creates",
        "queue_size": 3,
        "queue_full_retry_after": 9,
        "generation_time": [1, 2],
        "effect_time": [3, 3],
        "pending_time": [0, 1],
        "failure_rate": 0.25,
        "refund_failed": True,
        "daily_effects": 6,
        "daily_limit_status": 402,
        "clamp_out_of_range": True,
        "rewrite_prompts": True,
        "ignore_seeds": True,
        "loopback_webhooks": False,
        "webhook_hosts": ["app", "*.internal"],
        "webhook_timeout": 11,
        "latency": [0, 0.01],
        "start_time": "2026-03-31T23:59:00+00:00",
        "api_key": KEY,
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tracks: [{prompt: x, duration: 900}]", "tracks[0]: duration is outside"),
        ("songs: []", "'songs' is unknown"),
        ("settings: {queue_size: 0}", "queue_size must be"),
        ("settings: {queue: 1}", "'queue' is unknown"),
        ("[1, 2]", "must be an object with accounts"),
        ("{a: [", "cannot be read"),
    ],
)
def test_a_seed_file_that_is_wrong_says_where(
    tmp_path: Path, text: str, says: str
) -> None:
    seed = tmp_path / "seed.yaml"
    seed.write_text(text)
    ran = run("emulator", "--port", "0", "--seed-file", str(seed))
    assert ran.returncode in (1, 2)
    assert says in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_range_that_is_none_is_refused() -> None:
    ran = run("emulator", "--port", "0", "--generation-time", "9-3")
    assert ran.returncode != 0
    assert "must be like 20-120 or 20, got '9-3'" in ran.stderr


def test_the_admin_token_opens_it_to_others() -> None:
    with started("--admin-token", "let-me-in") as (found, _):
        url = f"{found['url']}/_emulator/state"
        there = {"Host": "emulator:8787"}
        assert httpx.get(url, headers=there).status_code == 401
        headers = {**there, "Authorization": "Bearer let-me-in"}
        assert httpx.get(url, headers=headers).status_code == 200


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_killed_emulator_loses_at_most_a_second(tmp_path: Path) -> None:
    folder = ("--state-dir", str(tmp_path / "state"), "--generation-time", "1000")
    with started(*folder) as (found, process):
        wish = {"tags": "rain"}
        headers = {"X-API-Key": found["api_key"]}
        url = f"{found['url']}/v1/generations"
        made = httpx.post(url, json=wish, headers=headers).json()["data"]
        time.sleep(1)
        process.send_signal(signal.SIGKILL)
        process.wait()
    with started(*folder) as (found, _):
        (row,) = ask(found, "/v1/generations")["data"]["generations"]
        assert row["id"] == made["id"]
        assert row["status"] in ("pending", "processing")
        limits = ask(found, "/v1/me")["data"]["limits"]
        assert (limits["generationsUsed"], limits["queueDepth"]) == (1, 1)
        assert len(ask(found, "/_emulator/ledger")["ledger"]) == 1
        ran = run("emulator", "--port", "0", *folder)
        assert "another emulator has" in ran.stderr
