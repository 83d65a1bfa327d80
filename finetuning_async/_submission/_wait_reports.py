"""A caller who waits can see it: reports of a create in the line, as it moves up.

Only where someone listens, a hook or `on_waiting`, is anything worked out. A report
comes when the wait begins, and then at intervals of a tenth of what is left, never less
than a second: to work one out takes as long as the line is.
"""

from __future__ import annotations

import logging
from math import inf
from typing import TYPE_CHECKING, Final, TypeAlias

import anyio
import anyio.lowlevel
import attrs

from finetuning_async._event_hook import as_hook
from finetuning_async._logging import log_exceptions
from finetuning_async._pacing import Load
from finetuning_async._submission._wait_bounds import WaitBounds, bounded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from finetuning_async._event_hook import Hook
    from finetuning_async._events import CreateWaiting
    from finetuning_async._pacing import RatePermit
    from finetuning_async._submission._submission import Submission
    from finetuning_async._submission._wait_bounds import WaitBound

    WaitState: TypeAlias = Callable[[Submission, float], CreateWaiting]

logger = logging.getLogger("finetuning_async")

SHORTEST: Final = 1.0
"""Seconds from one report of a create to the next, at least."""

WORTH_A_LINE: Final = 10.0
"""Seconds of a wait that is logged."""


@attrs.frozen(kw_only=True)
class WaitWatch:
    """What is known of the waits of an account's creates.

    Attributes:
        state: How a create stands; given the create, and when its wait began.
        bounds: Refuses those that would wait too long.
        load: Counts those that wait or are in doubt.
    """

    state: WaitState
    bounds: WaitBounds
    load: Load


async def watched(
    submission: Submission,
    hook: Hook | None,
    watch: WaitWatch,
    wait: Callable[[], Awaitable[RatePermit]],
) -> RatePermit:
    """Await a create's permit; meanwhile report how it stands, and keep its bound.

    Args:
        submission: The create.
        hook: Of its client.
        watch: What is known of its wait.
        wait: Waits for the permit.

    Raises:
        CapacityError: It would wait longer than its `max_wait`.
        Exception: What `wait` raised.
    """

    async def counted() -> RatePermit:
        with watch.load.waiting(submission.rank):
            return await wait()

    began = anyio.current_time()
    try:
        with bounded(submission) as bound:
            is_heard = hook is not None or submission.on_waiting is not None
            is_heard = is_heard or watch.load.has_listeners
            if not is_heard and submission.max_wait == inf:
                return await counted()
            return await _with_company(submission, hook, watch, bound, counted)
    finally:
        took = anyio.current_time() - began
        if took >= WORTH_A_LINE:
            logger.info(
                "a create waited %.0f s for the rate limit or the service's queue", took
            )


async def _with_company(
    submission: Submission,
    hook: Hook | None,
    watch: WaitWatch,
    bound: WaitBound,
    wait: Callable[[], Awaitable[RatePermit]],
) -> RatePermit:
    found: list[RatePermit] = []
    error: Exception | None = None
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_report, submission, hook, watch)
            try:
                if submission.max_wait == inf:
                    found.append(await wait())
                else:
                    with watch.bounds.watching(bound, tasks):
                        found.append(await wait())
            except Exception as raised:  # a group would wrap it
                error = raised
            tasks.cancel_scope.cancel()
    except BaseException:
        # The group is left with an await, in which a cancellation may arrive.
        for permit in found:
            permit.unsent()
        raise
    if error is not None:
        raise error
    return found[0]


async def _report(submission: Submission, hook: Hook | None, watch: WaitWatch) -> None:
    began = anyio.current_time()
    await anyio.lowlevel.checkpoint()  # cancelled here if the permit came at once
    watch.load.report()
    both = (hook, as_hook(submission.on_waiting))
    hooks = [each for each in both if each is not None]
    # A limiter of the caller's may fail, which must not end a create.
    with log_exceptions("reporting a create that waits"):
        while hooks:
            event = watch.state(submission, began)
            for each in hooks:
                each(event)
            left = event.expected_start - anyio.current_time()
            await anyio.sleep(max(SHORTEST, min(left / 10, 60.0)))
