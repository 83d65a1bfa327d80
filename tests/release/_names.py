"""Every public name of the package, with its docstring; read by the tests beside it.

A package is public if its name has no underscore. `PROGRAMS` are run, not imported.
"""

from __future__ import annotations

import ast
import inspect
import pkgutil
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import attrs

import finetuning_async

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = "finetuning_async"
PROGRAMS: Final = frozenset({"cli", "demo"})


@attrs.frozen
class Name:
    """One public name.

    Attributes:
        module: Where it is imported from.
        name: What it is called there.
        value: The object.
    """

    module: str
    name: str
    value: Any = attrs.field(repr=False)

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"

    @property
    def docstring(self) -> str:
        """Its docstring without indentation; that of an alias stands below it."""
        if inspect.isclass(self.value) or inspect.isroutine(self.value):
            return inspect.getdoc(self.value) or ""
        return _assignment(*_home(self.module, self.name))[1]

    @property
    def is_error(self) -> bool:
        """Whether it can be raised."""
        return inspect.isclass(self.value) and issubclass(self.value, Exception)

    def methods(self) -> Iterator[Name]:
        """The public methods of a class, those of private bases included."""
        bases = self.value.__mro__ if inspect.isclass(self.value) else ()
        for base in bases:
            for name, value in vars(base).items():
                is_ours = base.__module__.startswith(ROOT) and not name.startswith("_")
                if is_ours and inspect.isfunction(value):
                    yield Name(self.module, f"{self.name}.{name}", value)


def modules() -> list[str]:
    """The modules that callers import, the package itself first."""
    found = [
        info.name
        for info in pkgutil.iter_modules(finetuning_async.__path__)
        if not info.name.startswith("_") and info.name not in PROGRAMS
    ]
    return [ROOT, *(f"{ROOT}.{name}" for name in sorted(found))]


def names(module: str) -> Iterator[Name]:
    """What a module exports, in the order of its `__all__`."""
    loaded = import_module(module)
    for name in loaded.__all__:
        yield Name(module, name, getattr(loaded, name))


def first_names() -> list[Name]:
    """All of all modules, those that several modules export once."""
    return list({id(found.value): found for found in reversed(every_name())}.values())


@cache
def every_name() -> list[Name]:
    """All of all modules."""
    return [found for module in modules() for found in names(module)]


def source_of(found: Name) -> str:
    """The right side of the assignment that makes an alias."""
    value = _assignment(*_home(found.module, found.name))[0].value
    return "" if value is None else ast.unparse(value)


def _home(module: str, name: str) -> tuple[str, str]:
    """The module whose source defines a name, by following its imports."""
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _home(node.module, alias.name)
    return module, name


def _assignment(module: str, name: str) -> tuple[ast.Assign | ast.AnnAssign, str]:
    """The statement that makes an alias, and the docstring below it."""
    body = _tree(module).body
    for node, after in zip(body, [*body[1:], ast.Pass()], strict=True):
        if name in _targets(node):
            assert isinstance(node, ast.Assign | ast.AnnAssign)
            return node, _text_of(after)
    message = f"{module} does not assign {name}"
    raise AssertionError(message)


def _targets(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.Assign):
        return [ast.unparse(target) for target in node.targets]
    return [ast.unparse(node.target)] if isinstance(node, ast.AnnAssign) else []


def _text_of(node: ast.stmt) -> str:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return inspect.cleandoc(str(node.value.value))
    return ""


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(inspect.getsource(import_module(module)))
