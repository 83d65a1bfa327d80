"""Handlers of playlists (sections 3.8 to 3.12).

The service keeps two rules: a public playlist holds public tracks only, a private one
holds its owner's tracks only. Each id of a bulk request is checked alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finetuning_async.emulator import _payloads, _validation
from finetuning_async.emulator._errors import ApiError, refusal, unacceptable
from finetuning_async.emulator._service import Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from finetuning_async.emulator._records import Account, Job, Playlist
    from finetuning_async.emulator._service import Call, Service

NO_PLAYLIST = "Playlist not found"
NOT_YOURS = "Not authorized to modify this playlist"
NO_TRACK = "Track not found"
PRIVATE_TRACK = "Cannot add private track to public playlist"
# The published list of texts is cut off before this one (U25).
FOREIGN_TRACK = "Cannot add another user's track to private playlist"
ALREADY_THERE = "Track already in playlist"
NOT_IN_PLAYLIST = "Track not found in playlist or not authorized"


def list_playlists(service: Service, call: Call, account: Account) -> Reply:
    """``GET /v1/playlists``: all of them, no paging."""
    del call
    own = [p for p in service.playlists.values() if p.owner is account]
    return Reply({"playlists": [_payloads.playlist(p, service.wall) for p in own]})


def get(service: Service, call: Call, account: Account) -> Reply:
    """``GET /v1/playlists/:id``: one of the account's own, or a public one (U26)."""
    entry = service.playlists.get(call.path["id"])
    if entry is None or not (entry.is_public or entry.owner is account):
        raise refusal("NOT_FOUND")
    tracks = [
        _payloads.playlist_track(track, service.wall, call.now, call.media)
        for track in entry.tracks
    ]
    owned = {"isOwner": entry.owner is account, "tracks": tracks}
    return Reply(_payloads.playlist(entry, service.wall) | owned)


def add(service: Service, call: Call, account: Account) -> Reply:
    """``POST /v1/playlists/:id/tracks``; appends (U29)."""
    ids = _validation.ids(_validation.json_object(call.body), "trackIds")
    playlist_id = call.path["id"]

    def add_one(track_id: str) -> None:
        _append(service, account, playlist_id, track_id, call.now)

    return _batch("added", ids, add_one, nothing="ADD_FAILED")


def remove(service: Service, call: Call, account: Account) -> Reply:
    """``POST /v1/playlists/:id/tracks/bulk-remove``; 200 even if nothing is removed."""
    ids = _validation.ids(_validation.json_object(call.body), "trackIds")
    playlist_id = call.path["id"]

    def remove_one(track_id: str) -> None:
        _take_out(service, account, playlist_id, track_id, call.now)

    return _batch("removed", ids, remove_one, nothing=None)


def move(service: Service, call: Call, account: Account) -> Reply:
    """``POST /v1/playlists/:id/tracks/move``: add there, only then remove here."""
    body = _validation.json_object(call.body)
    ids = _validation.ids(body, "trackIds")
    target = _validation.required_text(body, "targetPlaylistId", 200)
    source = call.path["id"]
    if source == target:
        raise unacceptable("targetPlaylistId", "must differ from the source playlist")

    def move_one(track_id: str) -> None:
        _find(_modifiable(service, account, source), track_id)
        _append(service, account, target, track_id, call.now)
        _take_out(service, account, source, track_id, call.now)

    return _batch("moved", ids, move_one, nothing="MOVE_FAILED")


class _ItemError(Exception):
    """One id of a bulk request failed; the text is the service's."""


def _batch(
    done_name: str,
    ids: list[str],
    do: Callable[[str], None],
    *,
    nothing: str | None,
) -> Reply:
    """Apply ``do`` to each id; ``nothing`` is the code of the 400 if all failed."""
    done: list[str] = []
    errors: list[dict[str, str]] = []
    for track_id in ids:
        try:
            do(track_id)
        except _ItemError as error:
            errors.append({"trackId": track_id, "error": str(error)})
        else:
            done.append(track_id)
    if nothing is not None and not done:
        raise ApiError(400, nothing, errors[0]["error"], errors)
    data: dict[str, Any] = {done_name: done}
    return Reply(data | ({"errors": errors} if errors else {}))


def _append(
    service: Service, account: Account, playlist_id: str, track_id: str, now: float
) -> None:
    entry = _modifiable(service, account, playlist_id)
    job = service.jobs.get(track_id)
    foreign = job is not None and job.owner is not account
    if job is None or job.kind == "effect" or (foreign and not job.is_public):
        raise _ItemError(NO_TRACK)
    if entry.is_public and not job.is_public:
        raise _ItemError(PRIVATE_TRACK)
    if foreign and not entry.is_public:
        raise _ItemError(FOREIGN_TRACK)
    if job in entry.tracks:
        raise _ItemError(ALREADY_THERE)
    entry.tracks.append(job)
    entry.updated_at = now


def _take_out(
    service: Service, account: Account, playlist_id: str, track_id: str, now: float
) -> None:
    entry = service.playlists.get(playlist_id)
    if entry is None or entry.owner is not account:
        raise _ItemError(NOT_IN_PLAYLIST)
    entry.tracks.remove(_find(entry, track_id))
    entry.updated_at = now


def _modifiable(service: Service, account: Account, playlist_id: str) -> Playlist:
    entry = service.playlists.get(playlist_id)
    if entry is None:
        raise _ItemError(NO_PLAYLIST)
    if entry.owner is not account:
        raise _ItemError(NOT_YOURS)
    return entry


def _find(entry: Playlist, track_id: str) -> Job:
    for job in entry.tracks:
        if job.id == track_id:
            return job
    raise _ItemError(NOT_IN_PLAYLIST)
