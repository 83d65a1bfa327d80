"""The exit codes of the program; the docstring of the package explains them."""

from __future__ import annotations

TYPE_CHECKING = False  # `typing` takes longer to import than this whole module
if TYPE_CHECKING:
    from typing import Final

SUCCESS: Final = 0
FAILURE: Final = 1
INVALID_INPUT: Final = 2
PARTIAL: Final = 3
