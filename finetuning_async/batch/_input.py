"""Rows from JSONL or CSV, read as a stream; every problem is reported with its line.

A row has the parameters of a create, and may have ``custom_id`` (``idempotency_key`` is
another name for it), ``type``: ``music`` (the default) or ``instrumental``, and
``priority`` and ``share``. An empty cell of a CSV sets nothing.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, TypeAlias

from finetuning_async._api import as_request, check_source, validation
from finetuning_async._errors import InvalidRequestError
from finetuning_async.journal import (
    BATCH_REQUESTS,
    FIELDS,
    BatchInputError,
    Row,
    has_secrets,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from finetuning_async.journal import RowLike

Format: TypeAlias = Literal["jsonl", "csv"]

MAX_CUSTOM_ID: Final = 200
MAX_PROBLEMS: Final = 1000
"""Problems collected before reading stops; the wrong file has one in every row."""

MAX_VALUE: Final = 60
"""Characters of a wrong value that its problem shows."""

_OWN: Final = ("custom_id", "idempotency_key", "type")
_NUMBERS: Final = frozenset({"duration", "bpm", "seed"})
_SWITCHES: Final = {"true": True, "false": False, "1": True, "0": False}
_KNOWN: Final = {kind: frozenset(FIELDS[kind]) for kind in BATCH_REQUESTS}
_COLUMNS: Final = frozenset(_OWN).union(*_KNOWN.values())

WORDS_ELSEWHERE: Final = frozenset({"description", "prompt", "tags", "text"})
"""What says in words what to make: in Python, in other kinds of rows, or elsewhere."""


def read_rows(
    source: Path | Iterable[str],
    *,
    format: Format | None = None,
    allow_http_webhook: bool = False,
) -> Iterator[Row]:
    """Read and check rows, one by one.

    Args:
        source: A file, or lines such as `sys.stdin`.
        format: By default taken from the file's extension; without one, CSV unless the
            first line begins with ``{``.
        allow_http_webhook: As for `GenerationRequest.validate`.

    Yields:
        The valid rows.

    Raises:
        BatchInputError: Some rows are invalid; raised at the end, with all problems.

    Example:
        from pathlib import Path
        from finetuning_async.batch import Batch, read_rows

        Path("songs.jsonl").write_text('{"tags": "rain", "duration": 30}')
        async with Batch(client, "album") as batch:
            await batch.add_rows(read_rows(Path("songs.jsonl")))
    """
    reader = _Reader(allow_http_webhook=allow_http_webhook)
    with _lines(source) as (lines, name):
        yield from reader.read(lines, format or _format_of(name))


def check_rows(
    requests: Iterable[RowLike],
    *,
    allow_http_webhook: bool = False,
    is_sent_elsewhere: bool = False,
) -> Iterator[Row]:
    """Check rows that were not read from a file.

    Args:
        requests: Rows, or what else can be made one.
        allow_http_webhook: As for `GenerationRequest.validate`.
        is_sent_elsewhere: Whether other processes send them, by what is stored. The
            secret part of a webhook is not.

    Raises:
        BatchInputError: Some rows are invalid; raised at the end, with all problems.
        InvalidRequestError: It is one request, or no source of any.
    """
    check_source(requests, may_be_async=False)
    reader = _Reader(
        allow_http_webhook=allow_http_webhook, is_sent_elsewhere=is_sent_elsewhere
    )
    for number, given in enumerate(requests, 1):
        row = reader.row(given, f"row {number}")
        if row is not None and reader.check(row, f"row {number}"):
            yield row
    reader.finish()


@contextmanager
def _lines(source: Path | Iterable[str]) -> Generator[tuple[Iterable[str], str]]:
    name = source.name if isinstance(source, Path) else ""
    try:
        if not isinstance(source, Path):
            yield source, name
            return
        # Only \n ends a line: a JSON text may hold Unicode's other line separators.
        with source.open(encoding="utf-8-sig", newline="") as file:
            yield file, name
    except OSError as error:
        problem = f"{source} cannot be read: {error.strerror or error}"
        raise BatchInputError([problem]) from error
    except UnicodeDecodeError as error:
        problem = (
            f"{name or 'the input'} is not UTF-8: {error.reason} at byte {error.start};"
            " save it as UTF-8"
        )
        raise BatchInputError([problem]) from error


def _format_of(name: str) -> Format | None:
    ending = Path(name).suffix.lower()
    if ending == ".csv":
        return "csv"
    return "jsonl" if ending in (".jsonl", ".ndjson", ".json") else None


class _Reader:
    """Reads rows and collects their problems."""

    def __init__(
        self, *, allow_http_webhook: bool, is_sent_elsewhere: bool = False
    ) -> None:
        self._lenient = allow_http_webhook
        self._is_sent_elsewhere = is_sent_elsewhere
        self._problems: list[str] = []
        self._ids: dict[str, str] = {}

    def read(self, lines: Iterable[str], format: Format | None) -> Iterator[Row]:
        stream = iter(lines)
        if format is None:
            first = next(stream, "")
            is_json = first.lstrip("\ufeff \t\r\n").startswith("{")
            stream = chain([first], stream)
        else:
            is_json = format == "jsonl"
        pairs = self._jsonl(stream) if is_json else self._csv(stream)
        for line, fields in pairs:
            row = self._row(fields, line)
            if row is not None and self.check(row, f"line {line}"):
                yield row
        self.finish()

    def finish(self) -> None:
        """Raise the problems that were collected, if any.

        Raises:
            BatchInputError: There were some.
        """
        if self._problems:
            raise BatchInputError(self._problems)

    def row(self, given: RowLike, where: str) -> Row | None:
        """A row of what is not one yet; `None` if its problem is collected."""
        if isinstance(given, Row):
            return given
        custom_id: Any = None
        if isinstance(given, Mapping):
            given = dict(given)
            custom_id = given.pop("custom_id", None)
        try:
            request: Any = as_request(given)  # of any kind; `check` refuses effects
        except InvalidRequestError as error:
            self._add_problem(where, error.message)
            return None
        return Row(request=request, custom_id=custom_id)

    def check(self, row: Row, where: str) -> bool:
        """Whether a row is valid; if not, its problems are collected."""
        before = len(self._problems)
        if row.request.kind not in BATCH_REQUESTS:
            self._add_problem(
                where,
                f"request must be of {' or '.join(_KNOWN)}, got"
                f" {row.request.kind}; a sound effect has no seed by which it could be"
                " found again; use client.sound_effects",
            )
        for problem in row.request.problems(allow_http_webhook=self._lenient):
            self._add_problem(where, problem.message)
        if self._is_sent_elsewhere and has_secrets(row.request.webhook):
            self._add_problem(
                where,
                "webhook must have no query, login or fragment"
                " here; they are secrets and not stored, and other processes send this"
                " request by what is stored; leave them out, and distinguish tracks by"
                " their ids",
            )
        key, custom_id = row.request.idempotency_key, row.custom_id
        if custom_id is not None:
            self._check_id("custom_id", custom_id, MAX_CUSTOM_ID, where)
        elif key is not None and len(self._problems) == before:
            self._check_id("idempotency_key", key, validation.MAX_KEY, where)
        if None not in (key, custom_id) and key != custom_id:
            self._add_problem(
                where,
                "custom_id and idempotency_key must be the same if both are given, got"
                f" {_short(custom_id)} and {_short(key)}; give one of them",
            )
        return len(self._problems) == before

    def _check_id(self, field: str, value: object, most: int, where: str) -> None:
        if not isinstance(value, str) or not 0 < len(value) <= most:
            self._add_problem(
                where,
                f"{field} must be a string of 1 to {most} characters, got"
                f" {_short(value)}",
            )
        elif not value.isprintable():
            self._add_problem(
                where,
                f"{field} must not contain line breaks or control characters, got"
                f" {_short(value)}",
            )
        elif value in self._ids:
            first = self._ids[value]
            self._add_problem(where, f"{field} {value!r} is already used in {first}")
        else:
            self._ids[value] = where

    def _add_problem(self, where: str, problem: str) -> None:
        self._problems.append(f"{where}: {problem}")
        if len(self._problems) >= MAX_PROBLEMS:
            self.finish()

    def _jsonl(self, lines: Iterator[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
        for number, line in enumerate(lines, 1):
            text = line.strip("\ufeff \t\r\n")
            if not text:
                continue
            try:
                fields = json.loads(text, parse_constant=_refuse)
            except (ValueError, RecursionError) as error:
                self._add_problem(
                    f"line {number}", f"invalid JSON: {_json_problem(error)}"
                )
                continue
            if isinstance(fields, dict):
                yield number, fields
            else:
                self._add_problem(f"line {number}", "a row must be a JSON object {...}")

    def _csv(self, lines: Iterator[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
        reader = csv.reader(_without_bom(lines), strict=True)
        try:
            heads = [head.strip() for head in next(reader, [])]
            if len(set(heads)) < len(heads):
                self._add_problem("line 1", "two columns have the same name")
            if heads and not any(head in _COLUMNS for head in heads):
                # No table of tracks, which must be said even if it has no other line.
                what = f"must name the columns, such as tags, got {_short(heads[0])}"
                self._add_problem("line 1", what)
                return
            for cells in reader:
                number = reader.line_num
                if len(cells) > len(heads):
                    self._add_problem(
                        f"line {number}",
                        f"a row has {len(cells)} cells, the header {len(heads)}",
                    )
                elif any(cells):
                    yield number, _typed(dict(zip(heads, cells, strict=False)))
        except csv.Error as error:
            self._add_problem(f"line {reader.line_num}", f"invalid CSV: {error}")

    def _row(self, fields: Mapping[str, Any], line: int) -> Row | None:
        kind = fields.get("type") or "music"
        if not isinstance(kind, str) or kind not in _KNOWN:
            self._add_problem(
                f"line {line}",
                f"type must be {' or '.join(_KNOWN)}, got {_short(kind)}",
            )
            return None
        custom_id, key = fields.get("custom_id"), fields.get("idempotency_key")
        given = {
            name: value
            for name, value in fields.items()
            if value is not None and name not in _OWN
        }
        if not given.keys() <= _KNOWN[kind]:
            for name in sorted(given.keys() - _KNOWN[kind]):
                self._add_problem(f"line {line}", _unknown(name, kind))
            return None
        request = _request(kind, given, key)
        return Row(request=request, custom_id=custom_id, line=line)


def _request(kind: str, given: dict[str, Any], key: Any) -> Any:
    words = given.pop(_words(kind), None)
    return BATCH_REQUESTS[kind](words, **given, idempotency_key=key)


def _words(kind: str) -> str:
    """The parameter that says in words what to make."""
    return "tags" if kind == "music" else "prompt"


def _unknown(name: str, kind: str) -> str:
    close = get_close_matches(name, (*_KNOWN[kind], *_OWN), 1)
    if name in WORDS_ELSEWHERE:
        close = [_words(kind)]
    hint = f"; did you mean {close[0]!r}?" if close else "; remove it"
    return f"{_short(name)} is not a parameter of {kind}{hint}"


def _json_problem(error: Exception) -> str:
    """What is wrong, without the line number, which would always be 1."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} (column {error.colno})"
    return str(error)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}..."


def _refuse(word: str) -> NoReturn:
    message = f"{word} is not valid JSON"
    raise ValueError(message)


def _without_bom(lines: Iterator[str]) -> Iterator[str]:
    for number, line in enumerate(lines):
        yield line.lstrip("\ufeff") if number == 0 else line


def _typed(cells: dict[str, str]) -> dict[str, Any]:
    return {name: _value(name, text) for name, text in cells.items() if text.strip()}


def _value(name: str, text: str) -> Any:
    """A cell in the parameter's type; what does not fit stays text, and is reported."""
    if name == "enhance":
        return _SWITCHES.get(text.strip().lower(), text)
    if name not in _NUMBERS:
        return text
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return text
