"""What the library logs, told on stderr: warnings as notes, all of it if verbose."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from finetuning_async._secrets import scrub
from finetuning_async.cli._output import say, shown

if TYPE_CHECKING:
    from collections.abc import Generator

    from finetuning_async.cli._options import Common


class _Notes(logging.Handler):
    """Says each record on stderr, but changes by the service: progress tells them."""

    def emit(self, record: logging.LogRecord) -> None:
        """Say it."""
        text = record.getMessage()
        if not text.startswith("the service changed"):
            word = "note: " if record.levelno >= logging.WARNING else ""
            say(scrub(word + shown(text)))


@contextmanager
def library_notes(common: Common) -> Generator[None]:
    """Tell what the library logs, for the length of the block."""
    logger = logging.getLogger("finetuning_async")
    handler, before = _Notes(), logger.level
    handler.setLevel(logging.ERROR if common.quiet else logging.NOTSET)
    logger.addHandler(handler)
    if common.verbose:
        logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)
