"""The exit codes are the documented ones, in every output format."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from finetuning_async import cli
from finetuning_async.cli import _program
from finetuning_async.cli._exit_codes import FAILURE, INVALID_INPUT, PARTIAL, SUCCESS
from finetuning_async.cli.commands import batch

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

    Run = Callable[..., Result]

TABLES = {
    "the reference": cli.__doc__ or "",
    "--help": _program.EPILOG,
    "batch --help": batch.EPILOG,
}


@pytest.mark.parametrize("where", TABLES)
def test_every_code_is_in_every_table(where: str) -> None:
    documented = set(map(int, re.findall(r"^ +(\d+)  ", TABLES[where], re.MULTILINE)))
    assert documented == {SUCCESS, FAILURE, INVALID_INPUT, PARTIAL, 130}


@pytest.mark.parametrize(
    ("args", "request_", "body", "status", "code"),
    [
        ("get x", "GET /v1/generations/x", "error_not_found", 404, FAILURE),
        (
            "list --limit 99",
            "GET /v1/generations",
            "error_validation",
            400,
            INVALID_INPUT,
        ),
        ("delete -y x", "POST /v1/generations/bulk-delete", "some", 200, PARTIAL),
        ("delete -y x", "POST /v1/generations/bulk-delete", "none", 200, FAILURE),
        ("delete -y x", "POST /v1/generations/bulk-delete", "all", 200, SUCCESS),
    ],
)
def test_json_changes_no_code(
    finetuning: Run,
    service: Any,
    args: str,
    request_: str,
    body: str,
    status: int,
    code: int,
) -> None:
    error = [{"id": "x", "error": "no"}]
    known: dict[str, Any] = {
        "some": {"data": {"deleted": ["y"], "errors": error}},
        "none": {"data": {"deleted": [], "errors": error}},
        "all": {"data": {"deleted": ["x"]}},
    }
    service.respond(request_, known.get(body, body), status=status)
    assert finetuning(args.split()).exit_code == code
    assert finetuning([*args.split(), "--json"]).exit_code == code
