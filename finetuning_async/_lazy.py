"""Packages whose names are imported when they are first used (PEP 562)."""

from __future__ import annotations

import sys
from importlib import import_module

TYPE_CHECKING = False  # `typing` takes longer to import than all of this
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any


def lazy_exports(
    package: str, names_of: Mapping[str, Iterable[str]]
) -> Callable[[str], Any]:
    """Make the `__getattr__` of a package, so that a name loads its own module alone.

    Args:
        package: Its `__name__`.
        names_of: The names that each module provides, which is given as in a relative
            import (``"._limits"``). Those of the key ``""`` are modules of the package
            themselves, without their underscore.
    """
    homes = {name: module for module, names in names_of.items() for name in names}

    def load(name: str) -> Any:
        home = homes.get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if home:
            value = getattr(import_module(home, package), name)
        else:
            value = import_module(f"{package}._{name}")
        setattr(sys.modules[package], name, value)
        return value

    return load
