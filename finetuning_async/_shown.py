"""Text of unknown origin as a person may be shown it. Pure."""

from __future__ import annotations

from typing import Final
from unicodedata import category

_JOINERS: Final = "\u200c\u200d"
"""Without them Persian is misspelt and emoji fall apart; they do nothing else."""


def is_plain(char: str) -> bool:
    """Whether a character shows as itself, and moves neither cursor nor neighbours.

    Not so: control codes, line breaks of all kinds, what turns the direction of
    writing, halves of surrogate pairs, and what Unicode has not assigned.
    """
    return char.isprintable() or char in _JOINERS or category(char) == "Zs"


def shown(text: str) -> str:
    r"""Text on one line, with all that is not plain escaped as Python writes it.

    >>> print(shown("rain\n\x1b[2J\u202egnp"))
    rain\n\x1b[2J\u202egnp
    """
    if text.isprintable():
        return text
    return "".join(char if is_plain(char) else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
