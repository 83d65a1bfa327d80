"""`on_track_progress` of `generate_many`: how far each track is, once a second.

It reads nothing: how far a track is follows from how long tracks have taken.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import anyio

from finetuning_async._logging import log_exceptions
from finetuning_async._session import Progress, progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from finetuning_async._session import Session
    from finetuning_async._types import UpdateCallback

    ProgressCallback: TypeAlias = Callable[[Any, Progress], object]

EVERY: Final = 1.0
"""Seconds between two reports of a track."""


class ProgressReports:
    """Reports the tracks in progress, until it is cancelled.

    Args:
        session: The client.
        callback: Called with each track and its `Progress`; what it raises is logged.
        on_update: The caller's, for each changed state.
    """

    def __init__(
        self,
        session: Session,
        callback: ProgressCallback,
        on_update: UpdateCallback | None,
    ) -> None:
        self._account = session.account
        self._callback = callback
        self._on_update = on_update
        self._tracks: dict[str, Any] = {}

    async def run(self) -> None:
        """Report all tracks in progress, again and again."""
        while True:
            for track in list(self._tracks.values()):
                self._report(track)
            await anyio.sleep(EVERY)

    async def update(self, track: Any) -> None:
        """Take a track's new state: one that has ended is reported a last time."""
        if track.is_final:
            self.drop(track.id)
            self._report(track)
        else:
            self._tracks[track.id] = track
        if self._on_update is not None:
            result = self._on_update(track)
            if inspect.isawaitable(result):
                await result

    def add(self, track: Any) -> None:
        """Take a track that was accepted."""
        self._tracks.setdefault(track.id, track)

    def drop(self, track_id: str) -> None:
        """Forget a track that is waited for no longer."""
        self._tracks.pop(track_id, None)

    def _report(self, track: Any) -> None:
        with log_exceptions("on_track_progress"):
            self._callback(track, progress(self._account, track))
