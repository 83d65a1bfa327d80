"""Logging: ``FINETUNING_LOG``, and httpx's log lines about our requests.

The logger `finetuning_async` logs each track at INFO as it is accepted and as it ends,
each request at DEBUG, and what may need attention at WARNING. The application
configures it like any logger, or ``FINETUNING_LOG=info`` or ``debug`` does.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Final

from finetuning_async._secrets import mask_query, shown

if TYPE_CHECKING:
    from collections.abc import Callable

VARIABLE: Final = "FINETUNING_LOG"
LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}

logger = logging.getLogger("finetuning_async")

_is_own_request: ContextVar[bool] = ContextVar(
    "finetuning_async.is_own_request", default=False
)

_HTTP_LOGGERS: Final = (
    "httpx",
    "httpcore.connection",
    "httpcore.http11",
    "httpcore.proxy",
    "httpcore.socks",
)
"""The loggers of the HTTP library that log during a request."""


@cache
def set_up_logging() -> None:
    """Apply ``FINETUNING_LOG``, once per process; the root logger is not touched."""
    _guard_handlers(logger, lambda: True)
    for name in _HTTP_LOGGERS:
        _guard_handlers(logging.getLogger(name), _is_own_request.get)
    logging.getLogger("httpx").addFilter(filter_httpx_record)
    text = os.environ.get(VARIABLE, "").strip().lower()
    if not text:
        return
    if text not in LEVELS:
        levels = ", ".join(LEVELS)
        logger.warning("%s must be one of %s, got %r", VARIABLE, levels, text)
        return
    logger.setLevel(LEVELS[text])
    logger.addHandler(_StderrFallback())


def _guard_handlers(guarded: logging.Logger, applies: Callable[[], bool]) -> None:
    """Keep exceptions of the application's handlers and filters out of our calls.

    The standard handlers catch their own exceptions; others may raise anything, and
    that must not end a call that holds the only copy of a paid track's id.
    """
    handle = guarded.handle

    def handle_guarded(record: logging.LogRecord) -> None:
        try:
            handle(record)
        except Exception as error:
            if not applies():
                raise
            _report_failure(record, error)

    guarded.handle = handle_guarded  # type: ignore[method-assign]  # of one instance


_reported: set[str] = set()


def _report_failure(record: logging.LogRecord, error: Exception) -> None:
    """Print a handler's exception on stderr as `logging` does; each kind once."""
    kind = f"{record.name} {type(error).__qualname__}"
    if kind not in _reported:
        _reported.add(kind)
        with suppress(Exception):
            logging.Handler().handleError(record)


class log_exceptions:  # noqa: N801 - used like a function; faster than a generator
    """Log an exception of this block and go on after it.

    Args:
        doing: What the block does, for the log: "comparing two tracks".
    """

    __slots__ = ("_doing",)

    def __init__(self, doing: str) -> None:
        self._doing = doing

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        if not isinstance(error, Exception):
            return False
        logger.error("%s failed", self._doing, exc_info=error)
        return True


class _OneLineFormatter(logging.Formatter):
    """Formats a message as one line; a traceback follows below it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - inherited
        """Escape line breaks and control characters, as the service may send them."""
        return shown(super().formatMessage(record))


class _StderrFallback(logging.Handler):
    """Writes to stderr the records that no other handler takes."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(
            _OneLineFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
        )

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, unless another handler does."""
        others = {*logger.handlers, *logging.getLogger().handlers} - {self}
        if any(other.level <= record.levelno for other in others):
            return
        try:
            sys.stderr.write(self.format(record) + "\n")
        except (OSError, ValueError):  # stderr is closed, or its reader is
            self.handleError(record)


class own_requests:  # noqa: N801 - used like a function; faster than a generator
    """Mark the requests that httpx makes in this block as ours. Blocks do not nest."""

    __slots__ = ()

    def __enter__(self) -> None:
        _is_own_request.set(True)

    def __exit__(self, *_: object) -> None:
        # No `reset` of a token: it fails in another context, as when the garbage
        # collector closes the generator that holds this block.
        _is_own_request.set(False)


def filter_httpx_record(record: logging.LogRecord) -> bool:
    """Filter httpx's log lines about our requests; other requests are not affected.

    They are dropped if our own logger logs each request. Otherwise the queries of URLs
    are masked, as the query of a media URL may grant access to it.
    """
    if not _is_own_request.get():
        return True
    if logger.isEnabledFor(logging.DEBUG):
        return False
    if isinstance(record.args, tuple):
        record.args = tuple(map(_without_query, record.args))
    return True


def _without_query(value: object) -> object:
    text = str(value)
    return mask_query(text) if "://" in text else value
