"""Webhooks without a tunnel: what has ended since the last look, and its delivery.

`EndFinder` and `payload` are pure; `deliver` posts once, as the service does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    import datetime as dt

    import httpx

    from finetuning_async import Generation, SoundEffect

HEADERS: Final = {
    "Content-Type": "application/json",
    "User-Agent": "finetuning-webhook/1.0",
}
PAGE: Final = 99
MOST_ROWS: Final = 10 * PAGE
"""Rows of one look at most; a track further back is given up."""


class EndFinder:
    """Finds the tracks that ended since the first look; each one once.

    The first look shows what had ended before. A track that is new and has ended
    already, between two looks, is distinguished from an old one that only moved up,
    because newer ones were deleted, by when it was created.
    """

    def __init__(self) -> None:
        self._first = True
        self._ended: set[str] = set()
        self._in_progress: set[str] = set()
        self._missing: set[str] = set()
        self._newest: dt.datetime | None = None
        self._rows = 0

    def begin(self) -> None:
        """A look at the list begins."""
        self._missing, self._rows = set(self._in_progress), 0

    def saw(self, track: Generation | SoundEffect) -> bool:
        """A row of the list, newest first; true if this track has just ended."""
        self._rows += 1
        self._missing.discard(track.id)
        if not track.is_final:
            self._in_progress.add(track.id)
            return False
        known = track.id in self._ended
        waited = track.id in self._in_progress
        self._in_progress.discard(track.id)
        self._ended.add(track.id)
        if self._first and not waited:
            self._note_newest(track)
            return False
        return not known and (waited or self._is_new(track))

    def is_done(self) -> bool:
        """Whether the rest of the list need not be read."""
        return self._rows >= (PAGE if not self._missing else MOST_ROWS)

    def end(self) -> None:
        """The look is over; what it did not find was deleted."""
        self._first = False
        self._in_progress -= self._missing

    def _note_newest(self, track: Generation | SoundEffect) -> None:
        created = track.created_at
        if created is not None and (self._newest is None or created > self._newest):
            self._newest = created

    def _is_new(self, track: Generation | SoundEffect) -> bool:
        if self._newest is None or track.created_at is None:
            return True
        return track.created_at >= self._newest


def payload(track: Generation | SoundEffect) -> dict[str, Any]:
    """The body of the webhook, as the service sends it: the bare object.

    Args:
        track: It, by ``get``: rows of a list lack the error message.
    """
    raw = dict(track.raw)
    if "requestedDuration" in raw:  # a sound effect: it is sent as it is read
        return raw
    names = ("id", "status", "audioUrl", "duration", "prompt", "parameters")
    body = {name: raw.get(name) for name in names}
    body |= {"createdAt": _iso(track.created_at), "completedAt": raw.get("completedAt")}
    if raw.get("type") == "instrumental":
        body["type"] = raw["type"]
    if track.status == "failed":
        body["errorMessage"] = track.error_message
    return body


def target(forward_to: str, webhook: str | None) -> str:
    """Where to post: the URL, with the query of the track's own webhook if it has none.

    So a receiver that expects the token of each track gets it.
    """
    parts = urlsplit(forward_to)
    if parts.query or webhook is None:
        return forward_to
    return urlunsplit(parts._replace(query=urlsplit(webhook).query))


async def deliver(http: httpx.AsyncClient, url: str, body: dict[str, Any]) -> str:
    """Post a webhook once; returns the status, or why there is none."""
    import httpx  # slow to import

    try:
        response = await http.post(url, json=body, headers=HEADERS)
    except httpx.HTTPError as error:
        return f"not delivered ({type(error).__name__})"  # its text may hold the token
    return str(response.status_code)


def _iso(moment: dt.datetime | None) -> str | None:
    """ISO 8601 with milliseconds, as in webhooks; reads have whole seconds."""
    if moment is None:
        return None
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"
