"""JSON schemas of what both APIs send and take: parts of the OpenAPI document."""

from __future__ import annotations

from typing import Any

import attrs

from finetuning_async.emulator import _fields
from finetuning_async.emulator._faults import AT_CONNECT, Fault
from finetuning_async.emulator._settings import EmulatorSettings
from finetuning_async.emulator._validation import (
    HIGHEST_SEED,
    KEYS,
    LANGUAGES,
    MOST_IDS,
    SCALES,
    TIME_SIGNATURES,
)

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
MAYBE_TEXT: Schema = {"type": ["string", "null"]}
NUMBER: Schema = {"type": "number"}
MAYBE_NUMBER: Schema = {"type": ["number", "null"]}
WHOLE: Schema = {"type": "integer"}
COUNT: Schema = {"type": "integer", "minimum": 0}
FLAG: Schema = {"type": "boolean"}
STATUS: Schema = {"enum": ["pending", "processing", "completed", "failed"]}
TIME: Schema = {"type": "string", "format": "date-time"}
PLAIN_TIME: Schema = {
    "type": "string",
    "pattern": r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$",
}
MAYBE_TIME: Schema = {"type": ["string", "null"], "format": "date-time"}
END: Schema = {"enum": ["completed", "failed", "stuck"]}


def ref(name: str) -> Schema:
    """A reference to a schema of this file."""
    return {"$ref": f"#/components/schemas/{name}"}


def record(required: Schema, optional: Schema | None = None, **more: Any) -> Schema:
    """An object with these members and no others."""
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
        **more,
    }


def listed(items: Schema, **more: Any) -> Schema:
    """An array."""
    return {"type": "array", "items": items, **more}


def wish(required: Schema, optional: Schema) -> Schema:
    """A body of the service, which ignores unknown members and takes null as absent."""
    nullable = {name: {"anyOf": [s, {"type": "null"}]} for name, s in optional.items()}
    return {
        "type": "object",
        "properties": {**required, **nullable},
        "required": list(required),
    }


def _limited(most: int, **more: Any) -> Schema:
    return {"type": "string", "maxLength": most, **more}


def _range(low: float, high: float, kind: str = "number") -> Schema:
    return {"type": kind, "minimum": low, "maximum": high}


WEBHOOK = _limited(2048, format="uri")
PROMPT = _limited(700, minLength=1)
SEED = _range(0, HIGHEST_SEED, "integer")
MUSIC: Schema = {
    "lyrics": _limited(2000),
    "duration": _range(5, 210),
    "bpm": _range(60, 200),
    "language": {"enum": list(LANGUAGES)},
    "key": {"enum": list(KEYS)},
    "scale": {"enum": list(SCALES)},
    "timesignature": {"enum": list(TIME_SIGNATURES)},
    "seed": SEED,
}
PARAMETERS = record(
    {"duration": NUMBER},
    {
        "bpm": NUMBER,
        "timesignature": {"type": ["string", "number"]},
        "language": MAYBE_TEXT,
        "keyscale": MAYBE_TEXT,
        "seed": WHOLE,
    },
)
_ROW: Schema = {
    "id": TEXT,
    "title": TEXT,
    "prompt": TEXT,
    "type": {"enum": ["music", "instrumental"]},
    "status": STATUS,
    "audioUrl": MAYBE_TEXT,
    "duration": MAYBE_NUMBER,
    "isPublic": FLAG,
    "playCount": COUNT,
    "likeCount": COUNT,
    "parameters": ref("Parameters"),
    "createdAt": PLAIN_TIME,
    "completedAt": MAYBE_TIME,
}
_EFFECT: Schema = {
    "id": TEXT,
    "status": STATUS,
    "prompt": TEXT,
    "requestedDuration": NUMBER,
    "audioUrl": MAYBE_TEXT,
    "duration": MAYBE_NUMBER,
    "webhook": MAYBE_TEXT,
    "createdAt": PLAIN_TIME,
    "completedAt": MAYBE_TIME,
}
_PLAYLIST: Schema = {
    "id": TEXT,
    "name": TEXT,
    "description": MAYBE_TEXT,
    "trackCount": COUNT,
    "totalDuration": NUMBER,
    "isPublic": FLAG,
    "createdAt": PLAIN_TIME,
    "updatedAt": PLAIN_TIME,
}
_PLAYLIST_TRACK: Schema = {
    name: _ROW[name]
    for name in (
        "id",
        "title",
        "prompt",
        "status",
        "audioUrl",
        "duration",
        "isPublic",
        "createdAt",
    )
}
IDS = listed(TEXT, minItems=1, maxItems=MOST_IDS)
_FAILED = listed(record({"trackId": TEXT, "error": TEXT}))
_FAILED_BY_ID = listed(record({"id": TEXT, "error": TEXT}))
_PAGE: Schema = {"hasMore": FLAG, "nextOffset": COUNT}

