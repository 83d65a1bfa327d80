"""One song of the page, from the request to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from finetuning_async import (
        CreateWaiting,
        Generation,
        GenerationRequest,
        Progress,
    )


@attrs.define(eq=False, kw_only=True)
class Song:
    """A song: its request and its latest state.

    Attributes:
        key: Identifies it on the page, before the service has given an id.
        requested_at: When it was requested, in seconds of the loop's clock.
        request: The request; `None` for a track from before the demo started.
        track: The latest state, once the create is accepted.
        waiting: Its place in the line until then, as it was reported last.
        error: Why there will be no track: ``code`` and ``message``.
        took: Seconds from the request to the end; `None` until then, and for a track
            from before the demo started.
    """

    key: str
    requested_at: float
    request: GenerationRequest | None = None
    track: Generation | None = None
    waiting: CreateWaiting | None = None
    error: dict[str, Any] | None = None
    took: float | None = None

    @property
    def status(self) -> str:
        """``waiting`` until the create is accepted, then the track's; or ``failed``."""
        if self.error is not None:
            return "failed"
        return "waiting" if self.track is None else self.track.status

    @property
    def is_final(self) -> bool:
        """Whether its status will not change any more."""
        return self.status in ("completed", "failed")

    def to_json(
        self, now: float, *, takes: float = 70.0, progress: Progress | None = None
    ) -> dict[str, Any]:
        """The song as the page gets it.

        Args:
            now: On the loop's clock.
            takes: Seconds that a song is expected to take once it has started.
            progress: How far it is, once it has.
        """
        track, request = self.track, self.request
        parameters = track.parameters if track else None
        length = request.duration if request else None
        return {
            "key": self.key,
            "status": self.status,
            "is_final": self.is_final,
            "prompt": self._prompt(),
            "length": length or (parameters and parameters.duration),
            "duration": track.duration if track else None,
            "bpm": parameters.bpm if parameters else None,
            "keyscale": parameters.keyscale if parameters else None,
            "elapsed": None if self.is_final else round(now - self.requested_at, 1),
            "line": self._line(now),
            "ready_in": self._ready_in(now, takes, progress),
            "done": None if progress is None else round(progress.fraction, 3),
            "took": None if self.took is None else round(self.took, 1),
            "error": self._error_message(),
        }

    def _line(self, now: float) -> dict[str, Any] | None:
        if self.status != "waiting" or self.waiting is None:
            return None
        starts_in = max(self.waiting.expected_start - now, 0.0)
        return {"before": self.waiting.position, "starts_in": round(starts_in, 1)}

    def _ready_in(
        self, now: float, takes: float, progress: Progress | None
    ) -> float | None:
        if self.is_final:
            return None
        if progress is not None:
            return round(progress.remaining, 1)
        line = self._line(now)
        return round(takes + (0.0 if line is None else line["starts_in"]), 1)

    def _prompt(self) -> str:
        if self.request is not None:
            return self.request.prompt
        return "" if self.track is None else self.track.title or self.track.prompt

    def _error_message(self) -> str | None:
        if self.error is not None:
            return str(self.error["message"])
        if self.track is not None and self.track.status == "failed":
            return self.track.error_message or "The service gave no reason."
        return None
