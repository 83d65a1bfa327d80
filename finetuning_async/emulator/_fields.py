"""Settings and faults as JSON: their types, read, written and described."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import attrs

from finetuning_async.emulator._faults import Fault
from finetuning_async.emulator._rate_limiters import WindowKind
from finetuning_async.emulator._records import RequestRecord
from finetuning_async.emulator._settings import EmulatorSettings

NOT_JSON = ("webhook_sender", "on_request", "audio", "state_dir", "hits")
"""Attributes that are no values to send: callables, files, a count of ours."""

_ELSEWHERE = {
    "audio": "start the emulator with --audio FILE, or Emulator(audio=...) in Python",
    "state_dir": "start the emulator with --state-dir FOLDER",
    "webhook_sender": "it is a function: Emulator(webhook_sender=...) in Python",
    "on_request": "it is a function: Emulator(on_request=...) in Python",
}
"""Settings that JSON cannot hold, and how to set them."""

_ATTRS = re.compile(r"^'(\w+)' must be ([<>=]+ \S+): (.*)$")
_HINTS: dict[type, dict[str, Any]] = {}
_NAMES = {
    "Mapping": Mapping,
    "WindowKind": WindowKind,
    "RequestRecord": RequestRecord,
    "os": os,
}
_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a string",
    datetime: "a time such as 2026-03-02T18:04:09Z",
    tuple: "two numbers, the lower one first",
    Mapping: "an object of strings",
}


def hints_of(cls: type[Fault | EmulatorSettings]) -> dict[str, Any]:
    """The attributes that JSON can hold, each with its type."""
    found = _HINTS.get(cls)
    if found is None:
        found = _HINTS[cls] = _find_hints(cls)
    return found


def _find_hints(cls: type[Fault | EmulatorSettings]) -> dict[str, Any]:
    hints = get_type_hints(cls, localns=_NAMES)
    names = [field.name for field in attrs.fields(cls)]
    return {name: hints[name] for name in names if name not in NOT_JSON}


def read(
    cls: type[Fault | EmulatorSettings], body: Mapping[str, Any]
) -> dict[str, Any]:
    """The attributes that a JSON object names, with their Python values.

    Raises:
        ValueError: A name is unknown, or a value is of another type. Ranges are the
            matter of the class.
    """
    hints = hints_of(cls)
    for name in body:
        if name not in hints:
            raise ValueError(_unknown(cls, name, hints))
    return {name: _read(name, hints[name], value) for name, value in body.items()}


def _unknown(
    cls: type[Fault | EmulatorSettings], name: str, known: Mapping[str, Any]
) -> str:
    if cls is not Fault and name in _ELSEWHERE:
        return f"{name} cannot be set by JSON: {_ELSEWHERE[name]}"
    return f"{name!r} is unknown; known are {', '.join(known)}"


def write(thing: Fault | EmulatorSettings) -> dict[str, Any]:
    """The attributes of a fault or of the settings as a JSON object."""
    return {name: plain(getattr(thing, name)) for name in hints_of(type_of(thing))}


def type_of(thing: Fault | EmulatorSettings) -> type[Fault | EmulatorSettings]:
    """`Fault` or `EmulatorSettings`, whatever the subclass."""
    return Fault if isinstance(thing, Fault) else EmulatorSettings


def message_of(error: ValueError) -> str:
    """What an attrs validator complains about; some have more arguments than words."""
    return _ATTRS.sub(r"\1 must be \2, got \3", str(error.args[0]))


def schema(hint: Any) -> dict[str, Any]:
    """A JSON schema of a type."""
    kind, nullable = _unwrapped(hint)
    if get_origin(kind) is Literal:
        found: dict[str, Any] = {"enum": [*get_args(kind), *([None] * nullable)]}
        return found
    match _plain(kind):
        case t if t is datetime:
            found = {"type": "string", "format": "date-time"}
        case t if t is tuple and _is_open(kind):
            found = {"type": "array", "items": {"type": "string"}}
        case t if t is tuple:
            found = {"type": "array", "items": {"type": "number"}}
            found |= {"minItems": 2, "maxItems": 2}
        case t if t is Mapping:
            found = {"type": "object", "additionalProperties": {"type": "string"}}
        case t:
            names = {bool: "boolean", int: "integer", float: "number", str: "string"}
            found = {"type": names[t]}
    if nullable:
        found["type"] = [found["type"], "null"]
    return found


def _read(name: str, hint: Any, value: Any) -> Any:
    kind, nullable = _unwrapped(hint)
    if value is None and nullable:
        return None
    if get_origin(kind) is Literal:
        allowed = get_args(kind)
        if value in allowed and not isinstance(value, bool):
            return value
        names = ", ".join(str(choice) for choice in allowed)
        raise ValueError(f"{name} must be one of {names}, got {value!r}")
    plain = str if _is_open(kind) else _plain(kind)
    found = _texts(value) if _is_open(kind) else _converted(plain, value)
    if found is None:
        words = (
            "a list of strings"
            if _is_open(kind)
            else _WORDS[plain] + (" or null" if nullable else "")
        )
        raise ValueError(f"{name} must be {words}, got {value!r}")
    return found


def _converted(plain: Any, value: Any) -> Any:
    """The value as this type; ``None`` if it is of another one."""
    if plain is float:
        return float(value) if _is_number(value) else None
    if plain is int:
        return value if isinstance(value, int) and not isinstance(value, bool) else None
    if plain is datetime:
        return _time(value)
    if plain is tuple:
        pair = isinstance(value, list | tuple) and len(value) == 2
        return (
            tuple(map(float, value)) if pair and all(map(_is_number, value)) else None
        )
    if plain is Mapping:
        whole = isinstance(value, Mapping) and all(
            isinstance(part, str) for item in value.items() for part in item
        )
        return dict(value) if whole else None
    return value if isinstance(value, plain) else None


def _texts(value: Any) -> tuple[str, ...] | None:
    whole = isinstance(value, list) and all(isinstance(item, str) for item in value)
    return tuple(value) if whole else None


def _is_open(kind: Any) -> bool:
    """Whether it is a tuple of any number of texts."""
    return get_args(kind) == (str, ...)


def _time(value: Any) -> datetime | None:
    if isinstance(value, datetime):  # a seed file in YAML has times of its own
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    try:
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def plain(value: Any) -> Any:
    """A value of an attribute as JSON has it."""
    if isinstance(value, datetime):
        return value.isoformat()
    return list(value) if isinstance(value, tuple) else value


def _is_number(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)


def _unwrapped(hint: Any) -> tuple[Any, bool]:
    """The type without ``None``, and whether ``None`` is allowed."""
    arms = [arm for arm in get_args(hint) if arm is not NoneType]
    if NoneType in get_args(hint):
        return arms[0], True
    return hint, False


def _plain(kind: Any) -> Any:
    return get_origin(kind) or kind
