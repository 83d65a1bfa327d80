"""Keeps tokens out of access logs, which print whole request lines.

Servers give their records the request in different forms: uvicorn a tuple, because its
formatter wants five things by place; hypercorn, gunicorn and granian a mapping. So
every text in the record is looked at, whatever its place or name.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any, Final

from finetuning_async._secrets import MASK
from finetuning_async.webhooks._tokens import PARAMETER

ACCESS_LOGS: Final = ("uvicorn", "hypercorn", "gunicorn", "granian")
"""Servers that may make their logger later than we look for it."""

_NAME: Final = "".join(rf"(?:{c}|%{ord(c):x}|%{ord(c.upper()):x})" for c in PARAMETER)
_TOKEN: Final = re.compile(rf"((?:^|[?&]){_NAME}=)[^&\s\"'#]*", re.IGNORECASE)
"""A token at the start of a query, or in a URL or a line; its name in any spelling."""


class TokenFilter(logging.Filter):
    """Writes ``token=****`` for every token in the records of an access log.

    Example:
        import logging
        from finetuning_async.webhooks import TokenFilter

        logging.getLogger("my.requests").addFilter(TokenFilter())
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Change what the record shows; let everything through."""
        record.msg = _hidden(record.msg)
        args: Any = record.args
        if isinstance(args, tuple):
            record.args = tuple(_hidden(value) for value in args)
        elif isinstance(args, Mapping):
            record.args = _Atoms(args)
        return True


class _Atoms(dict[str, Any]):
    """The named parts of a request, those included that the mapping makes when asked.

    Args:
        found: As hypercorn and gunicorn give it; it answers for unknown names, too.
    """

    def __init__(self, found: Mapping[str, Any]) -> None:
        super().__init__(found)
        self._found = found

    def __getitem__(self, name: str) -> Any:
        return _hidden(self._found[name])


def _hidden(value: Any) -> Any:
    return without_token(value) if isinstance(value, str) else value


def without_token(text: str) -> str:
    """A text in whose URLs and queries no token stands."""
    return _TOKEN.sub(rf"\g<1>{MASK}", text) if "=" in text else text


def hide_tokens(logger: str | None = None) -> None:
    """Keep tokens out of an access log from now on; a second call does nothing.

    A `WebhookReceiver` calls it when it is made. A proxy in front has a log of its own:
    switch its query strings off there.

    Args:
        logger: The name of the logger that writes it; by default those of uvicorn,
            hypercorn, gunicorn and granian, and each other that is there and whose name
            ends in ``.access``.

    Example:
        from finetuning_async.webhooks import hide_tokens

        hide_tokens("my.requests")
    """
    for name in _access_logs() if logger is None else [logger]:
        found = logging.getLogger(name)
        if not any(isinstance(known, TokenFilter) for known in found.filters):
            found.addFilter(TokenFilter())


def _access_logs() -> list[str]:
    there = [n for n in list(logging.root.manager.loggerDict) if n.endswith(".access")]
    return [*(f"{server}.access" for server in ACCESS_LOGS), *there]
