"""One song of the page, from the wish to the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from finetuning_async import Generation, GenerationRequest


@attrs.define(eq=False, kw_only=True)
class Song:
    """What was wished for, and what has become of it.

    Attributes:
        key: Its name on the page; it is there before the service has given an id.
        asked_at: When it was wished for, in seconds of the loop's clock.
        request: The wish; `None` for a track that was there before.
        track: The last state, once it is accepted.
        error: Why there will be none: ``code`` and ``message``.
        took: Seconds from the wish to the end; `None` before, or if nobody saw it.
    """

    key: str
    asked_at: float
    request: GenerationRequest | None = None
    track: Generation | None = None
    error: dict[str, Any] | None = None
    took: float | None = None

    @property
    def status(self) -> str:
        """``waiting`` for its turn, ``failed``, or the status of the track."""
        if self.error is not None:
            return "failed"
        return "waiting" if self.track is None else self.track.status

    @property
    def is_final(self) -> bool:
        """Whether nothing more will come."""
        return self.status in ("completed", "failed")

    def shown(self, now: float) -> dict[str, Any]:
        """What the page gets of it.

        Args:
            now: On the loop's clock.
        """
        track, wish = self.track, self.request
        made = track.parameters if track else None
        return {
            "key": self.key,
            "status": self.status,
            "is_final": self.is_final,
            "prompt": self._prompt(),
            "length": (wish.duration if wish else None) or (made and made.duration),
            "duration": track.duration if track else None,
            "bpm": made.bpm if made else None,
            "keyscale": made.keyscale if made else None,
            "elapsed": None if self.is_final else round(now - self.asked_at, 1),
            "took": None if self.took is None else round(self.took, 1),
            "error": self._trouble(),
        }

    def _prompt(self) -> str:
        if self.request is not None:
            return self.request.prompt
        return "" if self.track is None else self.track.title or self.track.prompt

    def _trouble(self) -> str | None:
        if self.error is not None:
            return str(self.error["message"])
        if self.track is not None and self.track.status == "failed":
            return self.track.error_message or "The service gave no reason."
        return None
