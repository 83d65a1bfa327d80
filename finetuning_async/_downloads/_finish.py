"""What is done to a complete file before it gets its name: tags, and a check. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finetuning_async._downloads._id3 import music_frames, with_tags
from finetuning_async._downloads._mp3_check import find_problems
from finetuning_async._errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from finetuning_async._types import Track

FACTS = ("title", "prompt", "bpm", "key", "lyrics", "seed", "id")
"""What a file can say about its track."""


class Finish:
    """Completes the file of a track.

    Args:
        track: The track, or its URL, of which nothing is known.
        metadata: Whether to write what is known of it into the file; or what to write
            beside that or in its place, by the names in `FACTS`.
        check: Whether to look what is wrong with it.

    Attributes:
        problems: What is wrong, in words that follow the name of the file.

    Raises:
        InvalidRequestError: There is nothing to write, or a name is not known.
    """

    def __init__(
        self, track: Track | str, metadata: bool | Mapping[str, object], *, check: bool
    ) -> None:
        self._frames = _frames(track, metadata)
        self._asked = None if isinstance(track, str) else asked_seconds(track)
        self._check = check
        self.problems: list[str] = []

    def __call__(self, audio: bytes) -> bytes:
        """The file as it is saved."""
        self.problems = find_problems(audio, self._asked) if self._check else []
        return with_tags(audio, self._frames) if self._frames else audio


def _frames(
    track: Track | str, metadata: bool | Mapping[str, object]
) -> dict[str, str]:
    if metadata is False:
        return {}
    more: dict[str, Any] = {} if metadata is True else dict(metadata)
    unknown = sorted(set(more) - set(FACTS))
    if unknown or (metadata is True and isinstance(track, str)):
        names = ", ".join(FACTS)
        allowed = f"True with a track, or a mapping with the names {names}"
        raise InvalidRequestError("metadata", metadata, allowed)
    known = {} if isinstance(track, str) else track_facts(track)
    return music_frames(known | more)


def track_facts(track: Track) -> dict[str, Any]:
    """What is known of a track, by the names in `FACTS`."""
    made: Any = getattr(track, "parameters", None)
    return {
        "title": getattr(track, "title", None) or track.prompt,
        "prompt": track.prompt,
        "bpm": getattr(made, "bpm", None),
        "key": getattr(made, "keyscale", None),
        "lyrics": getattr(track, "raw", {}).get("lyrics"),
        "seed": getattr(made, "seed", None),
        "id": track.id,
    }


def asked_seconds(track: Track) -> float | None:
    """The length that was asked for, if that is known."""
    made: Any = getattr(track, "parameters", None)
    asked = getattr(track, "requested_duration", getattr(made, "duration", None))
    return float(asked) if asked else None
