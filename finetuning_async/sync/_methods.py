"""Makes blocking methods of async ones, with their signatures and their docstrings.

Type checkers take a signature from the async method as it stands, overloads included,
so that there is one place for it.
"""

from __future__ import annotations

import inspect
import re
from functools import wraps
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Final,
    ParamSpec,
    TypeVar,
)

from finetuning_async._resources import NamesOurs
from finetuning_async.sync._blocks import BlockItems, Outcomes
from finetuning_async.sync._call import Block
from finetuning_async.sync._callbacks import relay
from finetuning_async.sync._iterators import Iteration, Listing

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping

    from finetuning_async._api import RequestT, TrackT
    from finetuning_async._resources import (
        Listing as AsyncListing,
        Outcomes as AsyncOutcomes,
    )
    from finetuning_async.sync._portal import Portal

P = ParamSpec("P")
T = TypeVar("T")
B = TypeVar("B", bound=BlockItems[Any])

WORDS: Final = {
    r"\basync with AsyncClient\(": "with Client(",
    r"\basync (with|for)\b": r"\1",
    r"\bawait ": "",
    r"\bAsyncClient\b": "Client",
}
"""What is said otherwise of a blocking client."""

TYPES: Final = {
    r"\bAsyncClient\b": "finetuning_async.sync.Client",
    r"\bAsyncGenerator\b": "finetuning_async.sync.Iteration",
    r"\b(AudioStream|Listing|Outcomes)\b": r"finetuning_async.sync.\1",
}
"""What is returned instead. By its full name: annotations are looked up in the async
client's modules, where another one has the same name."""


class Blocking(NamesOurs):
    """A client or a part of it, and the async one that it stands for."""

    _portal: Portal
    _target: Any

    def __init_subclass__(cls) -> None:
        for name, value in vars(cls).items():
            if inspect.isfunction(value):
                # Not `__module__`: there the names in annotations are looked up.
                value.__qualname__ = f"{cls.__qualname__}.{name}"


def _replaced(words: Mapping[str, str], text: str) -> str:
    for pattern, replacement in words.items():
        text = re.sub(pattern, replacement, text)
    return text


def blocking(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Any, P], T]:
    """A method that waits for the result of an async one."""

    def call(self: Blocking, /, *args: Any, **kwargs: Any) -> Any:
        try:
            begun = self._portal.begin(method, self._target, args, kwargs)
        finally:
            del args, kwargs  # may hold secrets, and a traceback may show this frame
        return begun.run()

    return _described(call, method)


def in_loop(
    method: Callable[Concatenate[Any, P], T],
) -> Callable[Concatenate[Any, P], T]:
    """A method that calls a plain one in the event loop."""
    return _described(blocking(_soon(method)), method)


def listing(
    method: Callable[Concatenate[Any, P], AsyncListing[T]],
) -> Callable[Concatenate[Any, P], Listing[T]]:
    """A method that makes a blocking list."""

    def call(self: Blocking, /, *args: Any, **kwargs: Any) -> Any:
        return Listing(self._portal, method(self._target, *args, **kwargs))

    return _described(call, method)


def iteration(
    method: Callable[Concatenate[Any, P], AsyncGenerator[T]],
) -> Callable[Concatenate[Any, P], Iteration[T]]:
    """A method that makes a blocking iterator."""
    make = blocking(_soon(method))

    def call(self: Blocking, /, *args: Any, **kwargs: Any) -> Any:
        return Iteration(self._portal, make(self, *args, **kwargs))

    return _described(call, method)


def block(
    method: Callable[Concatenate[Any, P], Any], kind: type[B]
) -> Callable[Concatenate[Any, P], B]:
    """A method that makes a ``with`` block.

    Args:
        method: Makes an ``async with`` block.
        kind: What it iterates over.
    """
    signature = inspect.signature(method)

    def call(self: Blocking, /, *args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(self._target, *args, **kwargs)
        steps = Block(self._portal.thread())
        relay(bound.arguments, steps.thread, steps.inbox)
        made = _soon(method)(*bound.args, **bound.kwargs)
        return kind(self._portal, steps, self._portal.run(steps.thread, made))

    return _described(call, method)


def outcomes(
    method: Callable[Concatenate[Any, P], AsyncOutcomes[RequestT, TrackT]],
) -> Callable[Concatenate[Any, P], Outcomes[RequestT, TrackT]]:
    """A method that makes a ``with`` block of outcomes."""
    return block(method, Outcomes)


def like(
    method: Callable[Concatenate[Any, P], Any],
) -> Callable[[Callable[..., T]], Callable[Concatenate[Any, P], T]]:
    """Give a method the signature and the docstring of one of the async client."""
    return lambda function: _described(function, method)


def described_by(of_async: type, since: str = "") -> Callable[[type[T]], type[T]]:
    """Take the docstring of a class from that of the async one.

    Args:
        of_async: That class.
        since: Where in its docstring to begin, after one's own.
    """

    def describe(cls: type[T]) -> type[T]:
        text = inspect.getdoc(of_async) or ""
        own = f"{inspect.getdoc(cls)}\n\n" if since else ""
        cls.__doc__ = own + _replaced(WORDS, text[text.index(since) :])
        return cls

    return describe


def _soon(
    method: Callable[Concatenate[Any, P], T],
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    async def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return method(self, *args, **kwargs)

    return call


def _described(
    function: Callable[..., Any], method: Callable[..., Any]
) -> Callable[..., Any]:
    """Give a function the name, the signature and the docstring of an async method."""
    described: Any = wraps(method)(function)
    described.__doc__ = _replaced(WORDS, method.__doc__ or "")
    signature = inspect.signature(method)
    returned = _replaced(TYPES, str(signature.return_annotation))
    described.__signature__ = signature.replace(return_annotation=returned)
    described.__annotations__ = {**method.__annotations__, "return": returned}
    del described.__wrapped__  # it is not what runs
    return function
