"""`FINETUNING_LOG`, and how httpx's lines about our requests get along with ours.

The logger `finetuning_async` tells at INFO of each track as it is accepted and as it
ends, at DEBUG of each request, and warns of what a person may want to look at. It is
set up by the application, as any logger, or by ``FINETUNING_LOG=info`` or ``debug``.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Final

from finetuning_async._secrets import mask_query
from finetuning_async._shown import shown

if TYPE_CHECKING:
    from collections.abc import Generator

VARIABLE: Final = "FINETUNING_LOG"
LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}

logger = logging.getLogger("finetuning_async")

_is_ours: ContextVar[bool] = ContextVar("finetuning_async.is_ours", default=False)


@cache
def set_up_logging() -> None:
    """Do what ``FINETUNING_LOG`` says, once in a process; the root logger stays."""
    logging.getLogger("httpx").addFilter(tame)
    text = os.environ.get(VARIABLE, "").strip().lower()
    if not text:
        return
    if text not in LEVELS:
        logger.warning("%s=%r is none of %s", VARIABLE, text, ", ".join(LEVELS))
        return
    logger.setLevel(LEVELS[text])
    logger.addHandler(_OnStderr())


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


@contextmanager
def told_by_us() -> Generator[None]:
    """Requests that httpx makes in this block are ours."""
    token = _is_ours.set(True)
    try:
        yield
    finally:
        _is_ours.reset(token)


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
