"""A caller's callbacks run in the caller's thread, while it waits.

There they may block, use the client, and find what belongs to their thread: a database
connection, a request's context, a progress bar. What is awaitable is awaited in the
loop.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from finetuning_async._logging import log_exceptions

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncGenerator, Callable

    from finetuning_async.sync._call import Inbox
    from finetuning_async.sync._loop_thread import LoopThread

AWAITED: Final = frozenset({"on_progress", "on_submitted", "on_update"})
"""Callbacks whose result the async client awaits."""

REPORTED: Final = frozenset({"on_track_progress", "on_waiting"})
"""Callbacks that only hear of something."""

SOURCES: Final = frozenset({"requests"})
"""What is iterated over."""

RELAYED: Final = AWAITED | REPORTED | SOURCES


def relay(arguments: dict[str, Any], thread: LoopThread, inbox: Inbox) -> None:
    """Let the callbacks among the arguments of a call run in the calling thread.

    It raises nothing, since a traceback would show the other arguments. What cannot be
    called is left to the call, which refuses it.
    """
    for name in RELAYED.intersection(arguments):
        given = arguments[name]
        if name in SOURCES:
            if _may_block(given):
                arguments[name] = _pulled(given, thread, inbox)
        elif name in AWAITED and callable(given):
            arguments[name] = _awaited(given, thread, inbox)
        elif callable(given) and not inspect.iscoroutinefunction(given):
            arguments[name] = _reported(given, inbox)


def _may_block(source: object) -> bool:
    """Whether iterating over it runs code of the caller's."""
    is_plain = isinstance(source, Iterable) and not isinstance(source, AsyncIterable)
    # One request instead of several is refused by the call.
    return is_plain and not isinstance(source, list | tuple | str | Mapping)


def _reported(callback: Callable[..., object], inbox: Inbox) -> Callable[..., None]:
    def call(*args: Any) -> None:
        with log_exceptions(f"calling {callback!r}"):
            callback(*args)

    return lambda *args: inbox.put(partial(call, *args))


def _awaited(
    callback: Callable[..., Any], thread: LoopThread, inbox: Inbox
) -> Callable[..., Any]:
    async def call(*args: Any) -> Any:
        result = await _in_calling_thread(partial(callback, *args), thread, inbox)
        return await result if inspect.isawaitable(result) else result

    return call


_END: Final = object()


async def _pulled(
    source: Iterable[Any], thread: LoopThread, inbox: Inbox
) -> AsyncGenerator[Any]:
    iterator = await _in_calling_thread(partial(iter, source), thread, inbox)
    pull = partial(next, iterator, _END)
    while (item := await _in_calling_thread(pull, thread, inbox)) is not _END:
        yield item


async def _in_calling_thread(
    function: Callable[[], Any], thread: LoopThread, inbox: Inbox
) -> Any:
    reply: asyncio.Future[tuple[Any, Exception | None]] = thread.loop.create_future()
    inbox.put(partial(_answer, function, reply, thread))
    result, error = await reply
    if error is None:
        return result
    try:
        raise error
    finally:
        del error, reply  # the error's traceback refers to this frame: a cycle


def _answer(
    function: Callable[[], Any],
    reply: asyncio.Future[tuple[Any, Exception | None]],
    thread: LoopThread,
) -> None:
    """Run a callback in the calling thread; what is no `Exception` interrupts that."""
    answer: tuple[Any, Exception | None]
    try:
        answer = function(), None
    except Exception as error:
        answer = None, error
    thread.post(partial(_settle, reply, answer))
    del answer, reply  # as above


def _settle(
    reply: asyncio.Future[tuple[Any, Exception | None]],
    answer: tuple[Any, Exception | None],
) -> None:
    if not reply.done():  # the call may have been cancelled meanwhile
        reply.set_result(answer)
