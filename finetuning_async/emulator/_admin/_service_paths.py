"""The service's endpoints in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from finetuning_async.emulator._admin._schemas import COUNT, STATUS, TEXT, record, ref
from finetuning_async.emulator._validation import HIGHEST_PAGE, KINDS

ERRORS = {
    "400": "A parameter is not allowed; or no item of a bulk request succeeded",
    "401": "The API key is missing or not accepted",
    "402": "No credits are left",
    "403": "The plan has no access to the API",
    "404": "Nothing with that id",
    "413": "The body is larger than 64 KiB",
    "429": "A rate limit is spent, the queue is full, or the day's effects are used up",
    "500": "The job could not be queued, or something broke",
}
_PAGE = (
    ("limit", {"type": "integer", "minimum": 1, "maximum": HIGHEST_PAGE}),
    ("offset", COUNT),
    ("status", {"enum": [*STATUS["enum"], ""]}),
)
RATE_HEADERS: dict[str, Any] = {
    name: {"schema": COUNT} for name in ("X-RateLimit-Limit", "X-RateLimit-Remaining")
}


def paths() -> dict[str, Any]:
    """The paths of the service."""
    tracks = "/v1/playlists/{id}/tracks"
    ids = {"trackIds": _ids()}
    return {
        "/health": {"get": _health()},
        "/v1/me": {"get": _operation("me", "The account", "Me")},
        "/v1/generations": {
            "get": _operation(
                "listGenerations",
                "Tracks, newest first",
                "Generations",
                query=(*_PAGE, ("type", {"enum": [*KINDS, ""]})),
            ),
            "post": _operation(
                "createGeneration",
                "Create a track for one credit",
                "Created",
                ref("GenerationCreate"),
                status="202",
            ),
        },
        "/v1/generations/bulk-delete": {
            "post": _operation(
                "deleteGenerations", "Delete tracks", "Deleted", _body(ids=_ids())
            )
        },
        "/v1/generations/{id}": {
            "get": _operation("getGeneration", "One track", "Generation")
        },
        "/v1/instrumental": {
            "post": _operation(
                "createInstrumental",
                "Create an instrumental for one credit",
                "Created",
                ref("InstrumentalCreate"),
                status="202",
            )
        },
        "/v1/sound-effects": {
            "get": _operation(
                "listSoundEffects",
                "Sound effects, newest first",
                "SoundEffects",
                query=_PAGE,
            ),
            "post": _operation(
                "createSoundEffect",
                "Create a sound effect",
                "SoundEffectCreated",
                ref("SoundEffectCreate"),
                status="202",
            ),
        },
        "/v1/sound-effects/{id}": {
            "get": _operation("getSoundEffect", "One sound effect", "SoundEffect")
        },
        "/v1/playlists": {
            "get": _operation("listPlaylists", "All playlists", "Playlists")
        },
        "/v1/playlists/{id}": {
            "get": _operation("getPlaylist", "A playlist", "PlaylistDetail")
        },
        tracks: {"post": _operation("addTracks", "Add tracks", "Added", _body(**ids))},
        f"{tracks}/bulk-remove": {
            "post": _operation("removeTracks", "Remove tracks", "Removed", _body(**ids))
        },
        f"{tracks}/move": {
            "post": _operation(
                "moveTracks",
                "Move tracks to another playlist",
                "Moved",
                _body(**ids, targetPlaylistId=TEXT),
            )
        },
        "/media/audio/{id}.mp3": {"get": _audio()},
    }


def path_parameters(path: str) -> list[dict[str, Any]]:
    """The parameters that a path has in braces."""
    names = [part.split("}")[0] for part in path.split("{")[1:]]
    return [
        {"name": name, "in": "path", "required": True, "schema": TEXT} for name in names
    ]


def _operation(
    name: str,
    summary: str,
    data: str,
    body: dict[str, Any] | None = None,
    *,
    status: str = "200",
    query: tuple[tuple[str, dict[str, Any]], ...] = (),
) -> dict[str, Any]:
    answer = json_response(summary, record({"data": ref(data)}))
    operation: dict[str, Any] = {
        "operationId": name,
        "summary": summary,
        "tags": ["service"],
        "security": [{"apiKey": []}],
        "responses": {status: {**answer, "headers": RATE_HEADERS}, **_errors()},
    }
    if query:
        operation["parameters"] = [
            {"name": key, "in": "query", "schema": schema} for key, schema in query
        ]
    if body is not None:
        operation["requestBody"] = json_body(body)
    return operation


def json_response(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A response with a JSON body."""
    return {
        "description": description,
        "content": {"application/json": {"schema": schema}},
    }


def json_body(schema: dict[str, Any], *, required: bool = True) -> dict[str, Any]:
    """A request body."""
    return {"required": required, "content": {"application/json": {"schema": schema}}}


def _errors() -> dict[str, Any]:
    return {
        status: json_response(words, ref("Error")) for status, words in ERRORS.items()
    }


def _health() -> dict[str, Any]:
    return {
        "operationId": "health",
        "summary": "Whether the service runs; needs no key",
        "tags": ["service"],
        "responses": {"200": json_response("It runs", ref("Health"))},
    }


def _audio() -> dict[str, Any]:
    mp3 = {"content": {"audio/mpeg": {"schema": TEXT}}}
    return {
        "operationId": "audio",
        "summary": "The MP3 of a completed track; needs no key",
        "tags": ["service"],
        "parameters": [{"name": "Range", "in": "header", "schema": TEXT}],
        "responses": {
            "200": {"description": "The whole file", **mp3},
            "206": {"description": "Part of it", **mp3},
            "404": {"description": "There is no such file"},
            "416": {"description": "The file has no such part"},
        },
    }


def _body(**members: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": members,
        "required": list(members),
    }


def _ids() -> dict[str, Any]:
    return {"type": "array", "items": TEXT, "minItems": 1, "maxItems": 100}
