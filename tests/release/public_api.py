"""The public names as text: signatures, attributes, bases. It is kept beside this file.

    python -m tests.release.public_api

writes it anew. A change of it is a change for callers: it belongs into CHANGELOG.md,
and README.md says which changes need a new major version.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from tests.release._names import ROOT, Name, every_name, modules, names, source_of

if TYPE_CHECKING:
    from collections.abc import Iterator

SNAPSHOT: Final = Path(__file__).with_name("public_api.txt")
WIDTH: Final = 88
NO_DEFAULT: Final = inspect.Parameter.empty


def described() -> str:
    """All of it."""
    return "\n".join(line for module in modules() for line in _module(module)) + "\n"


def _module(module: str) -> Iterator[str]:
    yield module
    for name in names(module):
        yield from (f"    {line}" for line in _name(name))
    yield ""


def _name(found: Name) -> Iterator[str]:
    first = next(other for other in every_name() if other.value is found.value)
    if first.module != found.module:
        yield f"{found.name}, as in {first.module}"
    elif inspect.isclass(found.value):
        yield f"class {found.name}({', '.join(_bases(found.value))})"
        yield from (f"    {line}" for line in _members(found.value))
    elif inspect.isfunction(found.value):
        yield from _call(found.name, found.value)
    elif found.name == "__version__":
        yield "__version__: str"
    else:
        yield f"{found.name} = {source_of(found)}"


def _bases(cls: type) -> Iterator[str]:
    """What a class can be caught or used as, private bases left out."""
    public = {id(name.value) for name in every_name()}
    for base in cls.__bases__:
        if base.__module__.startswith(ROOT) and id(base) not in public:
            yield from _bases(base)
        elif base is not object:
            yield base.__name__


def _members(cls: type) -> Iterator[str]:
    own = _own(cls)
    if "__init__" in own and not issubclass(cls, Exception):
        yield from _call(cls.__name__, cls)
    described = _attributes(cls)
    for name, value in own.items():
        if not name.startswith("_") and not inspect.ismemberdescriptor(value):
            described[name] = list(_member(name, value))
    for _, lines in sorted(described.items()):
        yield from lines


def _own(cls: type) -> dict[str, Any]:
    """What a class defines beyond its public bases, by name."""
    found: dict[str, Any] = {}
    for base in reversed(_own_bases(cls)):
        found |= vars(base)
    return found


def _own_bases(cls: type) -> list[type]:
    """The class itself, and those of its bases that are ours and private."""
    public = {id(name.value) for name in every_name()} - {id(cls)}
    inherited: set[type] = set()
    for base in cls.__mro__[1:]:
        if id(base) in public or not base.__module__.startswith(ROOT):
            inherited.update(base.__mro__)
    return [base for base in cls.__mro__ if base not in inherited]


def _member(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, property):
        settable = "" if value.fset is None else "  # can be set"
        returned = inspect.signature(value.fget or print).return_annotation
        yield f".{name}: {_text(returned)}{settable}"
    elif isinstance(value, (classmethod, staticmethod)):
        yield f"@{type(value).__name__}"
        yield from _call(f".{name}", value.__func__)
    elif inspect.isfunction(value):
        yield from _call(f".{name}", value)
    else:
        yield f".{name} = {value!r}"


def _attributes(cls: type) -> dict[str, list[str]]:
    """The public attributes: attrs fields, and what methods set on `self`."""
    found: dict[str, str] = {}
    bases = _own_bases(cls)
    for base in reversed(bases):
        found |= _assigned(base)
        for name, kind in vars(base).get("__annotations__", {}).items():
            if attrs.has(cls) and not name.startswith("_"):
                found[name] = _text(kind)
    return {
        name: [f".{name}: {kind}" if kind else f".{name}"]
        for name, kind in found.items()
    }


def _assigned(cls: type) -> dict[str, str]:
    """`self.NAME: TYPE = ...` and `self.NAME = ...` in a class."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign) and _is_public(node.target):
            found[ast.unparse(node.target)[5:]] = ast.unparse(node.annotation)
        elif isinstance(node, ast.Assign):
            for target in filter(_is_public, node.targets):
                found.setdefault(ast.unparse(target)[5:], "")
    return found


def _is_public(target: ast.expr) -> bool:
    return (
        isinstance(target, ast.Attribute)
        and isinstance(target.value, ast.Name)
        and target.value.id == "self"
        and not target.attr.startswith("_")
    )


def _call(name: str, function: Any) -> Iterator[str]:
    """A signature, on one line if it fits."""
    signature = inspect.signature(function)
    keyword = "async def " if inspect.iscoroutinefunction(function) else ""
    given = list(_parameters(signature))
    returned = _text(signature.return_annotation)
    end = "" if inspect.isclass(function) else f" -> {returned}"
    line = f"{keyword}{name}({', '.join(given)}){end}"
    if len(line) <= WIDTH:
        yield line
        return
    yield f"{keyword}{name}("
    yield from (f"    {parameter}," for parameter in given)
    yield f"){end}"


def _parameters(signature: inspect.Signature) -> Iterator[str]:
    starred = False
    for parameter in signature.parameters.values():
        if parameter.name in ("self", "cls"):
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            starred = True
            yield "*"
        yield _parameter(parameter)


def _parameter(parameter: inspect.Parameter) -> str:
    stars: dict[object, str] = {
        parameter.VAR_POSITIONAL: "*",
        parameter.VAR_KEYWORD: "**",
    }
    text = f"{stars.get(parameter.kind, '')}{parameter.name}"
    if parameter.annotation is not NO_DEFAULT:
        text += f": {_text(parameter.annotation)}"
    if parameter.default is not NO_DEFAULT:
        text += f" = {_default(parameter.default)}"
    return text


def _default(value: object) -> str:
    if inspect.isclass(value):
        return value.__name__
    return "..." if value is attrs.NOTHING else repr(value)


def _text(annotation: object) -> str:
    """An annotation as its source has it."""
    if annotation is NO_DEFAULT:
        return "Any"
    return (
        annotation
        if isinstance(annotation, str)
        else inspect.formatannotation(annotation)
    )


if __name__ == "__main__":
    SNAPSHOT.write_text(described(), encoding="utf-8")
