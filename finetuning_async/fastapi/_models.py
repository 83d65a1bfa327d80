"""What browsers get and send, as pydantic models: for ``response_model`` and OpenAPI.

    TrackResponse         a track, as `public` returns it
      SoundEffectResponse   a sound effect
    TrackPageResponse     a page of a list of the service
    ErrorResponse         an error, as `add_exception_handlers` answers it

    OwnedTrackResponse    an end user's track, from the request on: see `tracks_router`
      LineResponse          its place in the line, while it waits for its create
      ProgressResponse      how far it is
    OwnedTracksResponse   those of one end user, the newest first
    TrackBody             what an end user asks for

None of them has a field for what a browser must not see: the webhook, whose query is a
secret, the account's credits, the raw response.
"""

from __future__ import annotations

import datetime as dt
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Final,
    Literal,
    Self,
    TypeAlias,
)

from pydantic import BaseModel, ConfigDict, Discriminator, Field, PlainSerializer, Tag

from finetuning_async._api import REQUESTS
from finetuning_async._types import (  # noqa: TC001 - pydantic reads them
    Kind,
    Language,
    MusicalKey,
    Scale,
    Status,
)

if TYPE_CHECKING:
    from finetuning_async._api import AnyRequest, Generation, Page, SoundEffect
    from finetuning_async._events import CreateWaiting
    from finetuning_async._session import Progress

Moment: TypeAlias = Annotated[
    dt.datetime,
    PlainSerializer(dt.datetime.isoformat, return_type=str, when_used="json"),
]
"""A time as `public` writes it: ISO 8601 in UTC."""

_TRACK: Final[dict[str, Any]] = {
    "id": "gen_8k2mfq0x",
    "kind": "music",
    "status": "completed",
    "is_final": True,
    "prompt": "lofi chill piano night",
    "duration": 120.4,
    "audio_url": "https://media.finetuning.ai/audio/gen_8k2mfq0x.mp3",
    "error_message": None,
    "created_at": "2026-03-01T20:15:00+00:00",
    "completed_at": "2026-03-01T20:15:48+00:00",
}
_EFFECT: Final[dict[str, Any]] = {
    **_TRACK,
    "id": "sfx_31tz",
    "kind": "sound_effect",
    "prompt": "a door creaks",
    "duration": 2.5,
    "audio_url": "https://media.finetuning.ai/audio/sfx_31tz.mp3",
}


def _example(*examples: dict[str, Any]) -> ConfigDict:
    return ConfigDict(frozen=True, json_schema_extra={"examples": list(examples)})


class _Track(BaseModel):
    """What every form of a track has."""

    kind: Kind | str = Field(description="music, instrumental or sound_effect")
    status: Status = Field(
        description="pending, processing, completed or failed; others may be added"
    )
    is_final: bool = Field(description="whether it is completed or failed")
    prompt: str
    duration: float | None = Field(None, description="seconds, once completed")
    audio_url: str | None = Field(None, description="an MP3, once completed")
    error_message: str | None = Field(None, description="why it failed")
    created_at: Moment | None = Field(None, description="when it was accepted")
    completed_at: Moment | None = Field(None, description="when it ended")


def fields_of(track: Generation | SoundEffect) -> dict[str, Any]:
    """The fields of a track that browsers may see."""
    return {
        "id": track.id,
        "kind": track.kind,
        "status": track.status,
        "is_final": track.is_final,
        "prompt": track.prompt,
        "duration": track.duration,
        "audio_url": track.audio_url,
        "error_message": track.error_message,
        "created_at": track.created_at,
        "completed_at": track.completed_at,
    }


class TrackResponse(_Track):
    """A track for browsers, for ``response_model``: what `public` returns, typed.

    Example:
        from fastapi import FastAPI
        from finetuning_async.fastapi import Client, TrackResponse, client_lifespan

        app = FastAPI(lifespan=client_lifespan())

        @app.get("/tracks/{track_id}")
        async def read(track_id: str, client: Client) -> TrackResponse:
            return TrackResponse.of(await client.generations.get(track_id))
    """

    model_config: ClassVar[ConfigDict] = _example(_TRACK)

    id: str

    @classmethod
    def of(cls, track: Generation | SoundEffect) -> Self:
        """The response for a track."""
        return cls(**fields_of(track))


class SoundEffectResponse(TrackResponse):
    """A sound effect for browsers.

    Example:
        from finetuning_async.fastapi import SoundEffectResponse

        effect = await client.sound_effects.create("a door creaks")
        print(SoundEffectResponse.of(effect).model_dump_json())
    """

    model_config: ClassVar[ConfigDict] = _example(_EFFECT)

    kind: Literal["sound_effect"]  # type: ignore[mutable-override]  # it is frozen


