"""A caller who waits can see it: reports of a create in the line, as it moves up.

Only where somebody listens, a hook or `on_waiting`, is anything worked out. A report
comes when the wait begins, and then at intervals of a tenth of what is left, never less
than a second: to work one out takes as long as the line is.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, TypeAlias

import anyio
import anyio.lowlevel

from finetuning_async._event_hook import as_hook

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from finetuning_async._event_hook import Hook
    from finetuning_async._events import CreateWaiting
    from finetuning_async._pacing import Load, RatePermit
    from finetuning_async._submission._submission import Submission

    WaitState: TypeAlias = Callable[[Submission, float], CreateWaiting]

logger = logging.getLogger("finetuning_async")

SHORTEST: Final = 1.0
"""Seconds from one report of a create to the next, at least."""

WORTH_A_LINE: Final = 10.0
"""Seconds of a wait that is logged."""


async def reported(
    submission: Submission,
    hook: Hook | None,
    state: WaitState,
    load: Load,
    wait: Callable[[], Awaitable[RatePermit]],
) -> RatePermit:
    """Await a create's permit, and report meanwhile how it stands.

    Args:
        submission: The create.
        hook: Of its client.
        state: What is known of its wait; given the create, and when the wait began.
        load: Of the account; counts the create while it waits.
        wait: Waits for the permit.

    Raises:
        Exception: What `wait` raised.
    """

    async def counted() -> RatePermit:
        with load.waiting(submission.rank):
            return await wait()

    began = anyio.current_time()
    try:
        is_heard = hook is not None or submission.on_waiting is not None
        if not is_heard and not load.has_listeners:
            return await counted()
        return await _with_reports(submission, hook, state, load, counted)
    finally:
        took = anyio.current_time() - began
        if took >= WORTH_A_LINE:
            logger.info(
                "a create waited %.0f s for the rate limit or the service's queue", took
            )


async def _with_reports(
    submission: Submission,
    hook: Hook | None,
    state: WaitState,
    load: Load,
    wait: Callable[[], Awaitable[RatePermit]],
) -> RatePermit:
    found: list[RatePermit] = []
    error: Exception | None = None
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_report, submission, hook, state, load)
            try:
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


async def _report(
    submission: Submission, hook: Hook | None, state: WaitState, load: Load
) -> None:
    began = anyio.current_time()
    await anyio.lowlevel.checkpoint()  # cancelled here if the permit came at once
    load.report()
    both = (hook, as_hook(submission.on_waiting))
    hooks = [each for each in both if each is not None]
    while hooks:
        event = state(submission, began)
        for each in hooks:
            each(event)
        left = event.expected_start - anyio.current_time()
        await anyio.sleep(max(SHORTEST, min(left / 10, 60.0)))
