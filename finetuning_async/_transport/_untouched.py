"""Whether httpx is as its authors wrote it, all the way down to the network.

Mocks of tests, recorders and tracers put something of theirs in the place of a method
or a class of httpx or httpcore. Requests over connections of our own would pass them
by: what is mocked would be sent and paid. So those connections are used only while
everything on the way of a request is the library's own. That is not asked of a list of
known mocks: whatever is there that the library did not define counts as foreign, also
if it came before this module.
"""

from __future__ import annotations

import contextlib
import sys
from itertools import chain
from operator import is_, itemgetter
from types import FunctionType, GetSetDescriptorType, MemberDescriptorType, ModuleType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_ON_THE_WAY: Final = {
    "AsyncClient": "httpx._client",
    "AsyncHTTPTransport": "httpx._transports.default",
    "AsyncConnectionPool": "httpcore._async.connection_pool",
    "AsyncHTTPConnection": "httpcore._async.connection",
    "AsyncHTTP11Connection": "httpcore._async.http11",
    "AutoBackend": "httpcore._backends.auto",
}
"""The classes that a request goes through, and where each is defined."""

_SHARED: Final = "AsyncHTTP11Connection"
"""What our own connections go through as well: only its name may be another's."""

_PACKAGES: Final = frozenset({"httpx", "httpcore"})


class State:
    """What httpx is at a moment.

    Attributes:
        is_untouched: Whether all of it is the library's own.
    """

    def __init__(self) -> None:
        found = {name: _in_module(home, name) for name, home in _ON_THE_WAY.items()}
        classes = [c for n, c in found.items() if isinstance(c, type) and n != _SHARED]
        lines = {base for cls in classes for base in cls.__mro__ if _is_theirs(base)}
        naming = list(_modules_that_name(_ON_THE_WAY))
        self._members = [vars(cls).values() for cls in lines]
        self._names = [
            (itemgetter(*names, names[0]), vars(module)) for module, names in naming
        ]
        self._seen = self._now()
        self.is_untouched: bool = (
            len(classes) == len(_ON_THE_WAY) - 1
            and all(map(_is_genuine, lines))
            and all(vars(at)[n] is found[n] for at, names in naming for n in names)
        )

    def still_holds(self) -> bool:
        """Whether nothing has been put in or taken out since."""
        try:
            now = self._now()
        except KeyError:
            return False
        # By identity: a wrapper may say that it equals what it wraps.
        return len(now) == len(self._seen) and all(map(is_, now, self._seen))

    def _now(self) -> list[object]:
        now = [*chain.from_iterable(self._members)]
        for pick, names in self._names:
            now += pick(names)
        return now


_last: State | None = None


def look() -> State:
    """What httpx is now; the same object for as long as nothing changes."""
    global _last
    if _last is None or not _last.still_holds():
        _last = State()
    return _last


def _in_module(module: str, name: str) -> object:
    return getattr(sys.modules.get(module), name, None)


def _modules_that_name(
    names: Mapping[str, str],
) -> Iterator[tuple[ModuleType, list[str]]]:
    """The modules of both libraries, with those of the names that they know."""
    for title, module in sorted(sys.modules.items()):
        if title.partition(".")[0] in _PACKAGES and isinstance(module, ModuleType):
            known = [name for name in names if name in vars(module)]
            if known:
                yield module, known


def _is_theirs(cls: type) -> bool:
    return cls.__module__.partition(".")[0] not in {"builtins", "abc", "typing"}


def _is_genuine(cls: type) -> bool:
    """Whether all that a class does was written in its library."""
    return all(_is_in_place(cls, name, value) for name, value in vars(cls).items())


def _is_in_place(cls: type, name: str, value: Any) -> bool:
    if isinstance(value, staticmethod | classmethod):
        value = value.__func__
    if type(value) is property:
        parts = (value.fget, value.fset, value.fdel)
        return all(part is None or _is_written(cls, name, part) for part in parts)
    if type(value) in (GetSetDescriptorType, MemberDescriptorType):
        return True
    if callable(value) or hasattr(type(value), "__get__"):
        return _is_written(cls, name, value)
    return True


def _is_written(cls: type, name: str, function: object) -> bool:
    """Whether a function stands in the source of its library, at this place."""
    if type(function) is not FunctionType:
        return False
    inner = function.__dict__.get("__wrapped__")
    if inner is not None and function.__globals__ is vars(contextlib):
        function = inner
    if type(function) is not FunctionType or "__wrapped__" in function.__dict__:
        return False
    home = sys.modules.get(function.__globals__.get("__name__", ""))
    return (
        home is not None
        and function.__globals__ is vars(home)
        and home.__name__.partition(".")[0] in _PACKAGES
        and function.__code__.co_qualname == f"{cls.__qualname__}.{name}"
    )
