"""Names for values that every layer speaks of; imports nothing of ours."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    import datetime as dt

KnownStatus: TypeAlias = Literal["pending", "processing", "completed", "failed"]
"""The statuses that the service documents.

Example:
    known: tuple[KnownStatus, ...] = ("pending", "processing")
    print([t.id for t in await client.generations.list() if t.status in known])
"""

Status: TypeAlias = KnownStatus | str
"""A status as received: one of the four, or a word that a newer service uses.

Example:
    track = await client.generations.create("rain")
    async for state in client.watch(track, timeout=300):
        status: Status = state.status
        print(status)
"""

FINAL_STATUSES: frozenset[str] = frozenset({"completed", "failed"})
"""Nothing leaves these; every other word, known or not, is still under way."""

Kind: TypeAlias = Literal["music", "instrumental", "sound_effect"]
"""What a create makes. Music and instrumentals share one list; effects have their
own.

Example:
    icons: dict[Kind, str] = {"music": "♫", "instrumental": "𝄞", "sound_effect": "♪"}
"""

Family: TypeAlias = Literal["generations", "sound_effects"]
"""A list of the service: of tracks, or of effects."""

OnUnknown: TypeAlias = Literal["raise", "resubmit"]
"""What a create does when its fate cannot be learned."""

JSONObject: TypeAlias = Mapping[str, Any]
"""A parsed JSON object, as received."""


class Track(Protocol):
    """What a `Generation` and a `SoundEffect` have in common.

    Example:
        def caption(track: Track) -> str:
            return f"{track.prompt}: {track.status}"

        print(caption(await client.generate("rain")))
    """

    @property
    def id(self) -> str:
        """Opaque id, as the service gave it."""

    @property
    def status(self) -> Status:
        """The last status read."""

    @property
    def prompt(self) -> str:
        """The words it is made from."""

    @property
    def audio_url(self) -> str | None:
        """Where the MP3 is, once completed."""

    @property
    def duration(self) -> float | None:
        """Real length in seconds, once completed."""

    @property
    def error_message(self) -> str | None:
        """Why it failed, if it did."""

    @property
    def created_at(self) -> dt.datetime | None:
        """When the service accepted it (aware, UTC)."""

    @property
    def completed_at(self) -> dt.datetime | None:
        """When it ended (aware, UTC), if it has."""

    @property
    def is_final(self) -> bool:
        """Whether it is completed or failed."""


UpdateCallback: TypeAlias = Callable[[Any], Awaitable[None] | None]
"""Called with each changed state; may be a plain or an async function."""
