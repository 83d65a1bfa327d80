"""Keeps tokens out of access logs, which print whole request lines.

Servers put the request into their log records in different forms: uvicorn as a tuple,
because its formatter reads five positions; hypercorn, gunicorn and granian as a
mapping. So every string in the record is masked, whatever its position or name.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any, Final

from finetuning_async._secrets import MASK
from finetuning_async.webhooks._tokens import PARAMETER

ACCESS_LOGS: Final = ("uvicorn", "hypercorn", "gunicorn", "granian")
"""Servers whose logger may not exist yet when we look for it."""

_NAME: Final = "".join(rf"(?:{c}|%{ord(c):x}|%{ord(c.upper()):x})" for c in PARAMETER)
_TOKEN: Final = re.compile(rf"((?:^|[?&]){_NAME}=)[^&\s\"'#]*", re.IGNORECASE)
"""A token at the start of a query, in a URL or in a line; its name with any character
percent-encoded."""


class TokenFilter(logging.Filter):
    """Replaces every token in the records of an access log with ``token=****``.

    Example:
        import logging
        from finetuning_async.webhooks import TokenFilter

        logging.getLogger("my.requests").addFilter(TokenFilter())
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Mask the record; let it through."""
        record.msg = _masked(record.msg)
        args: Any = record.args
        if isinstance(args, tuple):
            record.args = tuple(_masked(value) for value in args)
        elif isinstance(args, Mapping):
            record.args = _MaskedAtoms(args)
        return True


class _MaskedAtoms(dict[str, Any]):
    """The named parts of a request, masked.

    Args:
        atoms: The server's mapping. That of hypercorn and gunicorn also makes values
            for names that it does not list, such as ``{x-token}i``, so it is asked for
            each name.
    """

    def __init__(self, atoms: Mapping[str, Any]) -> None:
        super().__init__(atoms)
        self._atoms = atoms

    def __getitem__(self, name: str) -> Any:
        return _masked(self._atoms[name])


def _masked(value: Any) -> Any:
    return mask_tokens(value) if isinstance(value, str) else value


def mask_tokens(text: str) -> str:
    """Replace the tokens in the URLs and queries of a text."""
    return _TOKEN.sub(rf"\g<1>{MASK}", text) if "=" in text else text


def hide_tokens(logger: str | None = None) -> None:
    """Keep tokens out of an access log from now on; a second call does nothing.

    A `WebhookReceiver` calls this when it is created. A proxy in front of the server
    has its own log: disable query strings there.

    Args:
        logger: The name of the logger that writes it; by default those of uvicorn,
            hypercorn, gunicorn and granian, and each existing one whose name ends in
            ``.access``.

    Example:
        from finetuning_async.webhooks import hide_tokens

        hide_tokens("my.requests")
    """
    for name in _access_logs() if logger is None else [logger]:
        log = logging.getLogger(name)
        if not any(isinstance(known, TokenFilter) for known in log.filters):
            log.addFilter(TokenFilter())


def _access_logs() -> list[str]:
    known = [n for n in list(logging.root.manager.loggerDict) if n.endswith(".access")]
    return [*(f"{server}.access" for server in ACCESS_LOGS), *known]
