"""Clocks that jump to the next timer instead of waiting for it.

trio has `trio.testing.MockClock`; asyncio has none, so here is one. Prior art: trio's
``_core/_mock_clock.py`` (autojump).
"""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping


class _JumpingSelector(selectors.DefaultSelector):
    """A selector that, where it would sleep for a timer, moves the clock instead."""

    now = 0.0

    def select(
        self, timeout: float | None = None
    ) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:  # no timer is set: only a socket or a thread can go on
            return super().select(None)
        self.now += max(timeout, 0)
        return []


class JumpingEventLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop whose time starts at 0 s and jumps over idle waits.

    Example:
        import asyncio
        from finetuning_async.testing import JumpingEventLoop

        with asyncio.Runner(loop_factory=JumpingEventLoop) as runner:
            runner.run(asyncio.sleep(3600))  # takes no time
    """

    def __init__(self) -> None:
        self._jumping_selector = _JumpingSelector()
        super().__init__(self._jumping_selector)

    def time(self) -> float:
        """Seconds of virtual time since the loop was made."""
        return self._jumping_selector.now


def jumping_backend(
    name: Literal["asyncio", "trio"],
) -> tuple[str, Mapping[str, Any]]:
    """The value of anyio's ``anyio_backend`` fixture for a clock that jumps.

    Args:
        name: The event loop. For ``trio`` a fresh `trio.testing.MockClock` is made.

    Returns:
        The backend's name and its options, for one event loop. On trio `anyio.run`
        heeds them from anyio 4.14 on; anyio's pytest plugin always did.

    Example:
        import pytest
        from finetuning_async.testing import jumping_backend

        @pytest.fixture(params=["asyncio", "trio"])
        def anyio_backend(request):
            return jumping_backend(request.param)

        async def test_an_hour_takes_no_time():
            await anyio.sleep(3600)
    """
    if name == "asyncio":
        return "asyncio", {"loop_factory": JumpingEventLoop}
    from trio.testing import MockClock

    return "trio", {"clock": MockClock(autojump_threshold=0)}
