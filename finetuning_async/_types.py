"""Types that every layer uses; imports nothing of this package."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias

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

MusicalKey: TypeAlias = Literal[
    "C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B",
    "Db", "Eb", "Gb", "Ab", "Bb",
]  # fmt: skip # sharps, then flats
"""The keys that the service documents; a flat is sent as the equal sharp.

Each parameter of these types takes any other string as well, from a form or a file: it
is checked before a credit is spent, or with ``validate=False`` by the service.

Example:
    keys: tuple[MusicalKey, ...] = ("C", "F#", "Bb")
    for key in keys:
        print(GenerationRequest("rain", key=key).to_body()["key"])
"""

Scale: TypeAlias = Literal["major", "minor"]
"""The scales that the service documents.

Example:
    mood: dict[str, Scale] = {"bright": "major", "dark": "minor"}
    await client.generate("rain", key="C", scale=mood["dark"])
"""

Language: TypeAlias = Literal[
    "en", "ja", "de", "fr", "es", "zh", "ko", "pt", "it", "ru"
]
"""The languages of vocals that the service documents.

Example:
    language: Language = "de"
    await client.generate("chanson", lyrics="Regen fällt", language=language)
"""

TimeSignature: TypeAlias = Literal[2, 3, 4, 5, 6, 7, "2", "3", "4", "5", "6", "7"]
"""Beats per bar, as the service documents them; it makes no difference how written.

Example:
    beats: TimeSignature = 3
    await client.generate("waltz", timesignature=beats)
"""

GenerationKind: TypeAlias = Literal["music", "instrumental"]
"""The kinds of track in the list of generations."""

OnUnknown: TypeAlias = Literal["raise", "resubmit"]
"""What to do about a create whose response is lost; see `Generations`."""


class NotGiven:
    """The type of `NOT_GIVEN`."""

    def __repr__(self) -> str:
        return "NOT_GIVEN"


NOT_GIVEN: Final = NotGiven()
"""The default of an option that then stays as it is, where `None` is a value."""

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
