"""Lazy packages: a name is imported when it is first used (PEP 562)."""

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
    """Make the `__getattr__` of a package that imports only the module of a name.

    Args:
        package: The `__name__` of the package.
        names_of: The exported names by module, written as in a relative import
            (``"._limits"``). Under the key ``""`` are modules of the package that are
            exported themselves, without the leading underscore.
    """
    module_of = {name: module for module, names in names_of.items() for name in names}

    def load(name: str) -> Any:
        module = module_of.get(name)
        if module is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if module:
            value = getattr(import_module(module, package), name)
        else:
            value = import_module(f"{package}._{name}")
        # From now on the name is found without `__getattr__`.
        setattr(sys.modules[package], name, value)
        return value

    return load
