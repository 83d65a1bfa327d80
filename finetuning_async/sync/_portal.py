"""The way from the threads of a program to one event loop.

A `Portal` belongs to a client and its views, and starts a `LoopThread` at the first
call. There are four ends of it:

close            ends the calls and waits for the thread
garbage          the same, without waiting: the collector may be called by any thread
exit             the same; it waits for creates in flight, and wakes no daemon thread
fork             the child has no such thread, so its first call starts one of its own;
                 what the parent's has open is left to the parent
"""

from __future__ import annotations

import atexit
import os
import weakref
from contextlib import suppress
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from queue import SimpleQueue
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, TypeVar

from finetuning_async._errors import ClientClosedError, FinetuningError
from finetuning_async.sync._call import Call
from finetuning_async.sync._callbacks import RELAYED, relay
from finetuning_async.sync._loop_thread import LoopThread

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")

EXIT_TIMEOUT: Final = 8.0
"""Seconds that the exit of the interpreter waits; a create in flight has 5 of them."""

_portals: weakref.WeakSet[Portal] = weakref.WeakSet()
_left_to_parents: list[LoopThread] = []
"""Loops that a fork has copied: to close one would close the parent's selector."""


class Portal:
    """Runs the calls of a client and its views in one event loop.

    Args:
        aclose: Closes the async client.
        may_fork: Whether a forked child may use what the parent has used.
    """

    def __init__(
        self, aclose: Callable[[], Coroutine[Any, Any, None]], *, may_fork: bool
    ) -> None:
        self._aclose = aclose
        self._may_fork = may_fork
        self._was_forked = False
        self._starting = Lock()
        self._thread: LoopThread | None = None
        self.is_closed: bool = False
        _load_all()
        _portals.add(self)

    def thread(self) -> LoopThread:
        """The thread of the event loop, started if need be.

        Raises:
            ClientClosedError: The client was closed.
            FinetuningError: It is the running thread; or this process was forked, and
                the `http_client` belongs to its parent.
        """
        thread = self._thread
        if thread is None or self.is_closed:
            thread = self._start()
        _check_other(thread)
        return thread

    def _start(self) -> LoopThread:
        with self._starting:
            if self.is_closed:
                raise ClientClosedError("the client is closed; make a new Client")
            if self._was_forked and not self._may_fork:
                raise FinetuningError(
                    "this process was forked after the Client was used, and the"
                    " connections of its http_client belong to the parent; make the"
                    " Client in the child"
                )
            if self._thread is None:
                thread = LoopThread()
                thread.start()
                weakref.finalize(self, thread.end, self._aclose).atexit = False
                self._thread = thread
        return self._thread

    def begin(
        self,
        method: Callable[..., Coroutine[Any, Any, T]],
        target: object,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Call[T]:
        """Prepare the call of a method, with its callbacks in this thread.

        Raises:
            ClientClosedError: The client was closed.
            FinetuningError: As `thread`.
        """
        try:
            thread, inbox = self.thread(), SimpleQueue[Any]()
            has_callbacks = not RELAYED.isdisjoint(kwargs)
            if has_callbacks:
                relay(kwargs, thread, inbox)
            work = method(target, *args, **kwargs)
            return Call(thread, work, inbox, has_callbacks=has_callbacks)
        finally:
            # A webhook's query is a secret, and a traceback may show this frame.
            del args, kwargs

    def run(self, thread: LoopThread, work: Coroutine[Any, Any, T]) -> T:
        """Go on with what was begun in a thread.

        Raises:
            BaseException: As `Call.run`, and as `thread`.
            FinetuningError: It was begun in another process.
        """
        try:
            self.check_same(thread)
        except BaseException:
            work.close()
            raise
        return Call(thread, work, SimpleQueue()).run()

    def check_same(self, thread: LoopThread) -> None:
        """Check that what was begun in a thread can go on there.

        Raises:
            ClientClosedError: The client was closed.
            FinetuningError: This process was forked meanwhile; or as `thread`.
        """
        if self.thread() is not thread:
            raise FinetuningError(
                "this was begun before the process was forked, and goes on in the"
                " parent; begin it in the child"
            )

    def close(self) -> None:
        """Close the client, and end the thread; a second call does nothing.

        Raises:
            FinetuningError: It was called in the thread.
        """
        if self._thread is not None:
            _check_other(self._thread)
        with self._starting:
            thread, was_closed, self.is_closed = self._thread, self.is_closed, True
        if thread is None or was_closed:
            return
        try:
            Call(thread, self._aclose(), SimpleQueue()).run()
        finally:
            thread.stop()
            thread.join()

    def begin_exit(self) -> LoopThread | None:
        """Begin to close when the interpreter exits; the thread to wait for, if any."""
        thread, self.is_closed = self._thread, True
        if thread is not None:
            thread.is_exiting = True
            thread.end(self._aclose)
        return thread

    def after_fork(self) -> None:
        """Begin anew, in the child."""
        # Another thread, which the child lacks, may have held the lock.
        self._starting = Lock()
        thread, self._thread = self._thread, None
        if thread is not None:
            _left_to_parents.append(thread)
            self._was_forked = True


WINGS: Final = (
    "_runtime",
    "_api",
    "_pacing",
    "_coordination",
    "_http",
    "_downloads",
    "_polling",
    "_submission",
    "_session",
    "_resources",
)
OF_OTHERS: Final = ("anyio._backends._asyncio", "httpcore._backends.anyio")


@cache
def _load_all() -> None:
    """Import what a first call would import, in the loop's thread.

    A fork in the midst of that would leave the child with half of a module, for whose
    other half it would wait for ever.
    """
    for wing in WINGS:
        package = import_module(f"finetuning_async.{wing}")
        for found in iter_modules(package.__path__, f"{package.__name__}."):
            import_module(found.name)
    for name in OF_OTHERS:
        with suppress(ImportError):  # another version has it elsewhere
            import_module(name)


def _check_other(thread: LoopThread) -> None:
    if thread.is_current:
        raise FinetuningError(
            "a Client was called in its own event loop, which would wait for itself:"
            " by on_event, or by an async callback. A plain callback runs in the thread"
            " of its call, and may use the Client"
        )


def _after_fork_in_child() -> None:
    for portal in list(_portals):
        portal.after_fork()


def _at_exit() -> None:
    threads = [portal.begin_exit() for portal in list(_portals)]
    with suppress(KeyboardInterrupt):
        for thread in threads:
            if thread is not None:
                thread.join(EXIT_TIMEOUT)


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(after_in_child=_after_fork_in_child)