class TrackPageResponse(BaseModel):
    """A page of a list of the service, for browsers that may see the whole account.

    Example:
        from fastapi import FastAPI
        from finetuning_async.fastapi import Client, TrackPageResponse, client_lifespan

        app = FastAPI(lifespan=client_lifespan())

        @app.get("/all-tracks")
        async def read(client: Client, offset: int = 0) -> TrackPageResponse:
            return TrackPageResponse.of(await client.generations.list(offset=offset))
    """

    model_config: ClassVar[ConfigDict] = _example(
        {"items": [_TRACK], "has_more": False, "next_offset": 1}
    )

    items: list[TrackResponse]
    has_more: bool
    next_offset: int = Field(description="the offset of the next page")

    @classmethod
    def of(cls, page: Page[Generation] | Page[SoundEffect]) -> Self:
        """The response for a page."""
        items = [TrackResponse.of(track) for track in page]
        return cls(items=items, has_more=page.has_more, next_offset=page.next_offset)


class ErrorBody(BaseModel):
    """What is wrong; see `ErrorResponse`.

    Example:
        from finetuning_async.fastapi import ErrorBody

        print(ErrorBody(code="busy", message="Try again.", retry_after=12))
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True)

    code: str = Field(description="such as busy, not_found, invalid_request")
    message: str = Field(description="for people")
    field: str | None = Field(None, description="the parameter that is invalid")
    generation_id: str | None = Field(None, description="the track it is about")
    retry_after: int | None = Field(None, description="seconds, while it is busy")


class ErrorResponse(BaseModel):
    """An error, as `add_exception_handlers` answers it: for ``responses=``.

    Example:
        from typing import Any
        from fastapi import FastAPI
        from finetuning_async.fastapi import Client, ErrorResponse, client_lifespan
        from finetuning_async.fastapi import add_exception_handlers, public

        app = FastAPI(lifespan=client_lifespan())
        add_exception_handlers(app)

        @app.post("/tracks", responses={503: {"model": ErrorResponse}})
        async def create(tags: str, client: Client) -> dict[str, Any]:
            return public(await client.generations.create(tags, timeout=10))
    """

    model_config: ClassVar[ConfigDict] = _example(
        {"error": {"code": "busy", "message": "The server is busy.", "retry_after": 12}}
    )

    error: ErrorBody


class LineResponse(BaseModel):
    """The place in the line of a track that is not created yet; expected values.

    Attributes:
        reason: Why it waits: ``rate_limit``, ``retry_after`` or ``queue``; `None` if
            another process of the application creates it.
        position: How many creates go before it.
        starts_in: Seconds until it is expected to be created.
        ends_in: Seconds until it is expected to be completed.

    Example:
        from finetuning_async.fastapi import LineResponse

        line = LineResponse(position=3, starts_in=42.0, ends_in=90.0)
        print(f"{line.position} before yours, it starts in {line.starts_in:.0f} s")
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True)

    reason: Literal["rate_limit", "retry_after", "queue"] | None = None
    position: int = Field(description="how many go before it")
    starts_in: float = Field(description="seconds until it is expected to start")
    ends_in: float = Field(description="seconds until it is expected to be done")

    @classmethod
    def of(cls, event: CreateWaiting, *, now: float, takes: float) -> Self:
        """The place of a create by its last event; times are of the loop's clock."""
        starts_in = max(event.expected_start - now, 0.0)
        return cls(
            reason=event.reason,
            position=event.position,
            starts_in=round(starts_in, 1),
            ends_in=round(starts_in + takes, 1),
        )


