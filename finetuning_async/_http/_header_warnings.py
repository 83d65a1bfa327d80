"""What the service says of itself and is not believed: said once, in the log.

A pause of centuries, or a limit of nothing, is a broken clock or a misread setting. It
is bounded where it is read (see `_wire`); that it was is told here, once for each kind
and account, however many answers repeat it.
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
    """What was said already, of one account."""

    __slots__ = ("_told",)

    def __init__(self) -> None:
        self._told: set[str] = set()

    def about(self, answer: Response) -> None:
        """Warn of what an answer says and is not believed, unless that was done."""
        if has_no_limit(answer):
            said = answer.headers["x-ratelimit-limit"][:40]
            self._tell(
                "limit",
                f"the service says X-RateLimit-Limit: {said!r}, at which nothing could"
                " be asked; it is not believed, and the client's own limit holds",
            )
        if answer.status in (429, 503):
            self._about_the_pause(retry_after(answer) or 0.0)

    def _about_the_pause(self, asked: float) -> None:
        if asked <= LONGEST_PAUSE:
            return
        said = "for ever" if asked == inf else f"{asked:.0f} s"
        self._tell(
            "pause",
            f"the service asks to wait {said}; no more than {LONGEST_PAUSE:.0f} s are"
            " believed. If it goes on, ask its support",
        )

    def _tell(self, kind: str, text: str) -> None:
        if kind not in self._told:
            self._told.add(kind)
            logger.warning("%s", text)
