"""The control API in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from finetuning_async.emulator._admin._schemas import COUNT, TEXT, listed, record, ref
from finetuning_async.emulator._admin._service_paths import json_body, json_response

_TRACKS = ("limit", "offset", "status", "kind", "api_key")
_REQUESTS = ("method", "path", "status", "code", "counted", "delivered", "fault")
_LATER = (
    "Settings in `reset_only` wait for a reset; they are in `after_reset` until it."
    " `audio` and `state_dir` are options of the command line, `webhook_sender` and"
    " `on_request` functions in Python: none of them can be set here"
)
_FILTERS = "`since` and `limit` are numbers; the others are patterns such as `/v1/*`"
_ERRORS = {
    "400": "A value is not allowed",
    "401": "The admin token is missing or not accepted",
    "403": "The caller is not on this machine, or its Origin is foreign",
    "404": "There is no such thing",
    "409": "It has ended already, or exists already",
}


def paths() -> dict[str, Any]:
    """The paths under ``/_emulator/``."""
    one_or_many = {"oneOf": [ref("TrackCreate"), listed(ref("TrackCreate"))]}
    track = {"oneOf": [ref("Track"), ref("Tracks")]}
    rest: dict[str, dict[str, Any]] = {
        "/state": {"get": _get("State", "What there is, in numbers")},
        "/reset": {
            "post": _change(
                "ResetDone",
                "Start anew: accounts of flags and seed file stay",
                ref("Reset"),
                required=False,
            )
        },
        "/clock/advance": {
            "post": _change("Advanced", "Put the clock forward", ref("Advance"))
        },
        "/settings": {
            "get": _get("SettingsState", "Every setting"),
            "patch": _change(
                "SettingsState", "Change settings", ref("SettingsChange"), more=_LATER
            ),
        },
        "/accounts": {
            "get": _get("Accounts", "Every account"),
            "post": _change(
                "Account", "Add an account", ref("AccountCreate"), "201", required=False
            ),
        },
        "/accounts/{key}": {
            "patch": _change("Account", "Change an account", ref("AccountChange"))
        },
        "/tracks": {
            "get": _get("Tracks", "Tracks and effects, newest first", _TRACKS),
            "post": _change(track, "Add ready-made tracks", one_or_many, "201"),
        },
        "/tracks/{id}": {
            "get": _get("Track", "One track; it counts as no read"),
            "patch": _change("Track", "Decide how a track ends", ref("TrackChange")),
        },
        "/playlists": {
            "get": _get("ControlPlaylists", "Every playlist"),
            "post": _change(
                "ControlPlaylist", "Add a playlist", ref("PlaylistCreate"), "201"
            ),
        },
        "/faults": {
            "get": _get("Faults", "Every fault"),
            "post": _change("Fault", "Add a fault", ref("FaultCreate"), "201"),
            "delete": _get("FaultsRemoved", "Remove all faults"),
        },
        "/faults/{number}": {"delete": _get("FaultsRemoved", "Remove one fault")},
        "/requests": {"get": _log("Requests", "The request log", _REQUESTS)},
        "/ledger": {"get": _log("Ledger", "Credits", ("track", "request", "amount"))},
        "/webhooks": {"get": _log("Webhooks", "Deliveries", ("url", "status"))},
        "/": {"get": _page()},
        "/openapi.json": {"get": _get({"type": "object"}, "This document")},
    }
    return {f"/_emulator{path}": _named(path, item) for path, item in rest.items()}


def _page() -> dict[str, Any]:
    html = {"content": {"text/html": {"schema": TEXT}}}
    return {
        "summary": "The page for people",
        "tags": ["control"],
        "responses": {"200": {"description": "HTML", **html}},
    }


def _named(path: str, item: dict[str, Any]) -> dict[str, Any]:
    """Give each operation a name made of its method and path."""
    words = [w.strip("{}").split(".")[0].title() for w in path.split("/") if w]
    for method, operation in item.items():
        operation["operationId"] = f"{method}Emulator{''.join(words)}"
    return item


def _get(
    data: str | dict[str, Any], summary: str, query: tuple[str, ...] = ()
) -> dict[str, Any]:
    numbers = ("limit", "offset", "since")
    operation = _operation(data, summary, "200")
    if query:
        operation["parameters"] = [
            {"name": name, "in": "query", "schema": COUNT if name in numbers else TEXT}
            for name in query
        ]
    return operation


def _log(data: str, summary: str, query: tuple[str, ...]) -> dict[str, Any]:
    operation = _get(data, summary, ("since", "limit", *query))
    return {**operation, "description": _FILTERS}


def _change(
    data: str | dict[str, Any],
    summary: str,
    body: dict[str, Any],
    status: str = "200",
    *,
    required: bool = True,
    more: str | None = None,
) -> dict[str, Any]:
    operation = _operation(data, summary, status)
    operation["requestBody"] = json_body(body, required=required)
    if more is not None:
        operation["description"] = more
    return operation


def _operation(data: str | dict[str, Any], summary: str, status: str) -> dict[str, Any]:
    schema = ref(data) if isinstance(data, str) else data
    errors = {
        status: json_response(words, _error()) for status, words in _ERRORS.items()
    }
    return {
        "summary": summary,
        "tags": ["control"],
        "security": [{}, {"adminToken": []}],
        "responses": {status: json_response(summary, schema), **errors},
    }


def _error() -> dict[str, Any]:
    return record({"error": record({"code": TEXT, "message": TEXT})})
