"""Whether a request without a response may have reached the service.

It decides whether a create may be sent again (promise P2). There are two kinds of
evidence. ``not_sent``: no byte of the request left, so sending it again is safe.
``unknown``: some bytes may have left, so the service may have charged for a track.

The evidence comes from the ``trace`` extension of httpx and httpx2: they call the
request's `SendTracker` before and after each step, such as ``connect_tcp.started`` or
``send_request_headers.started``. A timeout of the library alone proves nothing: the
same exception class may come before or after the first byte.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, Final

import anyio

from finetuning_async._errors import APIConnectionError, APITimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable

    from finetuning_async._api import Call, Evidence


CONNECT_SHARE: Final = 0.98
"""Share of the time left that one step of connecting may take, so that httpcore's own
timeout ends it before our bound on the whole attempt does."""


class NoResponse(Exception):  # noqa: N818 - evidence on its way to an error, not an error
    """A request got no response.

    Attributes:
        evidence: Whether any of it may have left.
        timed_out: Whether it ran out of time, rather than the connection failing.
        reason: The class and text of what happened, without secrets.
        is_permanent: Whether a retry would fail in the same way.
    """

    def __init__(
        self,
        evidence: Evidence,
        *,
        timed_out: bool,
        reason: str,
        is_permanent: bool = False,
    ) -> None:
        super().__init__(reason)
        self.evidence = evidence
        self.timed_out = timed_out
        self.reason = reason
        self.is_permanent = is_permanent

    def as_error(self, call: Call) -> APIConnectionError:
        """The public error, for a call that is not retried."""
        kind = APITimeoutError if self.timed_out else APIConnectionError
        outcome = "was not sent" if self.evidence == "not_sent" else "got no response"
        is_safe = self.evidence == "not_sent" or call.repeatable
        return kind(
            f"{call.method} {call.path} {outcome}: {self.reason}",
            generation_id=call.track_id,
            safe_to_retry=is_safe and not self.is_permanent,
        )


class SendAborted(Exception):  # noqa: N818 - never leaves the transport
    """The request was given up before its first byte left."""


def _nothing() -> None:
    """The default callback."""


class SendTracker:
    """The ``trace`` callback of one request: notes whether its first byte left.

    Args:
        may_send: Asked right before the first byte leaves; if it returns `False`, no
            byte does.
        on_waiting: Called when a step before the first byte begins: waiting for a slot,
            or connecting.
        on_first_byte: Called right before the first byte leaves.

    Attributes:
        deadline: When the attempt is cancelled at the latest, on the loop's clock.
        was_traced: Whether the transport called this at all.
        first_byte_sent: Whether the first byte was handed to the network.
        open_stream: The TCP stream that was connected for the request, until its first
            byte leaves.
        connection_released: Whether the library put the connection back into its pool
            or closed it. A request that is cancelled while it connects, or again while
            the library cleans up, never releases its connection.
    """

    __slots__ = (
        "_may_send",
        "_on_first_byte",
        "_on_waiting",
        "connection_released",
        "deadline",
        "first_byte_sent",
        "open_stream",
        "was_traced",
    )

    def __init__(
        self,
        may_send: Callable[[], bool],
        on_waiting: Callable[[], None] = _nothing,
        on_first_byte: Callable[[], None] = _nothing,
    ) -> None:
        self._may_send = may_send
        self._on_waiting = on_waiting
        self._on_first_byte = on_first_byte
        self.deadline: float = inf
        self.was_traced: bool = False
        self.first_byte_sent: bool = False
        self.open_stream: Any = None
        self.connection_released: bool = False

    def wait_to_send(self) -> None:
        """Report that the request waits, for a slot or for a connection.

        Until that byte leaves, its caller may cancel it without any doubt.
        """
        self._on_waiting()

    async def __call__(self, event: str, info: dict[str, Any]) -> None:
        if self.first_byte_sent:
            self.connection_released |= event.endswith("response_closed.complete")
            return
        self.was_traced = True
        # The headers go out first, so this event is the last moment to say no: it is
        # awaited, and what it raises ends the request before the write.
        if event.endswith("send_request_headers.started"):
            request = info.get("request")
            # A proxy is asked for a tunnel first, by a request of httpcore's own.
            if request is None or request.method != b"CONNECT":
                self._before_first_byte()
        elif event.endswith(".started"):
            self.wait_to_send()
            if "timeout" in info:
                # A step of connecting is about to run with these arguments. If httpcore
                # runs into its own timeout, it closes the connection; if we cancel it
                # there, it loses track of it. So its timeout has to come first.
                info["timeout"] = self._bounded(info["timeout"])
        elif event.endswith("connect_tcp.complete"):
            self.open_stream = info.get("return_value")

    def _bounded(self, seconds: float | None) -> float | None:
        """A timeout of one step, bounded by what is left of the attempt."""
        if self.deadline == inf:
            return seconds
        left = CONNECT_SHARE * max(self.deadline - anyio.current_time(), 0.0)
        return left if seconds is None else min(seconds, left)

    def _before_first_byte(self) -> None:
        """Decide whether the request is sent.

        Raises:
            SendAborted: The caller was cancelled, or it is too late.
        """
        # From here on the request counts as sent, even if the write fails. No await
        # lies between the question and `on_first_byte`, which shields a create: so it
        # is either never sent, or waited for.
        if not self._may_send():
            raise SendAborted("the request was given up before its first byte left")
        self.first_byte_sent, self.open_stream = True, None
        self._on_first_byte()

    def evidence(
        self, *, proves_unsent: bool = False, is_traced: bool = False
    ) -> Evidence:
        """Whether the request may have left; call it when it got no response.

        Args:
            proves_unsent: Whether the exception that ended it proves that it did not.
            is_traced: Whether its transport is known to call trackers, so that silence
                means that nothing was sent.
        """
        if self.first_byte_sent:
            return "unknown"
        was_watched = self.was_traced or is_traced
        return "not_sent" if was_watched or proves_unsent else "unknown"
