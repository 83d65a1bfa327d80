"""Makes models of answers: tolerant of what they hold, strict on what they are.

A row needs an id; all else may be absent, null, or spelled in either published way.
What has no id, or is no object where one must be, is an `APIResponseError` that names
the place. Each name here reads one kind of answer; what all answers have is read by
`_answers`, whose names can be had here, too.
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
    data_of,
    not_about as not_about,
    response_facts as response_facts,
    retry_after as retry_after,
    server_date as server_date,
    status_error as status_error,
    too_long as too_long,
    unreadable as unreadable,
)

if TYPE_CHECKING:
    from finetuning_async._errors import APIStatusError
    from finetuning_async._types import Kind

T = TypeVar("T")
_Track = TypeVar("_Track", Generation, SoundEffect)
_Row: TypeAlias = Callable[[Any, str, Response | None], T]

_FOLDED: Final = frozenset({"ADD_FAILED", "MOVE_FAILED"})
_UNKNOWN: Final = "unknown"
_STATUSES: Final = {
    word: word for word in ("pending", "processing", "completed", "failed")
}
_KINDS: Final = {word: word for word in ("music", "instrumental", "sound_effect")}
_NO_PARAMETERS: Final = GenerationParameters()


class Known(Protocol):
    """What is known of tracks by one who reads pages of them again and again."""

    def last(self, track_id: str) -> Generation | SoundEffect | None:
        """What was last seen of a track."""

    def wants(self, track_id: str) -> bool:
        """Whether all is to be read of a track."""


def generation(answer: Response, *, kind: Kind = "music") -> Generation:
    """Read the answer to a create or to a read by id.

    Args:
        answer: A 2xx.
        kind: What it is if the answer does not say.

    Raises:
        APIResponseError: If it is no JSON, no object, or has no id.
    """
    data, path = data_of(answer)
    return generation_row(data, path, answer, kind=kind)


def generation_row(
    row: Any, path: str = "$", answer: Response | None = None, *, kind: Kind = "music"
) -> Generation:
    """Read one track out of parsed JSON.

    Args:
        row: Any JSON value.
        path: Where it stands, for the error.
        answer: What it came in, for the error.
        kind: What it is if the row does not say.

    Raises:
        APIResponseError: If it is no object, or has no id.
    """
    ident = _id_of(row, path, answer)
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


def sound_effect(answer: Response) -> SoundEffect:
    """Read the answer to a create or to a read by id.

    Raises:
        APIResponseError: If it is no JSON, no object, or has no id.
    """
    data, path = data_of(answer)
    return sound_effect_row(data, path, answer)


def sound_effect_row(
    row: Any, path: str = "$", answer: Response | None = None
) -> SoundEffect:
    """Read one clip out of parsed JSON; as `generation_row`."""
    ident = _id_of(row, path, answer)
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
    answer: Response, *, offset: int = 0, known: Known | None = None
) -> Page[Generation]:
    """Read a list of tracks.

    Args:
        answer: A 2xx.
        offset: Where this page starts, as asked for.
        known: What is known of its tracks by one who reads it again and again. Rows
            that say the same are what they were; those that are not wanted have only
            `id`, `status`, `created_at` and `raw`.

    Raises:
        APIResponseError: If it is no JSON, holds no list, or a row has no id.
    """
    row: _Row[Generation] = generation_row
    if known is not None:
        row = partial(_row_again, known, Generation, generation_row)
    return _page(answer, "generations", row, offset)


def sound_effect_page(
    answer: Response, *, offset: int = 0, known: Known | None = None
) -> Page[SoundEffect]:
    """Read a list of clips; as `generation_page`."""
    row: _Row[SoundEffect] = sound_effect_row
    if known is not None:
        row = partial(_row_again, known, SoundEffect, sound_effect_row)
    return _page(answer, "soundEffects", row, offset)


def _page(answer: Response, key: str, row: _Row[T], offset: int) -> Page[T]:
    data, path = data_of(answer)
    items = _items(data, path, key, row, answer)
    following = whole(data.get("nextOffset"))
    if following is None or following <= offset:
        following = offset + len(items)
    # An empty page ends a list, or a service that errs would be asked for ever.
    more = bool(items) and data.get("hasMore") is True
    return Page(items=items, has_more=more, next_offset=following, raw=data)


def _row_again(
    known: Known,
    model: type[_Track],
    row: _Row[_Track],
    value: Any,
    path: str,
    answer: Response | None,
) -> _Track:
    """A row of a page that is read again and again.

    Most say what they said before, or are of tracks that nobody waits for.
    """
    ident = value.get("id") if type(value) is dict else None
    last = known.last(ident) if type(ident) is str else None
    if last is not None and last.raw == value:
        return cast("_Track", last)
    if type(ident) is not str or known.wants(ident):
        return row(value, path, answer)
    return model(
        id=_id_of(value, path, answer),
        status=_word(value.get("status"), _STATUSES, _UNKNOWN),
        created_at=moment(value.get("createdAt")),
        raw=value,
    )


def _items(
    data: Any, path: str, key: str, row: _Row[T], answer: Response
) -> tuple[T, ...]:
    rows = _object(data, path, answer).get(key)
    if type(rows) is not list:
        raise unreadable(answer, "no list", f"{path}.{key}")
    return tuple(
        row(value, f"{path}.{key}[{place}]", answer) for place, value in enumerate(rows)
    )


def account(answer: Response) -> Account:
    """Read the answer of ``/v1/me``.

    Raises:
        APIResponseError: If it is no JSON, no object, or has no id.
    """
    data, path = data_of(answer)
    ident = _id_of(data, path, answer)
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


def health(answer: Response) -> Health:
    """Read the answer of ``/health``: any JSON object will do.

    Raises:
        APIResponseError: If it is no JSON, or no object.
    """
    data, path = data_of(answer)
    data = _object(data, path, answer)
    return Health(status=text(data.get("status")), raw=data)


def playlists(answer: Response) -> tuple[Playlist, ...]:
    """Read the list of all playlists.

    Raises:
        APIResponseError: If it is no JSON, holds no list, or a row has no id.
    """
    data, path = data_of(answer)
    return _items(data, path, "playlists", _playlist_row, answer)


def playlist(answer: Response) -> Playlist:
    """Read one playlist with its tracks.

    Raises:
        APIResponseError: If it is no JSON, no object, or something in it has no id.
    """
    data, path = data_of(answer)
    return _playlist_row(data, path, answer)


def _playlist_row(row: Any, path: str, answer: Response | None) -> Playlist:
    ident = _id_of(row, path, answer)
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
        tracks=_tracks(get("tracks"), path, answer),
        raw=row,
    )


def _tracks(rows: Any, path: str, answer: Response | None) -> tuple[PlaylistTrack, ...]:
    if type(rows) is not list:
        return ()
    return tuple(
        _track_row(row, f"{path}.tracks[{place}]", answer)
        for place, row in enumerate(rows)
    )


def _track_row(row: Any, path: str, answer: Response | None) -> PlaylistTrack:
    ident = _id_of(row, path, answer)
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


def bulk_result(answer: Response, key: str, *, ids: Sequence[str] = ()) -> BulkResult:
    """Read what one call did to many ids.

    Add and move answer 400 when nothing succeeded, delete and remove answer 200 (Q13);
    both become a result.

    Args:
        answer: Any answer.
        key: Where the ids done are: ``deleted``, ``added``, ``removed`` or ``moved``.
        ids: What was asked for; the failed ones if a 400 does not list them.

    Raises:
        APIResponseError: If a 2xx cannot be read.
        APIStatusError: If it says no to the call as a whole.
    """
    if not answer.is_success:
        return folded(status_error(answer, idempotent=True), ids)
    data, path = data_of(answer)
    members = _object(data, path, answer)
    if key not in members and "errors" not in members:
        raise unreadable(answer, "no list", f"{path}.{key}")
    done = (identifier(value) for value in _list(members.get(key)))
    return BulkResult(
        succeeded=tuple(value for value in done if value is not None),
        failed=_failures(members.get("errors")),
    )


def folded(error: APIStatusError, ids: Sequence[str] = ()) -> BulkResult:
    """The result that an ``ADD_FAILED`` or ``MOVE_FAILED`` stands for (Q13).

    Args:
        error: What the call was answered with.
        ids: What was asked for; the failed ones if the error does not list them.

    Raises:
        APIStatusError: The same error, if it is another.
    """
    if error.code not in _FOLDED:
        raise error
    listed = _failures(error.details)
    unlisted = tuple(BulkFailure(id=name, error=error.message) for name in ids)
    return BulkResult(failed=listed or unlisted)


def _failures(values: Any) -> tuple[BulkFailure, ...]:
    return tuple(_failure(value) for value in _list(values))


def _failure(value: Any) -> BulkFailure:
    """One failed item, whose id has two names (Q11)."""
    if type(value) is not dict:
        return BulkFailure(id="", error=text(value) or _UNKNOWN)
    ident = identifier(value.get("trackId")) or identifier(value.get("id"))
    return BulkFailure(id=ident or "", error=text(value.get("error")) or _UNKNOWN)


def webhook_payload(payload: Any) -> Generation | SoundEffect:
    """Read what the service posts to a webhook: the bare object, without an envelope.

    The payloads of effects are not published; what has a `requestedDuration` and no
    `parameters` is taken for one.

    Raises:
        APIResponseError: If it is no object, or has no id.
    """
    row, path = payload, "$"
    if type(payload) is dict and type(payload.get("data")) is dict:
        row, path = payload["data"], "$.data"
    members = _object(row, path, None)
    if "requestedDuration" in members and "parameters" not in members:
        return sound_effect_row(row, path)
    return generation_row(row, path)


def _object(value: Any, path: str, answer: Response | None) -> dict[str, Any]:
    if type(value) is not dict:
        raise unreadable(answer, "no object", path)
    return value


def _list(value: Any) -> list[Any]:
    """Absent, null and ``[]`` are the same (Q10)."""
    return value if type(value) is list else []


def _id_of(row: Any, path: str, answer: Response | None) -> str:
    found = identifier(_object(row, path, answer).get("id"))
    if found is None:
        raise unreadable(answer, "no id", f"{path}.id")
    return found


def _word(value: Any, known: Mapping[str, str], absent: str) -> str:
    """A word of an open set: those we know in any case, others as received."""
    if type(value) is not str or not value:
        return absent
    return known.get(value) or known.get(value.strip().lower(), value)
