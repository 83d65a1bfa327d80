"""A change of the source in a program that has loaded it, in no time.

The functions that run the changed lines get the code of the changed source. Whoever has
imported, bound or wrapped one of them has the same function, so that nothing has to be
loaded again.
"""

from __future__ import annotations

import gc
import types
from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class LoadedFunctions:
    """The functions of this process, by the code they run."""

    def __init__(self) -> None:
        gc.unfreeze()  # as the tests freeze what they load, and that is not listed
        gc.collect()
        self._functions = defaultdict(list)
        for function in gc.get_objects():
            if isinstance(function, types.FunctionType):
                self._functions[_key(function.__code__)].append(function)
        gc.freeze()  # a fork that collects garbage would copy all pages

    def replace(self, path: Path, old: str, new: str) -> int:
        """Let functions of a file run the new text; returns how many there were."""
        before = compile(old, str(path), "exec", dont_inherit=True)
        after = compile(new, str(path), "exec", dont_inherit=True)
        replaced = 0
        for was, becomes in _pairs(before, after):
            for function in self._functions.get(_key(was), ()):
                function.__code__ = becomes
                replaced += 1
        return replaced


def _key(code: types.CodeType) -> tuple[str, str, int, bytes]:
    """What tells code from other code, however often it has run.

    Code that has run is not equal to the same code compiled again, on Python 3.11.
    """
    return code.co_filename, code.co_name, code.co_firstlineno, code.co_linetable


def _pairs(
    old: types.CodeType, new: types.CodeType
) -> Iterator[tuple[types.CodeType, types.CodeType]]:
    """The code that differs, with that of the functions around it."""
    if old == new:
        return
    yield old, new
    # A changed operator changes no number of functions, nor their order.
    yield from (
        pair
        for was, becomes in zip(_nested(old), _nested(new), strict=True)
        for pair in _pairs(was, becomes)
    )


def _nested(code: types.CodeType) -> list[types.CodeType]:
    return [value for value in code.co_consts if isinstance(value, types.CodeType)]
