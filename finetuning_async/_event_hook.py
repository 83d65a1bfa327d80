"""Calls the caller's `on_event` callback so that its failures cannot end a call.

A callback that is a `TakesOperations`, such as that of `finetuning_async.otel`, also
provides a context manager for each generate, create, wait and download, which is
entered in the task that makes the call.
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
        name: ``generate``, ``create``, ``wait`` or ``download``.
        kind: The kind of track, if it creates one.
        prompt: The prompt, if it creates a track; kept out of `repr`.
        duration: The requested length in seconds.
        track_id: The id of the track, if it is about an existing one.
    """

    name: OperationName
    kind: str | None = None
    prompt: str | None = attrs.field(default=None, repr=False)
    duration: float | None = None
    track_id: str | None = None


class TakesOperations(ABC):
    """A callback that also traces where calls begin and end.

    It must subclass this: a check for a method `operation` would take any mock for one.
    """

    @abstractmethod
    def operation(
        self, operation: Operation
    ) -> AbstractContextManager[Callable[[Any], None]]:
        """Return a context manager for an operation; it yields a result callback."""


class Hook:
    """Calls the caller's `on_event` callback; an exception is logged, the first only.

    Args:
        callback: The callback.
    """

    __slots__ = ("__weakref__", "_callback", "_has_failed", "_operations")

    def __init__(self, callback: Callable[[Event], object]) -> None:
        self._callback = callback
        self._operations = (
            callback.operation if isinstance(callback, TakesOperations) else None
        )
        self._has_failed = False

    def __repr__(self) -> str:
        return f"<Hook {getattr(self._callback, '__qualname__', self._callback)}>"

    def __call__(self, event: Event) -> None:
        """Call the callback with an event."""
        try:
            result = self._callback(event)
        except Exception as error:
            self.log_failure(error)
        else:
            if inspect.iscoroutine(result):
                result.close()
                self.log_failure(
                    TypeError("on_event returned a coroutine, which is not awaited")
                )

    def log_failure(self, error: Exception) -> None:
        """Log an exception of the callback, the first time only."""
        if not self._has_failed:
            self._has_failed = True
            logger.error(
                "on_event raised an exception; further ones are not logged",
                exc_info=error,
            )

    @property
    def traces_operations(self) -> bool:
        """Whether the callback traces where calls begin and end."""
        return self._operations is not None

    def operation(
        self, name: OperationName, **facts: Any
    ) -> AbstractContextManager[Callable[[Any], None]]:
        """Return the context manager around a call; it yields a result callback."""
        if self._operations is None:
            return NO_OPERATION
        return _GuardedOperation(self, self._operations, Operation(name=name, **facts))


class _GuardedOperation:
    """The callback's context manager; its own exceptions are logged, not raised."""

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
        self._on_result: Callable[[Any], None] = _ignore

    def __enter__(self) -> Callable[[Any], None]:
        try:
            inner = self._enter(self._operation)
            self._on_result = inner.__enter__()
            self._inner = inner
        except Exception as error:
            self._hook.log_failure(error)
        return self._report

    def _report(self, value: Any) -> None:
        try:
            self._on_result(value)
        except Exception as error:
            self._hook.log_failure(error)

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
            if raised is not exc:  # else it is the call's own, passed through
                self._hook.log_failure(raised)


def _ignore(_: Any) -> None:
    """Ignore the result of a call that is not traced."""


NO_OPERATION: Final = nullcontext[Callable[[Any], None]](_ignore)
"""The context manager around a call that is not traced."""


def as_hook(value: object) -> Hook | None:
    """Check an `on_event` option.

    Raises:
        InvalidRequestError: It is not callable, or is async. Events come while a
            request is in flight, where nothing may be awaited.
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
