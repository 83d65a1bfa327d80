"""The caller's `on_event` callback, held so that nothing it does can end a call.

A callback may also be one that `TakesOperations`, as that of `finetuning_async.otel`:
it gives a context manager around each generate, create, wait and download, in the task
that makes it.
"""

from __future__ import annotations

import inspect
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final

import attrs

from finetuning_async._errors import InvalidRequestError
from finetuning_async._events import OperationName

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from types import TracebackType

    from finetuning_async._events import Event

logger = logging.getLogger("finetuning_async")


@attrs.frozen(kw_only=True)
class Operation:
    """One call, from its beginning to its end.

    Attributes:
        name: What it does.
        kind: What is made, if it makes something.
        prompt: What was asked for; kept out of `repr`.
        duration: The length asked for, in seconds.
        track_id: The track, if it is about one that is there.
    """

    name: OperationName
    kind: str | None = None
    prompt: str | None = attrs.field(default=None, repr=False)
    duration: float | None = None
    track_id: str | None = None


class TakesOperations(ABC):
    """A callback that wants to know where calls begin and end.

    It says so by its class: a mock has a method of any name.
    """

    @abstractmethod
    def operation(
        self, operation: Operation
    ) -> AbstractContextManager[Callable[[Any], None]]:
        """Enter an operation; what it gives is told the result."""


class Hook:
    """Tells a callback, and contains what it raises: that is logged once.

    Args:
        callback: The caller's.
    """

    __slots__ = ("_callback", "_has_failed", "_operations")

    def __init__(self, callback: Callable[[Event], object]) -> None:
        self._callback = callback
        self._operations = (
            callback.operation if isinstance(callback, TakesOperations) else None
        )
        self._has_failed = False

    def __repr__(self) -> str:
        return f"<Hook {getattr(self._callback, '__qualname__', self._callback)}>"

    def __call__(self, event: Event) -> None:
        """Tell it."""
        try:
            told = self._callback(event)
        except Exception as error:
            self.complain(error)
        else:
            if inspect.iscoroutine(told):
                told.close()
                self.complain(TypeError("it gave a coroutine, which nobody awaits"))

    def complain(self, error: Exception) -> None:
        """Log what it raised, the first time."""
        if not self._has_failed:
            self._has_failed = True
            logger.error(
                "on_event has failed; further failures are not told", exc_info=error
            )

    @property
    def wants_operations(self) -> bool:
        """Whether it wants to know where calls begin and end."""
        return self._operations is not None

    def operation(
        self, name: OperationName, **facts: Any
    ) -> AbstractContextManager[Callable[[Any], None]]:
        """Tell that a call begins; what is given is told the result of it."""
        if self._operations is None:
            return NOTHING
        return _Contained(self, self._operations, Operation(name=name, **facts))


class _Contained:
    """A context manager of the caller's, whose own failures end nothing."""

    def __init__(
        self,
        hook: Hook,
        enter: Callable[[Operation], AbstractContextManager[Callable[[Any], None]]],
        operation: Operation,
    ) -> None:
        self._hook = hook
        self._enter = enter
        self._operation = operation
        self._inner: AbstractContextManager[Callable[[Any], None]] | None = None
        self._tell: Callable[[Any], None] = _forget

    def __enter__(self) -> Callable[[Any], None]:
        try:
            inner = self._enter(self._operation)
            self._tell = inner.__enter__()
            self._inner = inner
        except Exception as error:
            self._hook.complain(error)
        return self._result

    def _result(self, value: Any) -> None:
        try:
            self._tell(value)
        except Exception as error:
            self._hook.complain(error)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._inner is None:
            return
        try:
            self._inner.__exit__(exc_type, exc, traceback)
        except Exception as raised:
            if raised is not exc:
                self._hook.complain(raised)


def _forget(_: Any) -> None:
    """Nobody wants to know."""


NOTHING: Final = nullcontext[Callable[[Any], None]](_forget)
"""An operation that nobody wants to know of."""


def as_hook(value: object) -> Hook | None:
    """Check an `on_event` option.

    Raises:
        InvalidRequestError: It cannot be called, or is async: events are told while a
            request is on its way, and nothing is awaited for them.
    """
    if value is None or isinstance(value, Hook):
        return value
    called = getattr(value, "__call__", None)  # noqa: B004 - a callable object's own
    if callable(value) and not any(map(_is_async, (value, called))):
        return Hook(value)
    raise InvalidRequestError(
        "on_event",
        value,
        "a plain function of one event; an async one would not be awaited: put the"
        " events into a queue, and read that from a task",
    )


def _is_async(value: object) -> bool:
    return inspect.iscoroutinefunction(value) or inspect.isasyncgenfunction(value)
