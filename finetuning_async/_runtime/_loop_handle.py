"""An event loop as other threads can use it, and storage that lives as long as it.

anyio's `RunVar` would keep a value that refers to its loop, and so the loop itself,
alive forever: the keys of its dictionary are weak references, the values are not.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from anyio.lowlevel import EventLoopToken, current_token
from sniffio import current_async_library

from finetuning_async._runtime._machine_clock import (
    has_jumped,
    machine_now,
    measure_offset,
)
from finetuning_async._runtime._wakeup import running_loop

if TYPE_CHECKING:
    from collections.abc import Callable

_handles: Final[dict[EventLoopToken, LoopHandle]] = {}


class LoopHandle:
    """An event loop, usable from other threads and after the loop has ended.

    Attributes:
        now: Reads the loop's clock.
        offset: The loop's clock minus the machine's, in seconds; `None` if the two
            clocks do not run in step.
        storage: Objects that belong to this run of the loop, by name.
    """

    __slots__ = (
        "_is_closed",
        "_is_running",
        "_measured_at",
        "_schedule",
        "now",
        "offset",
        "storage",
    )

    def __init__(self) -> None:
        # trio has no "is it closed" for its loop: only a call that fails shows it.
        self._is_closed: Callable[[], bool] = lambda: not self.call_soon(_no_op)
        self._is_running: Callable[[], bool] = lambda: True
        self._schedule: Callable[[Callable[[], None]], Any]
        if current_async_library() == "trio":
            trio: Any = sys.modules["trio"].lowlevel
            self.now: Callable[[], float] = trio.current_clock().current_time
            self._schedule = trio.current_trio_token().run_sync_soon
        else:
            loop = running_loop()
            self.now = loop.time
            self._schedule = loop.call_soon_threadsafe
            self._is_closed, self._is_running = loop.is_closed, loop.is_running
        self.offset: float | None = measure_offset(self.now)
        self.storage: dict[str, Any] = {}
        self._measured_at = machine_now()

    @classmethod
    def current(cls) -> LoopHandle:
        """The handle of the running loop. Handles of loops that have ended are dropped.

        They are dropped when the next loop gets its handle, so that a program that
        calls `asyncio.run` in a loop keeps at most one dead loop.
        """
        token = current_token()
        handle = _handles.get(token)
        if handle is None:
            handle = cls()
            for other, each in list(_handles.items()):
                if each.has_ended:
                    _handles.pop(other, None)  # another thread may have done so
            _handles[token] = handle
        return handle

    def call_soon(self, function: Callable[[], None]) -> bool:
        """Schedule a call in the loop, from any thread.

        Returns:
            Whether it was scheduled; `False` if the loop has ended.
        """
        try:
            self._schedule(function)
        except RuntimeError:  # the loop is closed; trio's `RunFinishedError` is one
            return False
        return True

    @property
    def has_ended(self) -> bool:
        """Whether the loop is closed and can never run again."""
        return self._is_closed()

    @property
    def is_running(self) -> bool:
        """Whether the loop runs now; between two runs an asyncio loop does not."""
        return self._is_running()

    def has_jumped(self, reading: float) -> bool:
        """Whether the loop's clock does not run in step with the machine's after all.

        Args:
            reading: What the loop's clock showed a moment ago.
        """
        if self.offset is None:
            return True
        return has_jumped(reading, self.offset, self._measured_at)


def _no_op() -> None:
    """Scheduled only to see whether the loop still accepts calls."""
