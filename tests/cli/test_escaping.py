"""Text of the service is printed as it is, but cannot control the terminal."""

from __future__ import annotations

import json
import logging
import unicodedata
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, strategies as st

from finetuning_async import _secrets
from finetuning_async._logging import _OneLineFormatter

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

    Run = Callable[..., Result]

EVIL = "[red]a\r\n\x1b[2J\x07\x9b\u202egnp\u2028\x00\U000e0041\\z"
AS_SHOWN = r"[red]a\r\n\x1b[2J\x07\x9b\u202egnp\u2028\x00\U000e0041\z"
ID = "5e0c7b1a-93d4-4f26-8a71-2c6f0be4d918"
CREATE = "POST /v1/generations"


def is_harmless(text: str) -> bool:
    """Whether it has no character that a terminal obeys, except line breaks."""
    kinds = {unicodedata.category(char) for char in text.replace("\n", "")}
    return not kinds & {"Cc", "Cf", "Cs", "Zl", "Zp"}


@pytest.mark.parametrize(
    ("command", "request_", "body"),
    [
        ("get x", "GET /v1/generations/x", {"id": "x", "prompt": EVIL}),
        ("get x", "GET /v1/generations/x", {"id": "x", "title": EVIL}),
        ("list", "GET /v1/generations", {"generations": [{"id": "x", "prompt": EVIL}]}),
        ("sfx get x", "GET /v1/sound-effects/x", {"id": "x", "prompt": EVIL}),
        ("playlists", "GET /v1/playlists", {"playlists": [{"id": "p", "name": EVIL}]}),
        ("playlist show pl_1", "GET /v1/playlists/pl_1", {"id": "pl_1", "name": EVIL}),
        ("me", "GET /v1/me", {"id": "u", "email": EVIL}),
        ("doctor", "GET /v1/me", {"id": "u", "email": EVIL}),
    ],
)
def test_printed_text_stays_on_its_line(
    finetuning: Run, service: Any, command: str, request_: str, body: object
) -> None:
    service.respond(request_, {"data": body})
    ran = finetuning(command.split())
    assert AS_SHOWN in ran.stdout
    assert is_harmless(ran.output)


@pytest.mark.parametrize("code", ["INTERNAL_ERROR", "VALIDATION_ERROR"])
def test_an_error_stays_on_its_line(finetuning: Run, service: Any, code: str) -> None:
    error = {"code": code, "message": f"no{EVIL}Error: fake"}
    service.respond("GET /v1/me", {"error": error}, status=400)
    ran = finetuning(["me"])
    assert f"no{AS_SHOWN}Error: fake" in ran.stderr
    assert is_harmless(ran.output)
    assert len(ran.stderr.splitlines()) == 1


def test_progress_stays_on_its_lines(finetuning: Run, service: Any) -> None:
    made = {"id": ID, "status": EVIL, "prompt": "choir", "parameters": {"key": EVIL}}
    service.respond(CREATE, {"data": made}, status=202)
    failed = {"id": ID, "status": "failed", "errorMessage": EVIL}
    service.respond(f"GET /v1/generations/{ID}", {"data": failed})
    ran = finetuning(["generate", "choir", "-v"])
    assert f"\n{AS_SHOWN.lower()}\n" in ran.stderr.lower()  # a status has no capitals
    assert f"Error: {ID} failed: {AS_SHOWN}\n" in ran.stderr
    assert is_harmless(ran.output)


def test_a_failure_of_one_id_stays_on_its_line(finetuning: Run, service: Any) -> None:
    data = {"deleted": [], "errors": [{"id": "x", "error": EVIL}]}
    service.respond("POST /v1/generations/bulk-delete", {"data": data})
    ran = finetuning(["delete", "-y", "x"])
    assert ran.stderr.splitlines()[0] == f"warning: x: {AS_SHOWN}"
    assert is_harmless(ran.output)


def test_the_names_of_playlists_stay_on_their_lines(
    finetuning: Run, service: Any
) -> None:
    known = [{"id": "p1", "name": EVIL}, {"id": "p2", "name": EVIL}]
    service.respond("GET /v1/playlists", {"data": {"playlists": known}})
    ran = finetuning(["playlist", "show", EVIL])
    assert f"\n  p1  {AS_SHOWN}\n" in ran.stderr
    assert is_harmless(ran.output)


def test_json_has_the_same_text_and_is_harmless(finetuning: Run, service: Any) -> None:
    data = {"id": "x", "prompt": f"夜\u200d \u3000{EVIL}"}
    service.respond("GET /v1/generations/x", {"data": data})
    ran = finetuning(["get", "x", "--json"])
    assert json.loads(ran.stdout)["data"] == data
    assert is_harmless(ran.stdout.replace("\u200d", ""))
    assert "夜\u200d \u3000" in ran.stdout


def test_a_log_record_stays_on_its_line() -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "say %s", (EVIL,), None)
    assert (
        _OneLineFormatter("%(levelname)s %(message)s").format(record)
        == f"INFO say {AS_SHOWN}"
    )


@given(st.text())
def test_shown_makes_text_harmless_and_keeps_plain_text(text: str) -> None:
    made = _secrets.shown(text)
    assert is_harmless(made.replace("\u200c", "").replace("\u200d", ""))
    assert "\n" not in made
    if text.isprintable():
        assert made == text
