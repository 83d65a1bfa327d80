"""What differs between tracks and sound effects for a person at a terminal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from finetuning_async import AsyncClient


@dataclass(frozen=True, slots=True)
class TrackKind:
    """Tracks, or sound effects.

    Attributes:
        words: What stands before the names of its commands.
        resource: The client's attribute that reads them.
        typical: Seconds that one takes as a rule.
        cost: What remains true of one that nobody waits for.
    """

    words: tuple[str, ...]
    resource: str
    typical: float
    cost: str

    async def get(self, client: AsyncClient, track_id: str, **how: Any) -> Any:
        """Read one.

        Raises:
            FinetuningError: It could not be read.
        """
        return await getattr(client, self.resource).get(track_id, **how)

    def command(self, *words: str) -> str:
        """One of its commands, as a person types it."""
        return " ".join(("finetuning", *self.words, *words))


TRACK: Final = TrackKind((), "generations", 70.0, "stays paid")
EFFECT: Final = TrackKind(("sfx",), "sound_effects", 6.0, "counts today")
