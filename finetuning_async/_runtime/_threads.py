"""The one door to a worker thread.

A clock that jumps need not wait for a thread, and trio's own does not: it would run
into every deadline while the thread works. So under one the work is done inline.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import anyio.lowlevel
import anyio.to_thread
from sniffio import current_async_library

from finetuning_async._runtime._shielding import run_to_completion

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")


def clock_jumps() -> bool:
    """Whether the running event loop's clock is not the system's.

    On trio: the clock is not trio's own ``SystemClock``. On asyncio: the loop replaces
    `asyncio.BaseEventLoop.time`.
    """
    if current_async_library() == "trio":
        clock = sys.modules["trio"].lowlevel.current_clock()
        return type(clock).__name__ != "SystemClock"
    asyncio = sys.modules["asyncio"]
    loop = asyncio.get_running_loop()
    base = asyncio.BaseEventLoop
    return isinstance(loop, base) and type(loop).time is not base.time


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do blocking work in a worker thread, or inline under a clock that jumps.

    A cancellation that comes while the thread works is delivered when it has ended, so
    no thread goes on writing a file that nobody waits for.
    """
    call = partial(work, *args, **kwargs)
    if clock_jumps():
        await anyio.lowlevel.checkpoint()
        return call()
    return await run_to_completion(lambda: anyio.to_thread.run_sync(call))
