"""The lines that ``finetuning emulator`` prints for its requests."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from finetuning_async.cli import _emulator_output
from finetuning_async.cli._config import config_file
from finetuning_async.cli._emulator_output import (
    print_start,
    request_line,
    request_log,
)
from finetuning_async.cli._options import CommonOptions
from finetuning_async.emulator import Emulator, Fault, RequestRecord

if TYPE_CHECKING:
    import pytest


def record(path: str = "/v1/me", fault: Fault | None = None) -> RequestRecord:
    return RequestRecord(1, 0.0, "GET", path, "", {}, fault, delivered=fault is None)


def test_a_line_says_what_became_of_a_request() -> None:
    done = record()
    done.status = 200
    assert request_line(done) == "GET /v1/me 200"
    done.status, done.code = 404, "NOT_FOUND"
    assert request_line(done) == "GET /v1/me 404 NOT_FOUND"
    lost = record(fault=Fault("lost_before_commit"))
    broken = "- connection broken"
    assert request_line(lost) == f"GET /v1/me {broken} (lost_before_commit)"
    lost.status, lost.fault = 202, None
    assert request_line(lost) == f"GET /v1/me 202 {broken}"


def test_a_path_cannot_control_the_terminal() -> None:
    assert "\x1b" not in request_line(record("/v1/\x1b[2J\n"))
    assert "\n" not in request_line(record("/v1/\x1b[2J\n"))


def test_lines_that_nobody_could_read_in_time_are_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_emulator_output, "MOST_WAITING", 20)
    monkeypatch.setattr(_emulator_output, "WRITE_EVERY", 0.2)
    with request_log() as log:
        for _ in range(1000):
            log(record())
    out, err = capsys.readouterr()
    (left_out,) = re.findall(r"^(\d+) requests are not in the log", err)
    assert int(left_out) > 0
    assert len(out.splitlines()) + int(left_out) == 1000


def test_what_it_prints_first_fits_a_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    emulator = Emulator(speed=20)
    print_start(CommonOptions(), emulator, "http://127.0.0.1:8787")
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1  # for ``eval``
    folder = str(config_file(CommonOptions()))
    assert [line for line in err.splitlines() if len(line) > 80] == []
    assert folder in err
    limits = "RateLimits(creates=RateLimit(10, per=3), reads=RateLimit(60, per=3))"
    assert f"\nrate_limits={limits}\n" in err
