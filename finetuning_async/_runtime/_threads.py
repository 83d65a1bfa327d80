"""Blocking work in a worker thread: the one function that starts one.

Under a virtual clock the work runs inline. Such a clock jumps to the next deadline as
soon as all tasks wait; trio's own does not wait for threads first, so every deadline
would pass while the thread works.
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


def has_virtual_clock() -> bool:
    """Whether the running event loop's clock is not the system's.

    On trio: the clock is not trio's own ``SystemClock``. On asyncio: the loop overrides
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
    """Run a blocking function in a worker thread, or inline under a virtual clock.

    A cancellation that arrives while the thread works is raised once the function has
    returned, so no thread goes on writing a file after its caller has gone on.
    """
    if has_virtual_clock():
        return await in_thread_unshielded(work, *args, **kwargs)
    return await run_to_completion(lambda: in_thread_unshielded(work, *args, **kwargs))


async def in_thread_unshielded(
    work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """The same for callers that nothing can cancel, such as `run_to_completion`'s."""
    call = partial(work, *args, **kwargs)
    if has_virtual_clock():
        await anyio.lowlevel.checkpoint()
        return call()
    return await anyio.to_thread.run_sync(call)
