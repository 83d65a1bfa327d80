"""Shows the library's log on stderr: warnings as notes, everything with --verbose."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from finetuning_async._secrets import scrub
from finetuning_async.cli._output import say, shown

if TYPE_CHECKING:
    from collections.abc import Generator

    from finetuning_async.cli._options import CommonOptions


class _StderrHandler(logging.Handler):
    """Prints each record, except changes by the service: progress reports those."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print it."""
        text = record.getMessage()
        if not text.startswith("the service changed"):
            prefix = "note: " if record.levelno >= logging.WARNING else ""
            say(scrub(prefix + shown(text)))


@contextmanager
def log_to_stderr(common: CommonOptions) -> Generator[None]:
    """Show what the library logs while the block runs."""
    logger = logging.getLogger("finetuning_async")
    handler, before = _StderrHandler(), logger.level
    handler.setLevel(logging.ERROR if common.quiet else logging.NOTSET)
    logger.addHandler(handler)
    if common.verbose:
        logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)
