"""The exit codes are the documented ones, whatever is printed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from finetuning_async import cli
from finetuning_async.cli import _batch, _program
from finetuning_async.cli._exit_codes import DONE, FAILED, PARTLY, WRONG

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

    Run = Callable[..., Result]

TABLES = {
    "the reference": cli.__doc__ or "",
    "--help": _program.EPILOG,
    "batch --help": _batch.EPILOG,
}


@pytest.mark.parametrize("where", TABLES)
def test_every_code_is_in_every_table(where: str) -> None:
    told = set(map(int, re.findall(r"^ +(\d+)  ", TABLES[where], re.MULTILINE)))
    assert told == {DONE, FAILED, WRONG, PARTLY, 130}


@pytest.mark.parametrize(
    ("words", "request_", "answer", "status", "code"),
    [
        ("get x", "GET /v1/generations/x", "error_not_found", 404, FAILED),
        ("list --limit 99", "GET /v1/generations", "error_validation", 400, WRONG),
        ("delete -y x", "POST /v1/generations/bulk-delete", "some", 200, PARTLY),
        ("delete -y x", "POST /v1/generations/bulk-delete", "none", 200, FAILED),
        ("delete -y x", "POST /v1/generations/bulk-delete", "all", 200, DONE),
    ],
)
def test_json_changes_no_code(
    finetuning: Run,
    service: Any,
    words: str,
    request_: str,
    answer: str,
    status: int,
    code: int,
) -> None:
    error = [{"id": "x", "error": "no"}]
    known: dict[str, Any] = {
        "some": {"data": {"deleted": ["y"], "errors": error}},
        "none": {"data": {"deleted": [], "errors": error}},
        "all": {"data": {"deleted": ["x"]}},
    }
    service.answer(request_, known.get(answer, answer), status=status)
    assert finetuning(words.split()).exit_code == code
    assert finetuning([*words.split(), "--json"]).exit_code == code
