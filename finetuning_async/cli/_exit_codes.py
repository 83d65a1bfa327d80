"""The exit codes of the program; the package's docstring says what they mean."""

from __future__ import annotations

TYPE_CHECKING = False  # `typing` takes longer to import than all of this
if TYPE_CHECKING:
    from typing import Final

DONE: Final = 0
FAILED: Final = 1
WRONG: Final = 2
PARTLY: Final = 3
