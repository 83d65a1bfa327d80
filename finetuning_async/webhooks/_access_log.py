"""Keeps tokens out of uvicorn's access log, which prints whole request lines."""

from __future__ import annotations

import logging
from typing import Final
from urllib.parse import unquote

from finetuning_async._secrets import MASK
from finetuning_async.webhooks._tokens import PARAMETER

ACCESS_LOG: Final = "uvicorn.access"
_PATH: Final = 2
"""Of client, method, path, HTTP version and status: uvicorn's formatter wants all."""


class TokenFilter(logging.Filter):
    """Writes ``token=****`` for every token in the paths of uvicorn's access log.

    Example:
        import logging
        from finetuning_async.webhooks import TokenFilter

        logging.getLogger("hypercorn.access").addFilter(TokenFilter())
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record's path; let everything through."""
        args = record.args
        if isinstance(args, tuple) and len(args) > _PATH:
            path = args[_PATH]
            if isinstance(path, str) and "?" in path:
                record.args = (*args[:_PATH], without_token(path), *args[_PATH + 1 :])
        return True


def without_token(path: str) -> str:
    """A path whose query shows no token, in whatever spelling of the name."""
    path, _, query = path.partition("?")
    return path + "?" + "&".join(_masked(piece) for piece in query.split("&"))


def _masked(piece: str) -> str:
    name = piece.partition("=")[0]
    hides = unquote(name).strip().lower() == PARAMETER
    return f"{name}={MASK}" if hides else piece


def hide_tokens(logger: str = ACCESS_LOG) -> None:
    """Keep tokens out of an access log from now on; a second call does nothing.

    A proxy in front has a log of its own: switch its query strings off there.

    Args:
        logger: The name of the logger that writes it.

    Example:
        from finetuning_async.webhooks import hide_tokens

        hide_tokens()  # in the process that runs uvicorn
    """
    found = logging.getLogger(logger)
    if not any(isinstance(known, TokenFilter) for known in found.filters):
        found.addFilter(TokenFilter())
