"""`FINETUNING_LOG`, and how httpx's lines about our requests get along with ours.

The logger `finetuning_async` tells at INFO of each track as it is accepted and as it
ends, at DEBUG of each request, and warns of what a person may want to look at. It is
set up by the application, as any logger, or by ``FINETUNING_LOG=info`` or ``debug``.
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

_is_ours: ContextVar[bool] = ContextVar("finetuning_async.is_ours", default=False)


_THEIRS: Final = (
    "httpx",
    "httpcore.connection",
    "httpcore.http11",
    "httpcore.proxy",
    "httpcore.socks",
)
"""Loggers that tell of requests while they are made."""


@cache
def set_up_logging() -> None:
    """Do what ``FINETUNING_LOG`` says, once in a process; the root logger stays."""
    _contain(logger, lambda: True)
    for name in _THEIRS:
        _contain(logging.getLogger(name), _is_ours.get)
    logging.getLogger("httpx").addFilter(tame)
    text = os.environ.get(VARIABLE, "").strip().lower()
    if not text:
        return
    if text not in LEVELS:
        logger.warning("%s=%r is none of %s", VARIABLE, text, ", ".join(LEVELS))
        return
    logger.setLevel(LEVELS[text])
    logger.addHandler(_OnStderr())


def _contain(talker: logging.Logger, applies: Callable[[], bool]) -> None:
    """Let no handler or filter of the application's end a call.

    Those of the standard library contain their own failures; others raise what they
    like, where the id of a track that is paid may be in the caller's hands only.
    """
    handle = talker.handle

    def handle_contained(record: logging.LogRecord) -> None:
        try:
            handle(record)
        except Exception as error:
            if not applies():
                raise
            _complain(record, error)

    talker.handle = handle_contained  # type: ignore[method-assign]  # for any class


_complained: set[str] = set()


def _complain(record: logging.LogRecord, error: Exception) -> None:
    """Show what a handler raised as the standard ones do, on stderr; each kind once."""
    kind = f"{record.name} {type(error).__qualname__}"
    if kind not in _complained:
        _complained.add(kind)
        with suppress(Exception):
            logging.Handler().handleError(record)


class contained:  # noqa: N801 - used as a function; a generator would cost more
    """Let nothing that fails in this block end a call; it is logged.

    Args:
        what: Is done there.
    """

    __slots__ = ("_what",)

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        if not isinstance(error, Exception):
            return False
        logger.error("%s has failed", self._what, exc_info=error)
        return True


class _Line(logging.Formatter):
    """One line, whatever the service said; a traceback stands below it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - theirs
        """Escape what could be taken for another line, or moves the cursor."""
        return shown(super().formatMessage(record))


class _OnStderr(logging.Handler):
    """Writes on stderr what no other handler takes: nothing is said twice."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(_Line("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Write it, if nobody else does."""
        others = {*logger.handlers, *logging.getLogger().handlers} - {self}
        if any(other.level <= record.levelno for other in others):
            return
        try:
            sys.stderr.write(self.format(record) + "\n")
        except (OSError, ValueError):  # closed, or nobody reads it
            self.handleError(record)


class told_by_us:  # noqa: N801 - used as a function; a generator would cost more
    """Requests that httpx makes in this block are ours. Blocks do not nest."""

    __slots__ = ()

    def __enter__(self) -> None:
        _is_ours.set(True)

    def __exit__(self, *_: object) -> None:
        # Not by a token: the garbage collector comes from another context.
        _is_ours.set(False)


def tame(record: logging.LogRecord) -> bool:
    """Filter httpx's lines about requests of ours; those of others are left alone.

    They are dropped where our own logger tells of each request. Else the queries of
    URLs are masked: that of a media URL may be what opens it.
    """
    if not _is_ours.get():
        return True
    if logger.isEnabledFor(logging.DEBUG):
        return False
    if isinstance(record.args, tuple):
        record.args = tuple(map(_masked, record.args))
    return True


def _masked(value: object) -> object:
    text = str(value)
    return mask_query(text) if "://" in text else value
