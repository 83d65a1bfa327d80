"""A random mutant that does what the right line does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from benchmarks.proofs._operators import Change


@attrs.frozen
class Equivalent:
    """A wrong line that cannot be told from the right one.

    Attributes:
        file: The module it is in.
        was: The right line, without indentation.
        becomes: The wrong one.
        reason: Why nobody can tell.
    """

    file: str
    was: str
    becomes: str
    reason: str

    def is_of(self, change: Change) -> bool:
        """Whether a change makes this wrong line of the right one."""
        return (self.file, self.was, self.becomes) == (
            change.file,
            change.was,
            change.becomes,
        )