SERVICE: dict[str, Schema] = {
    "Error": record(
        {
            "error": record(
                {"code": TEXT, "message": TEXT},
                {"details": {}, "retryAfter": COUNT},
            )
        }
    ),
    "Health": record({"status": TEXT}),
    "Me": record(
        {
            "id": TEXT,
            "email": TEXT,
            "name": TEXT,
            "tier": TEXT,
            "limits": record(
                {
                    "monthlyGenerations": COUNT,
                    "generationsUsed": COUNT,
                    "monthlyRemaining": COUNT,
                    "packCredits": COUNT,
                    "totalRemaining": COUNT,
                    "queueDepth": COUNT,
                }
            ),
        }
    ),
    "Parameters": PARAMETERS,
    "GenerationCreate": wish({"tags": PROMPT}, {**MUSIC, "webhook": WEBHOOK}),
    "InstrumentalCreate": wish(
        {"prompt": PROMPT},
        {
            "duration": _range(30, 210),
            "enhance": FLAG,
            "seed": SEED,
            "webhook": WEBHOOK,
        },
    ),
    "SoundEffectCreate": wish(
        {"prompt": PROMPT},
        {"duration": _range(1, 8), "enhance": FLAG, "webhook": WEBHOOK},
    ),
    "Created": record(
        {
            "id": TEXT,
            "status": STATUS,
            "prompt": TEXT,
            "parameters": ref("Parameters"),
            "webhook": MAYBE_TEXT,
            "creditsRemaining": COUNT,
            "createdAt": TIME,
        },
        {"type": {"enum": ["instrumental"]}},
    ),
    "Row": record(_ROW),
    "Generation": record(
        {
            **_ROW,
            "fileSize": {"type": ["integer", "null"]},
            "downloadCount": COUNT,
            "errorMessage": MAYBE_TEXT,
            "generationTime": MAYBE_NUMBER,
            "webhook": MAYBE_TEXT,
        }
    ),
    "Generations": record({"generations": listed(ref("Row")), **_PAGE}),
    "Deleted": record({"deleted": listed(TEXT)}, {"errors": _FAILED_BY_ID}),
    "SoundEffectCreated": record(
        {**_EFFECT, "createdAt": TIME, "dailyRemaining": COUNT}
    ),
    "SoundEffect": record({**_EFFECT, "errorMessage": MAYBE_TEXT}),
    "SoundEffects": record({"soundEffects": listed(ref("SoundEffect")), **_PAGE}),
    "Playlist": record(_PLAYLIST),
    "Playlists": record({"playlists": listed(ref("Playlist"))}),
    "PlaylistDetail": record(
        {**_PLAYLIST, "isOwner": FLAG, "tracks": listed(record(_PLAYLIST_TRACK))}
    ),
    "Added": record({"added": listed(TEXT)}, {"errors": _FAILED}),
    "Removed": record({"removed": listed(TEXT)}, {"errors": _FAILED}),
    "Moved": record({"moved": listed(TEXT)}, {"errors": _FAILED}),
}

_LIMIT = record(
    {"limit": COUNT, "per": NUMBER, "remaining": COUNT, "retry_after": NUMBER}
)
_ACCOUNT: Schema = {"tier": TEXT, "credits": COUNT, "pack_credits": COUNT}


def control() -> dict[str, Schema]:
    """The schemas of the control API; faults and settings follow their classes."""
    settings = {
        name: _fields.schema(hint)
        for name, hint in _fields.hints_of(EmulatorSettings).items()
    }
    fault = {
        name: _fields.schema(hint) for name, hint in _fields.hints_of(Fault).items()
    }
    actions = [name for name in fault["action"]["enum"] if name not in AT_CONNECT]
    fault["action"] = {"enum": actions}
    for field in attrs.fields(Fault):
        if field.name in fault and field.default is not attrs.NOTHING:
            fault[field.name] = {**fault[field.name], **_default(field.default)}
    wanted = {name: schema for name, schema in fault.items() if name != "action"}
    return {
        **_CONTROL,
        "Settings": record(settings),
        "SettingsChange": record({}, settings),
        "SettingsState": record(
            {
                "settings": ref("Settings"),
                "after_reset": ref("SettingsChange"),
                "reset_only": listed(TEXT),
            }
        ),
        "FaultCreate": record({"action": fault["action"]}, wanted),
        "Fault": record({"number": COUNT, **fault, "hits": COUNT}),
        "Faults": record({"faults": listed(ref("Fault"))}),
    }