class ProgressResponse(BaseModel):
    """How far a track is, by how long tracks have taken; expected values.

    Attributes:
        elapsed: Seconds since the service accepted it.
        expected: Seconds that tracks of its kind take.
        fraction: 0 to 1; below 1 until it has ended.
        remaining: Seconds until it is expected to end.

    Example:
        from finetuning_async.fastapi import ProgressResponse

        track = await client.generations.create("rain")
        print(ProgressResponse.of(client.progress(track)).model_dump_json())
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True)

    elapsed: float = Field(description="seconds since it was accepted")
    expected: float = Field(description="seconds that such tracks take")
    fraction: float = Field(description="0 to 1; below 1 until it has ended")
    remaining: float = Field(description="seconds until it is expected to end")

    @classmethod
    def of(cls, progress: Progress) -> Self:
        """The response for a progress."""
        return cls(
            elapsed=round(progress.elapsed, 1),
            expected=round(progress.expected, 1),
            fraction=round(progress.fraction, 3),
            remaining=round(progress.remaining, 1),
        )


_OWNED: Final[dict[str, Any]] = {**_TRACK, "key": "5c6e", "line": None, "error": None}
_MAKING: Final = {
    "elapsed": 12.0,
    "expected": 48.0,
    "fraction": 0.25,
    "remaining": 36.0,
}
_IN_LINE: Final = {
    "reason": "rate_limit",
    "position": 3,
    "starts_in": 42.0,
    "ends_in": 90.0,
}
_NOTHING_YET: Final = dict.fromkeys(
    ("id", "duration", "audio_url", "created_at", "completed_at")
)


class OwnedTrackResponse(_Track):
    """An end user's track, from the request on; see `tracks_router`.

    Attributes:
        key: The key it was asked for with; its address, also after a restart.
        id: The service's id; `None` until it is accepted.
        status: ``waiting`` in the line; ``pending`` and ``processing`` at the service;
            ``completed`` or ``failed``; ``unknown`` while a lost create is looked for.
        line: Its place in the line, while it waits.
        progress: How far it is, while it is made.
        error: What is wrong, if anything is.

    Example:
        from finetuning_async.fastapi import OwnedTrackResponse

        text = '{"key": "k", "kind": "music", "status": "waiting", "prompt": "rain", '
        text += '"is_final": false, "line": {"position": 2, "starts_in": 9.5, '
        text += '"ends_in": 60.0}}'
        track = OwnedTrackResponse.model_validate_json(text)
        print(track.status, track.line and track.line.starts_in)
    """

    model_config: ClassVar[ConfigDict] = _example(
        {**_OWNED, **_NOTHING_YET, "status": "waiting", "line": _IN_LINE}
        | {"is_final": False, "progress": None},
        {**_OWNED, **_NOTHING_YET, "status": "processing", "progress": _MAKING}
        | {"is_final": False, "id": _TRACK["id"]},
        {**_OWNED, "progress": None},
    )

    key: str
    id: str | None = Field(None, description="the service's id, once accepted")
    line: LineResponse | None = None
    progress: ProgressResponse | None = None
    error: ErrorBody | None = None


class OwnedTracksResponse(BaseModel):
    """The tracks of one end user, the newest first; see `tracks_router`.

    Example:
        from finetuning_async.fastapi import OwnedTracksResponse

        page = OwnedTracksResponse.model_validate_json('{"items": [], "next": null}')
        print([track.prompt for track in page.items], page.next)
    """

    model_config: ClassVar[ConfigDict] = _example(
        {"items": [{**_OWNED, "progress": None}], "next": None}
    )

    items: list[OwnedTrackResponse]
    next: str | None = Field(
        None, description="for before= of the next page; null on the last one"
    )


LONGEST_PROMPT: Final = 2000
"""Characters of a prompt for which the service publishes no maximum: the journal keeps
what end users send."""


Prompt: TypeAlias = Annotated[
    str, Field(description="what it should sound like", max_length=LONGEST_PROMPT)
]
Enhance: TypeAlias = Annotated[
    bool, Field(description="whether the prompt may be expanded")
]


class _Body(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True)


class MusicBody(_Body):
    """Music; the ranges are those of `GenerationRequest`."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        json_schema_extra={
            "examples": [{"tags": "lofi chill piano night", "duration": 120, "bpm": 85}]
        }
    )

    kind: Literal["music"] = "music"
    tags: str = Field(description="what it should sound like, 1 to 700 characters")
    lyrics: str | None = Field(None, description="at most 2000 characters")
    duration: float | None = Field(None, description="5 to 210 seconds")
    bpm: float | None = Field(None, description="60 to 200 beats per minute")
    language: Language | str | None = Field(
        None, description="of the vocals, such as en"
    )
    key: MusicalKey | str | None = Field(None, description="such as C or F#")
    scale: Scale | str | None = Field(None, description="major or minor")
    timesignature: int | None = Field(None, description="2 to 7 beats per bar")


class InstrumentalBody(_Body):
    """A track without vocals; the ranges are those of `InstrumentalRequest`."""

    kind: Literal["instrumental"]
    prompt: Prompt
    duration: float | None = Field(None, description="30 to 210 seconds")
    enhance: Enhance = True


class SoundEffectBody(_Body):
    """A short clip; the ranges are those of `SoundEffectRequest`."""

    kind: Literal["sound_effect"]
    prompt: Prompt
    duration: float | None = Field(None, description="1 to 8 seconds")
    enhance: Enhance = True


def _kind(body: Any) -> Any:
    kind = body.get("kind") if isinstance(body, dict) else getattr(body, "kind", None)
    return "music" if kind is None else kind


# Neither a seed nor a webhook: a lost create is found by a seed of ours, and the URL of
# an end user's webhook would be called by the service.
TrackBody: TypeAlias = Annotated[
    Annotated[MusicBody, Tag("music")]
    | Annotated[InstrumentalBody, Tag("instrumental")]
    | Annotated[SoundEffectBody, Tag("sound_effect")],
    Discriminator(_kind),
]


def request_of(
    body: MusicBody | InstrumentalBody | SoundEffectBody, key: str
) -> AnyRequest:
    """The request for what an end user asks for."""
    made: AnyRequest = REQUESTS[body.kind](
        **body.model_dump(exclude={"kind"}), idempotency_key=key
    )
    return made
