"""How tracks and sound effects differ on the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from finetuning_async import AsyncClient


@dataclass(frozen=True, slots=True)
class TrackKind:
    """Tracks, or sound effects.

    Attributes:
        prefix: The words before the names of its commands.
        resource: The attribute of the client that reads them.
        typical_seconds: How long one usually takes.
        cost_note: What one costs even if the program ends before it is completed.
        in_words: What one is called, and the command that creates one.
    """

    prefix: tuple[str, ...]
    resource: str
    typical_seconds: float
    cost_note: str
    in_words: tuple[str, str]

    async def get(self, client: AsyncClient, track_id: str, **how: Any) -> Any:
        """Read one.

        Raises:
            FinetuningError: It could not be read.
        """
        return await getattr(client, self.resource).get(track_id, **how)

    def list(self, client: AsyncClient, **query: Any) -> Any:
        """List them, as the resource does."""
        return getattr(client, self.resource).list(**query)

    def command(self, *words: str) -> str:
        """One of its commands, as typed."""
        return " ".join(("finetuning", *self.prefix, *words))


TRACK: Final = TrackKind(
    (),
    "generations",
    70.0,
    "its credit is spent",
    ("track", "finetuning generate TAGS"),
)
EFFECT: Final = TrackKind(
    ("sfx",),
    "sound_effects",
    6.0,
    "it counts toward the daily limit",
    ("sound effect", "finetuning sfx generate PROMPT"),
)
KINDS: Final = (TRACK, EFFECT)
