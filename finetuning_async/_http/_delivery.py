"""What is known of a request that got no answer.

Either no byte of it left, or some may have. Whether they did is told by the ``trace``
extension of httpx and httpx2, which is called at each step.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, Final

import anyio

from finetuning_async._errors import APIConnectionError, APITimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable

    from finetuning_async._api import Call, Evidence


ITS_OWN_FIRST: Final = 0.98
"""Share of the time left after which httpcore is to give up connecting by itself."""


class NoResponse(Exception):  # noqa: N818 - evidence on its way to an error, not an error
    """A request got no answer.

    Attributes:
        evidence: Whether any of it may have left.
        timed_out: Whether time ran out, rather than the connection.
        reason: The class and text of what happened, free of secrets.
        lasts: Whether it would be the same next time.
    """

    def __init__(
        self, evidence: Evidence, *, timed_out: bool, reason: str, lasts: bool = False
    ) -> None:
        super().__init__(reason)
        self.evidence = evidence
        self.timed_out = timed_out
        self.reason = reason
        self.lasts = lasts

    def as_error(self, call: Call) -> APIConnectionError:
        """The public error for a call that may not, or need not, be repeated."""
        kind = APITimeoutError if self.timed_out else APIConnectionError
        sent = "was not sent" if self.evidence == "not_sent" else "got no answer"
        can_help = self.evidence == "not_sent" or call.repeatable
        return kind(
            f"{call.method} {call.path} {sent}: {self.reason}",
            generation_id=call.track_id,
            safe_to_retry=can_help and not self.lasts,
        )


class SendAborted(Exception):  # noqa: N818 - never leaves the transport
    """The caller left before the first byte did."""


def _nothing() -> None:
    """Nobody is to be told."""


class SendTracker:
    """Notes whether the request's first byte was handed to the network.

    Args:
        still_wanted: Asked right before the first byte leaves; if not, none does.
        on_connecting: Called when a connection begins to be made for it.
        on_first_byte: Called right before the first byte leaves.

    Attributes:
        until: When the request is given up at the latest, on the loop's clock.
        seen: Whether anything was told of it.
        left: Whether its first byte was handed over.
        opened: What was connected for it, if no byte of it has left.
        is_given_back: Whether its connection went back to the library's pool, or was
            closed. Cancelled while it connects, or again while the library cleans up,
            it is lost.
    """

    __slots__ = (
        "_on_connecting",
        "_on_first_byte",
        "_still_wanted",
        "is_given_back",
        "left",
        "opened",
        "seen",
        "until",
    )

    def __init__(
        self,
        still_wanted: Callable[[], bool],
        on_connecting: Callable[[], None] = _nothing,
        on_first_byte: Callable[[], None] = _nothing,
    ) -> None:
        self._still_wanted = still_wanted
        self._on_connecting = on_connecting
        self._on_first_byte = on_first_byte
        self.until: float = inf
        self.seen: bool = False
        self.left: bool = False
        self.opened: Any = None
        self.is_given_back: bool = False

    async def __call__(self, event: str, info: dict[str, Any]) -> None:
        if self.left:
            self.is_given_back |= event.endswith("response_closed.complete")
            return
        self.seen = True
        if event.endswith("send_request_headers.started"):
            request = info.get("request")
            if request is None or request.method != b"CONNECT":  # asks for a tunnel
                self._leaves()
        elif event.endswith(".started"):
            self._on_connecting()
            if "timeout" in info:
                # A step of connecting, about to run with these arguments. httpcore
                # closes what a timeout of its own ends, and loses what is cancelled
                # there; so its own comes first.
                info["timeout"] = self._bounded(info["timeout"])
        elif event.endswith("connect_tcp.complete"):
            self.opened = info.get("return_value")

    def _bounded(self, seconds: float | None) -> float | None:
        """Seconds for a step that may take so many, within what is left in all."""
        if self.until == inf:
            return seconds
        left = ITS_OWN_FIRST * max(self.until - anyio.current_time(), 0.0)
        return left if seconds is None else min(seconds, left)

    def _leaves(self) -> None:
        """The first byte is about to leave.

        Raises:
            Withdrawn: It is not wanted any more.
        """
        if not self._still_wanted():
            raise SendAborted("the caller left before it was sent")
        self.left, self.opened = True, None
        self._on_first_byte()

    def evidence(self, *, proves_unsent: bool = False, tells: bool = False) -> Evidence:
        """What is known of a request that got no answer.

        Args:
            proves_unsent: Whether what ended it says so by itself.
            tells: Whether its transport is known to tell when bytes leave.
        """
        if self.left:
            return "unknown"
        return "not_sent" if self.seen or proves_unsent or tells else "unknown"