def _default(value: Any) -> Schema:
    plain = value is None or isinstance(value, bool | int | float | str)
    return {"default": value} if plain else {}


_TRACK_OPTIONS: Schema = {
    "kind": {"enum": ["music", "instrumental", "effect"]},
    "status": {"enum": [*END["enum"], "processing"]},
    "after_reads": {"type": ["integer", "null"], "minimum": 1},
    "id": _limited(100, minLength=1),
    "public": FLAG,
    "webhook": {**WEBHOOK, "type": ["string", "null"]},
    "api_key": TEXT,
}
_CONTROL: dict[str, Schema] = {
    "State": record(
        {
            "now": TIME,
            "advanced": NUMBER,
            "seed": WHOLE,
            "accounts": listed(ref("Account")),
            "tracks": record(dict.fromkeys(STATUS["enum"], COUNT)),
            "playlists": COUNT,
            "faults": COUNT,
            "requests": COUNT,
            "ledger": COUNT,
            "webhooks": COUNT,
        }
    ),
    "Account": record(
        {
            "api_key": TEXT,
            "api_keys": listed(TEXT),
            "id": TEXT,
            **_ACCOUNT,
            "used": COUNT,
            "remaining": COUNT,
            "in_progress": COUNT,
            "queue_size": COUNT,
            "limits": record({"creates": _LIMIT, "reads": _LIMIT}),
        }
    ),
    "AccountCreate": record({}, {"api_key": TEXT, **_ACCOUNT, "used": COUNT}),
    "AccountChange": record({}, {"add_key": TEXT, **_ACCOUNT, "used": COUNT}),
    "Accounts": record({"accounts": listed(ref("Account"))}),
    "Track": record(
        {
            "id": TEXT,
            "kind": _TRACK_OPTIONS["kind"],
            "status": STATUS,
            "prompt": TEXT,
            "parameters": ref("Parameters"),
            "api_key": TEXT,
            "webhook": MAYBE_TEXT,
            "public": FLAG,
            "after_reads": {"type": ["integer", "null"]},
            "stuck": FLAG,
            "created_at": TIME,
            "ends_at": MAYBE_TIME,
            "plays": COUNT,
            "downloads": COUNT,
        }
    ),
    "TrackCreate": record({"prompt": PROMPT}, {**_TRACK_OPTIONS, **MUSIC}),
    "TrackChange": record(
        {},
        {"status": END, "after_reads": _TRACK_OPTIONS["after_reads"], "public": FLAG},
    ),
    "Tracks": record({"tracks": listed(ref("Track"))}, {"total": COUNT}),
    "ControlPlaylist": record(
        {
            "id": TEXT,
            "name": TEXT,
            "description": MAYBE_TEXT,
            "public": FLAG,
            "api_key": TEXT,
            "tracks": listed(TEXT),
            "created_at": TIME,
            "updated_at": TIME,
        }
    ),
    "PlaylistCreate": record(
        {"name": TEXT},
        {
            "tracks": listed(TEXT),
            "description": MAYBE_TEXT,
            "public": FLAG,
            "id": TEXT,
            "api_key": TEXT,
        },
    ),
    "ControlPlaylists": record({"playlists": listed(ref("ControlPlaylist"))}),
    "Requests": record(
        {
            "requests": listed(
                record(
                    {
                        "number": COUNT,
                        "at": TIME,
                        "method": TEXT,
                        "path": TEXT,
                        "query": TEXT,
                        "headers": {"type": "object", "additionalProperties": TEXT},
                        "bucket": {"enum": ["creates", "reads", None]},
                        "counted": FLAG,
                        "status": COUNT,
                        "code": MAYBE_TEXT,
                        "delivered": FLAG,
                        "fault": MAYBE_TEXT,
                    }
                )
            )
        }
    ),
    "Ledger": record(
        {
            "ledger": listed(
                record(
                    {
                        "number": COUNT,
                        "at": TIME,
                        "request": COUNT,
                        "track": TEXT,
                        "amount": {"enum": [-1, 1]},
                        "balance": COUNT,
                    }
                )
            )
        }
    ),
    "Webhooks": record(
        {
            "webhooks": listed(
                record(
                    {
                        "number": COUNT,
                        "at": TIME,
                        "url": TEXT,
                        "body": TEXT,
                        "status": COUNT,
                    }
                )
            )
        }
    ),
    "Reset": record({}, {"seed": {"type": ["integer", "null"]}}),
    "ResetDone": record({"reset": {"const": True}}),
    "Advance": record({"seconds": {"type": "number", "minimum": 0}}),
    "Advanced": record({"now": TIME, "advanced": NUMBER}),
    "FaultsRemoved": record({"removed": COUNT}),
}
