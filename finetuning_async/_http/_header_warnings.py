"""Warnings about header values that the client does not believe, each logged once.

A pause of centuries or a limit of 0 comes from a broken clock or a wrong setting.
`finetuning_async._api` bounds such values where it reads them. Here the log says so,
once per kind and account, however many responses repeat the value.
"""

from __future__ import annotations

import logging
from math import inf
from typing import TYPE_CHECKING

from finetuning_async._api import LONGEST_PAUSE, has_no_limit, retry_after

if TYPE_CHECKING:
    from finetuning_async._api import Response

logger = logging.getLogger("finetuning_async")


class HeaderWarnings:
    """Remembers which warnings were logged for one account."""

    __slots__ = ("_logged",)

    def __init__(self) -> None:
        self._logged: set[str] = set()

    def check(self, response: Response) -> None:
        """Log a warning for each value of a response that is not believed."""
        if has_no_limit(response):
            limit = response.headers["x-ratelimit-limit"][:40]
            self._warn_once(
                "limit",
                f"the service sent X-RateLimit-Limit: {limit!r}, which would allow no"
                " requests at all; it is ignored, and the client's own limit applies",
            )
        if response.status in (429, 503):
            self._check_pause(retry_after(response) or 0.0)

    def _check_pause(self, pause: float) -> None:
        if pause <= LONGEST_PAUSE:
            return
        asked = "without end" if pause == inf else f"of {pause:.0f} s"
        self._warn_once(
            "pause",
            f"the service asked for a wait {asked}; the client waits"
            f" {LONGEST_PAUSE:.0f} s at most. If this continues, contact the service's"
            " support",
        )

    def _warn_once(self, kind: str, text: str) -> None:
        if kind not in self._logged:
            self._logged.add(kind)
            logger.warning("%s", text)
