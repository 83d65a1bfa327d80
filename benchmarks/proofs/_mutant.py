"""A mutant: a line of the package replaced by a wrong one."""

from __future__ import annotations

import attrs


@attrs.frozen
class Mutant:
    """A wrong line and the test that fails with it.

    Attributes:
        name: What the wrong line does.
        file: The module it is in.
        old: The text to replace; occurs once.
        new: Its replacement.
        test: The id of the test that must fail then.
    """

    name: str
    file: str
    old: str
    new: str
    test: str
