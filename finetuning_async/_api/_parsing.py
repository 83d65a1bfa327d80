"""Parses responses into models: tolerant of content, strict about structure.

A row needs an id; every other field may be absent, null, or spelled in any published
way. A missing id, or another type where an object or list must be, is an
`APIResponseError` with the JSON path. Each function here parses one kind of response;
the functions of `_responses`, for all responses, are exported here as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeVar, cast

from finetuning_async._api._coercion import (
    flag,
    identifier,
    moment,
    number,
    seconds,
    text,
    whole,
)
from finetuning_async._api._messages import Response
from finetuning_async._api._models import (
    Account,
    BulkFailure,
    BulkResult,
    Generation,
    GenerationParameters,
    Health,
    Page,
    Playlist,
    PlaylistTrack,
    SoundEffect,
)
from finetuning_async._api._responses import (
    accepted_id as accepted_id,
    mismatch_error as mismatch_error,
    parse_error as parse_error,
    payload_of,
    response_facts as response_facts,
    retry_after as retry_after,
    server_date as server_date,
    status_error as status_error,
    too_long_error as too_long_error,
)

if TYPE_CHECKING:
    from finetuning_async._errors import APIStatusError
    from finetuning_async._types import Kind

T = TypeVar("T")
_Track = TypeVar("_Track", Generation, SoundEffect)
_Row: TypeAlias = Callable[[Any, str, Response | None], T]

_ALL_FAILED: Final = frozenset({"ADD_FAILED", "MOVE_FAILED"})
_UNKNOWN: Final = "unknown"
_STATUSES: Final = {
    word: word for word in ("pending", "processing", "completed", "failed")
}
_KINDS: Final = {word: word for word in ("music", "instrumental", "sound_effect")}
_NO_PARAMETERS: Final = GenerationParameters()


class KnownTracks(Protocol):
    """What the reader of a page that is read repeatedly knows of its tracks."""

    def last(self, track_id: str) -> Generation | SoundEffect | None:
        """The last state seen of a track, if any."""

    def wants(self, track_id: str) -> bool:
        """Whether all fields of a track are needed."""


def generation(response: Response, *, kind: Kind = "music") -> Generation:
    """Parse the response to a create, or to a read of one track.

    Args:
        response: A 2xx.
        kind: The kind of the track, if the response does not have it.

    Raises:
        APIResponseError: It is not JSON, not an object, or has no id.
    """
    data, path = payload_of(response)
    return generation_row(data, path, response, kind=kind)


def generation_row(
    row: Any, path: str = "$", response: Response | None = None, *, kind: Kind = "music"
) -> Generation:
    """Make a track of parsed JSON.

    Args:
        row: Any JSON value.
        path: Its JSON path, for the error.
        response: The response that it came in, for the error.
        kind: The kind of the track, if the row does not have it.

    Raises:
        APIResponseError: It is not an object, or has no id.
    """
    ident = _id_of(row, path, response)
    get = row.get
    return Generation(
        id=ident,
        status=_word(get("status"), _STATUSES, _UNKNOWN),
        kind=_word(get("type"), _KINDS, kind),
        prompt=text(get("prompt")) or "",
        title=text(get("title")),
        parameters=_parameters(get("parameters")),
        audio_url=text(get("audioUrl")),
        duration=seconds(get("duration")),
        file_size=whole(get("fileSize")),
        error_message=text(get("errorMessage")),
        generation_time=seconds(get("generationTime")),
        webhook=text(get("webhook")),
        credits_remaining=whole(get("creditsRemaining")),
        created_at=moment(get("createdAt")),
        completed_at=moment(get("completedAt")),
        raw=row,
    )


def _parameters(value: Any) -> GenerationParameters:
    if type(value) is not dict:
        return _NO_PARAMETERS
    get = value.get
    return GenerationParameters(
        bpm=number(get("bpm")),
        duration=seconds(get("duration")),
        timesignature=whole(get("timesignature")),
        language=text(get("language")),
        keyscale=text(get("keyscale")),
        seed=whole(get("seed")),
    )


def sound_effect(response: Response) -> SoundEffect:
    """Parse the response to a create, or to a read of one sound effect.

    Raises:
        APIResponseError: It is not JSON, not an object, or has no id.
    """
    data, path = payload_of(response)
    return sound_effect_row(data, path, response)


def sound_effect_row(
    row: Any, path: str = "$", response: Response | None = None
) -> SoundEffect:
    """Make a sound effect of parsed JSON, as `generation_row`."""
    ident = _id_of(row, path, response)
    get = row.get
    return SoundEffect(
        id=ident,
        status=_word(get("status"), _STATUSES, _UNKNOWN),
        prompt=text(get("prompt")) or "",
        requested_duration=seconds(get("requestedDuration")),
        audio_url=text(get("audioUrl")),
        duration=seconds(get("duration")),
        webhook=text(get("webhook")),
        daily_remaining=whole(get("dailyRemaining")),
        error_message=text(get("errorMessage")),
        created_at=moment(get("createdAt")),
        completed_at=moment(get("completedAt")),
        raw=row,
    )


def generation_page(
    response: Response, *, offset: int = 0, known: KnownTracks | None = None
) -> Page[Generation]:
    """Parse a page of tracks.

    Args:
        response: A 2xx.
        offset: The requested offset of this page.
        known: The tracks known to a reader who reads the page repeatedly. A row that
            has not changed gives the known track; a row that is not wanted gives a
            track with `id`, `status`, `created_at` and `raw` only.

    Raises:
        APIResponseError: It is not JSON, has no list, or a row has no id.
    """
    row: _Row[Generation] = generation_row
    if known is not None:
        row = partial(_known_row, known, Generation, generation_row)
    return _page(response, "generations", row, offset)


def sound_effect_page(
    response: Response, *, offset: int = 0, known: KnownTracks | None = None
) -> Page[SoundEffect]:
    """Parse a page of sound effects, as `generation_page`."""
    row: _Row[SoundEffect] = sound_effect_row
    if known is not None:
        row = partial(_known_row, known, SoundEffect, sound_effect_row)
    return _page(response, "soundEffects", row, offset)


def _page(response: Response, key: str, row: _Row[T], offset: int) -> Page[T]:
    data, path = payload_of(response)
    items = _items(data, path, key, row, response)
    following = whole(data.get("nextOffset"))
    if following is None or following <= offset:
        following = offset + len(items)
    # An empty page ends the list: else a wrong `hasMore` would be followed for ever.
    more = bool(items) and data.get("hasMore") is True
    return Page(items=items, has_more=more, next_offset=following, raw=data)


def _known_row(
    known: KnownTracks,
    model: type[_Track],
    row: _Row[_Track],
    value: Any,
    path: str,
    response: Response | None,
) -> _Track:
    """Make a track of a row of a page that is read repeatedly.

    Most rows have not changed, or are of tracks that no call waits for: comparing is
    much cheaper than parsing all fields.
    """
    ident = value.get("id") if type(value) is dict else None
    last = known.last(ident) if type(ident) is str else None
    if last is not None and last.raw == value:
        return cast("_Track", last)
    if type(ident) is not str or known.wants(ident):
        return row(value, path, response)
    return model(
        id=_id_of(value, path, response),
        status=_word(value.get("status"), _STATUSES, _UNKNOWN),
        created_at=moment(value.get("createdAt")),
        raw=value,
    )


def _items(
    data: Any, path: str, key: str, row: _Row[T], response: Response
) -> tuple[T, ...]:
    rows = _object(data, path, response).get(key)
    if type(rows) is not list:
        raise parse_error(response, "a list", f"{path}.{key}", got=rows)
    return tuple(
        row(value, f"{path}.{key}[{index}]", response)
        for index, value in enumerate(rows)
    )


def account(response: Response) -> Account:
    """Parse the response of ``/v1/me``.

    Raises:
        APIResponseError: It is not JSON, not an object, or has no id.
    """
    data, path = payload_of(response)
    ident = _id_of(data, path, response)
    limits = data.get("limits")
    left = limits.get if type(limits) is dict else {}.get
    return Account(
        id=ident,
        email=text(data.get("email")),
        name=text(data.get("name")),
        tier=text(data.get("tier")),
        monthly_generations=whole(left("monthlyGenerations")),
        generations_used=whole(left("generationsUsed")),
        monthly_remaining=whole(left("monthlyRemaining")),
        pack_credits=whole(left("packCredits")),
        total_remaining=whole(left("totalRemaining")),
        queue_depth=whole(left("queueDepth")),
        raw=data,
    )


def health(response: Response) -> Health:
    """Parse the response of ``/health``: any JSON object.

    Raises:
        APIResponseError: It is not JSON, or not an object.
    """
    data, path = payload_of(response)
    data = _object(data, path, response)
    return Health(status=text(data.get("status")), raw=data)


def playlists(response: Response) -> tuple[Playlist, ...]:
    """Parse the list of all playlists.

    Raises:
        APIResponseError: It is not JSON, has no list, or a row has no id.
    """
    data, path = payload_of(response)
    return _items(data, path, "playlists", _playlist_row, response)


def playlist(response: Response) -> Playlist:
    """Parse one playlist with its tracks.

    Raises:
        APIResponseError: It is not JSON, not an object, or it or a track has no id.
    """
    data, path = payload_of(response)
    return _playlist_row(data, path, response)


def _playlist_row(row: Any, path: str, response: Response | None) -> Playlist:
    ident = _id_of(row, path, response)
    get = row.get
    return Playlist(
        id=ident,
        name=text(get("name")) or "",
        description=text(get("description")),
        track_count=whole(get("trackCount")),
        total_duration=seconds(get("totalDuration")),
        is_public=flag(get("isPublic")),
        is_owner=flag(get("isOwner")),
        created_at=moment(get("createdAt")),
        updated_at=moment(get("updatedAt")),
        tracks=_tracks(get("tracks"), path, response),
        raw=row,
    )


def _tracks(
    rows: Any, path: str, response: Response | None
) -> tuple[PlaylistTrack, ...]:
    if type(rows) is not list:
        return ()
    return tuple(
        _track_row(row, f"{path}.tracks[{index}]", response)
        for index, row in enumerate(rows)
    )


def _track_row(row: Any, path: str, response: Response | None) -> PlaylistTrack:
    ident = _id_of(row, path, response)
    get = row.get
    return PlaylistTrack(
        id=ident,
        title=text(get("title")),
        prompt=text(get("prompt")) or "",
        status=_word(get("status"), _STATUSES, _UNKNOWN),
        audio_url=text(get("audioUrl")),
        duration=seconds(get("duration")),
        is_public=flag(get("isPublic")),
        created_at=moment(get("createdAt")),
        raw=row,
    )


def bulk_result(response: Response, key: str, *, ids: Sequence[str] = ()) -> BulkResult:
    """Parse the response to a bulk request.

    If no id succeeded, add and move respond with 400, delete and remove with 200 (Q13);
    both become a result.

    Args:
        response: Any response.
        key: The member with the ids that succeeded: ``deleted``, ``added``,
            ``removed`` or ``moved``.
        ids: The ids that were sent; all failed if a 400 does not list them.

    Raises:
        APIResponseError: It is a 2xx that cannot be parsed.
        APIStatusError: The request as a whole was rejected.
    """
    if not response.is_success:
        return all_failed(status_error(response, idempotent=True), ids)
    data, path = payload_of(response)
    members = _object(data, path, response)
    if key not in members and "errors" not in members:
        raise parse_error(response, "a list", f"{path}.{key}", got=None)
    done = (identifier(value) for value in _list(members.get(key)))
    return BulkResult(
        succeeded=tuple(value for value in done if value is not None),
        failed=_failures(members.get("errors")),
    )


def all_failed(error: APIStatusError, ids: Sequence[str] = ()) -> BulkResult:
    """The result that an ``ADD_FAILED`` or ``MOVE_FAILED`` stands for (Q13).

    Args:
        error: The error of the bulk request.
        ids: The ids that were sent; all failed if the error does not list them.

    Raises:
        APIStatusError: The given error, if it has another code.
    """
    if error.code not in _ALL_FAILED:
        raise error
    listed = _failures(error.details)
    unlisted = tuple(BulkFailure(id=name, error=error.message) for name in ids)
    return BulkResult(failed=listed or unlisted)


def _failures(values: Any) -> tuple[BulkFailure, ...]:
    return tuple(_failure(value) for value in _list(values))


def _failure(value: Any) -> BulkFailure:
    """One failed id, which has two spellings of its key (Q11)."""
    if type(value) is not dict:
        return BulkFailure(id="", error=text(value) or _UNKNOWN)
    ident = identifier(value.get("trackId")) or identifier(value.get("id"))
    return BulkFailure(id=ident or "", error=text(value.get("error")) or _UNKNOWN)


def webhook_payload(payload: Any) -> Generation | SoundEffect:
    """Parse what the service posts to a webhook: the object without an envelope.

    The payload of a sound effect is not documented; an object with `requestedDuration`
    and without `parameters` is taken for one.

    Raises:
        APIResponseError: It is not an object, or has no id.
    """
    row, path = payload, "$"
    if type(payload) is dict and type(payload.get("data")) is dict:
        row, path = payload["data"], "$.data"
    members = _object(row, path, None)
    if "requestedDuration" in members and "parameters" not in members:
        return sound_effect_row(row, path)
    return generation_row(row, path)


def _object(value: Any, path: str, response: Response | None) -> dict[str, Any]:
    if type(value) is not dict:
        raise parse_error(response, "an object", path, got=value)
    return value


def _list(value: Any) -> list[Any]:
    """Absent, null and ``[]`` mean the same (Q10)."""
    return value if type(value) is list else []


def _id_of(row: Any, path: str, response: Response | None) -> str:
    value = _object(row, path, response).get("id")
    found = identifier(value)
    if found is None:
        raise parse_error(response, "an id", f"{path}.id", got=value)
    return found


def _word(value: Any, known: Mapping[str, str], absent: str) -> str:
    """A string of an open set: known ones in any case, others as received."""
    if type(value) is not str or not value:
        return absent
    return known.get(value) or known.get(value.strip().lower(), value)
