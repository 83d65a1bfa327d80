"""What a mutant is."""

from __future__ import annotations

import attrs


@attrs.frozen
class Mutant:
    """A wrong line.

    Attributes:
        name: What it does.
        file: The module it is in.
        old: What stands there; occurs once.
        new: What stands there instead.
        test: The test that must fail then.
    """

    name: str
    file: str
    old: str
    new: str
    test: str
