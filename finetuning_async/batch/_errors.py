"""What can go wrong with a batch, beside what can go wrong with the service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from finetuning_async._errors import FinetuningError

if TYPE_CHECKING:
    from collections.abc import Sequence

SHOWN: Final = 20
"""Problems of an input that its message repeats; `problems` has them all."""


class BatchError(FinetuningError):
    """A batch cannot go on, or was used in a way that it cannot be."""


class BatchLockedError(BatchError):
    """Another runner works in the same folder."""


class JournalError(BatchError):
    """The journal cannot be read or written, or was asked for what cannot be."""


class StaleItemError(JournalError):
    """Somebody else has moved the item on meanwhile; look again where it stands."""


class BatchInputError(BatchError, ValueError):
    """The input is wrong in some rows; nothing was taken in and nothing was paid.

    Attributes:
        problems: Each as one line that begins with where it is.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        shown = list(problems[:SHOWN])
        if len(problems) > SHOWN:
            shown.append(f"and {len(problems) - SHOWN} more")
        super().__init__("\n".join(shown))
        self.problems: tuple[str, ...] = tuple(problems)
