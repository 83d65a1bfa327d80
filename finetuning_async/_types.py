"""Types that every layer uses; imports nothing of this package."""

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
"""A status as received: one of the four, or another string of a newer service.

Example:
    track = await client.generations.create("rain")
    async for state in client.watch(track, timeout=300):
        status: Status = state.status
        print(status)
"""

FINAL_STATUSES: frozenset[str] = frozenset({"completed", "failed"})
"""A track in one of these never changes again; in any other it is in progress."""

Kind: TypeAlias = Literal["music", "instrumental", "sound_effect"]
"""The kind of a track. Music and instrumentals share one list; sound effects have
their own.

Example:
    icons: dict[Kind, str] = {"music": "♫", "instrumental": "𝄞", "sound_effect": "♪"}
"""

Family: TypeAlias = Literal["generations", "sound_effects"]
"""One of the service's two lists of tracks."""

Priority: TypeAlias = Literal["high", "normal", "low"]
"""Who goes first where creates wait; see `AsyncClient`.

Example:
    urgency: dict[str, Priority] = {"visitor": "high", "newsletter": "low"}
    await client.generate("rain", priority=urgency["visitor"])
"""

OnUnknown: TypeAlias = Literal["raise", "resubmit"]
"""What to do about a create whose response is lost; see `Generations`."""

JSONObject: TypeAlias = Mapping[str, Any]
"""A parsed JSON object, as received."""


class Track(Protocol):
    """The interface shared by `Generation` and `SoundEffect`.

    Example:
        def caption(track: Track) -> str:
            return f"{track.prompt}: {track.status}"

        print(caption(await client.generate("rain")))
    """

    @property
    def id(self) -> str:
        """The service's id; opaque."""

    @property
    def status(self) -> Status:
        """The last status read."""

    @property
    def prompt(self) -> str:
        """The prompt it is made from."""

    @property
    def audio_url(self) -> str | None:
        """The URL of the MP3, once completed."""

    @property
    def duration(self) -> float | None:
        """The actual length in seconds, once completed."""

    @property
    def error_message(self) -> str | None:
        """Why it failed, if it did."""

    @property
    def created_at(self) -> dt.datetime | None:
        """When the service accepted it (aware, UTC)."""

    @property
    def completed_at(self) -> dt.datetime | None:
        """When it ended (aware, UTC), if it has ended."""

    @property
    def is_final(self) -> bool:
        """Whether it is completed or failed."""


UpdateCallback: TypeAlias = Callable[[Any], Awaitable[None] | None]
"""A plain or async function, called with each changed state of a track."""
