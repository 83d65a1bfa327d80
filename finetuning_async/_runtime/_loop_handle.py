"""An event loop as other threads may handle it, and what is kept while it runs.

anyio's `RunVar` would keep what refers to its loop, and with it the loop, for ever: it
has it in a dictionary whose keys are weak, but whose values are not.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from anyio.lowlevel import EventLoopToken, current_token
from sniffio import current_async_library

from finetuning_async._runtime._machine_clock import has_jumped, machine_now, offset_of
from finetuning_async._runtime._wakeup import running_loop

if TYPE_CHECKING:
    from collections.abc import Callable

_handles: Final[dict[EventLoopToken, LoopHandle]] = {}


class LoopHandle:
    """The running event loop, for use after and outside of it, too.

    Attributes:
        now: Reads its clock.
        offset: What that shows more than the machine's, in seconds; `None` if it is
            another clock.
        kept: What belongs to this run of the loop, by name.
    """

    __slots__ = (
        "_is_closed",
        "_is_running",
        "_since",
        "_soon",
        "kept",
        "now",
        "offset",
    )

    def __init__(self) -> None:
        self._is_closed: Callable[[], bool] = lambda: not self.call(_nothing)
        self._is_running: Callable[[], bool] = lambda: True
        self._soon: Callable[[Callable[[], None]], Any]
        if current_async_library() == "trio":
            trio: Any = sys.modules["trio"].lowlevel
            self.now: Callable[[], float] = trio.current_clock().current_time
            self._soon = trio.current_trio_token().run_sync_soon
        else:
            loop = running_loop()
            self.now = loop.time
            self._soon = loop.call_soon_threadsafe
            self._is_closed, self._is_running = loop.is_closed, loop.is_running
        self.offset = offset_of(self.now)
        self.kept: dict[str, Any] = {}
        self._since = machine_now()

    @classmethod
    def of_this_loop(cls) -> LoopHandle:
        """The one of the running event loop; those of ended ones are forgotten."""
        token = current_token()
        handle = _handles.get(token)
        if handle is None:
            handle = cls()
            for other, each in list(_handles.items()):
                if each.has_ended:
                    _handles.pop(other, None)  # another thread may have done so
            _handles[token] = handle
        return handle

    def call(self, function: Callable[[], None]) -> bool:
        """Have a function called in the loop, soon; whether it can still be."""
        try:
            self._soon(function)
        except RuntimeError:  # it is closed; trio's `RunFinishedError` is one, too
            return False
        return True

    @property
    def has_ended(self) -> bool:
        """Whether nothing runs in it ever again."""
        return self._is_closed()

    @property
    def is_running(self) -> bool:
        """Whether it runs now; between two runs asyncio's does not."""
        return self._is_running()

    def has_jumped(self, shown: float) -> bool:
        """Whether its clock has turned out to be another than the machine's.

        Args:
            shown: What it showed a moment ago.
        """
        return self.offset is None or has_jumped(shown, self.offset, self._since)


def _nothing() -> None:
    """Shows whether the loop can still be called."""
