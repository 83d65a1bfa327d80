"""`ItemProcessor`: one item while a worker has it, each step committed before the next.

It does for a worker what `Creator` and `Completer` do for a run. Other workers share
the journal, so every commit may find that another one has changed the item: then
`StaleItemError` ends these steps at once.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeAlias

import anyio
import anyio.lowlevel
import attrs

from finetuning_async._client import AsyncClient
from finetuning_async._errors import FinetuningError, InsufficientCreditsError
from finetuning_async.batch._completion import wait_for_end
from finetuning_async.batch._create import (
    MAX_REFUSALS,
    RETRY_DELAYS,
    Create,
    ends_item_if_repeated,
    outcome_of,
)
from finetuning_async.batch._item import BatchItem
from finetuning_async.batch._options import Options
from finetuning_async.batch._shared_reconciler import SharedReconciler
from finetuning_async.journal import (
    NEXT,
    Accepted,
    Action,
    BatchError,
    Journal,
    Lost,
    NotSent,
    Rejected,
    Restarted,
    Saved,
    Sending,
    is_fatal,
)

if TYPE_CHECKING:
    from finetuning_async._api import Generation
    from finetuning_async.journal import Event, Item, Summary

logger = logging.getLogger("finetuning_async")

Save: TypeAlias = Callable[[AsyncClient, BatchItem], Awaitable[None]]
"""Saves a completed item, before it counts as ``downloaded``.

Example:
    import procrastinate
    from finetuning_async.batch import BatchItem
    from finetuning_async.procrastinate import Batches, Save

    async def show(client: AsyncClient, item: BatchItem) -> None:
        print(item.custom_id, item.result["audio_url"])

    save: Save = show
    app = procrastinate.App(connector=procrastinate.PsycopgConnector())
    Batches(app, client=AsyncClient, save=save)
"""

NO_CREDITS_DELAY: Final = 600.0
"""Seconds before an item is tried again for which there was no credit."""

SAVE_DELAY: Final = 20.0
"""Seconds before an item is tried again that could not be saved."""


class CreditLimitError(BatchError):
    """`max_credits` are spent."""


@attrs.frozen(kw_only=True)
class WorkerContext:
    """What all items of a worker share; see `Worker`."""

    client: AsyncClient
    journal: Journal
    save: Save | None
    options: Options
    reconciler: SharedReconciler

    async def get(self, seq: int) -> Item:
        """An item as it is now."""
        return await self.journal.call(self.journal.store.get, seq)

    async def summary(self) -> Summary | None:
        """The journal in numbers, if credits are limited."""
        if self.options.max_credits is None:
            return None
        return await self.journal.call(self.journal.store.summary)


class ItemProcessor:
    """One item while it is processed.

    Args:
        context: What all items of a worker share.
        item: The item.

    Attributes:
        item: The item as it is now.
    """

    def __init__(self, context: WorkerContext, item: Item) -> None:
        self.item = item
        self._context = context
        self._track: Generation | None = None
        self._steps: dict[Action | None, Callable[[], Awaitable[float | None]]] = {
            Action.SEND: self._send,
            Action.LOOK_UP: self._look_up,
            Action.WAIT: self._wait,
            Action.DOWNLOAD: self._download,
        }

    async def run(self) -> tuple[Item, float | None]:
        """Go on until the item has ended, or has to pause; returns the seconds."""
        # The job queue gave us the item, so it takes the worker that wrote the intent
        # for dead. If that one was only suspended, its next commit finds `unknown`
        # instead of its `sending` and stops there: see `JournalStore.record`.
        if self.item.entry.state == "sending":
            await self._record(Restarted(await self._context.reconciler.now()))
        while True:
            step = self._steps.get(NEXT[self.item.entry.state])
            pause = None if step is None else await step()
            if step is None or pause is not None:
                return self.item, pause

    async def _record(self, event: Event) -> None:
        self.item, _ = await self._context.journal.record(self.item, event)

    async def _send(self) -> float | None:
        if await self._context.reconciler.lookalike_is_in_doubt(self.item):
            return self._context.options.look_every
        if self._is_above_limit(await self._context.summary(), coming=1):
            return NO_CREDITS_DELAY
        await self._context.reconciler.advance_baseline()
        error = await self._create()
        for delay in RETRY_DELAYS[: MAX_REFUSALS - 1]:
            if error is None or not ends_item_if_repeated(error):
                break
            logger.warning(
                "%s was refused: %s; retrying in %.0f s",
                self.item.name,
                error.message,
                delay,
            )
            await anyio.sleep(delay)
            error = await self._create()
        if error is not None and ends_item_if_repeated(error):
            await self._record(Rejected(error.code, str(error)))
            return None
        return None if error is None else self._delay_after(error)

    def _delay_after(self, error: FinetuningError) -> float:
        """Seconds to pause after a create that was not accepted this time."""
        no_credits = isinstance(error, InsufficientCreditsError | CreditLimitError)
        if is_fatal(error) and not no_credits:
            raise error
        least = NO_CREDITS_DELAY if no_credits else RETRY_DELAYS[0]
        delay = max(least, error.retry_after or 0.0)
        logger.warning(
            "%s was not sent: %s; retrying in %.0f s",
            self.item.name,
            error.message,
            delay,
        )
        return delay

    async def _create(self) -> FinetuningError | None:
        """Send one create; returns why it was refused, if it was."""
        create = Create(
            self._context.client,
            self.item.request,
            self.item.entry.seed,
            before_wait=self._record_not_sent,
            before_send=lambda: self._record_sending(create),
            on_accepted=self._record_accepted,
        )
        try:
            self._track = await create.send()
        except CreditLimitError as error:
            return error
        except FinetuningError as error:
            return await self._on_error(create, error)
        except BaseException:
            # As in `Creator`: an intent stays only if its create may have left.
            if not (create.is_accepted or create.is_in_doubt):
                with anyio.CancelScope(shield=True):
                    await self._record_not_sent()
            raise
        return None

    async def _record_sending(self, create: Create) -> None:
        """Commit the intent; only then the first byte leaves."""
        await anyio.lowlevel.checkpoint_if_cancelled()
        now = await self._context.reconciler.now()
        await self._record(Sending(create.seed, now))
        # Checked again now that the journal counts this intent. Of two workers that
        # take the last credit at once, both may give it back, but never both spend it.
        if self._is_above_limit(await self._context.summary(), coming=0):
            await self._record_not_sent()
            most = self._context.options.max_credits
            raise CreditLimitError(
                f"{most} credits are spent, the most that max_credits allows"
            )

    def _is_above_limit(self, summary: Summary | None, *, coming: int) -> bool:
        most = self._context.options.max_credits
        return (
            summary is not None and most is not None and summary.spent + coming > most
        )

    async def _record_not_sent(self) -> None:
        """Commit that the last attempt, if any, was not accepted."""
        if self.item.entry.state == "sending":
            await self._record(NotSent())

    async def _record_accepted(self, track: Generation) -> None:
        await self._record(Accepted(track.id))
        await self._context.reconciler.on_accepted(self.item, track)

    async def _on_error(
        self, create: Create, error: FinetuningError
    ) -> FinetuningError | None:
        """Commit what an error says about a create; returns it if it was refused."""
        outcome = outcome_of(create, error)
        if outcome == "lost":
            now = await self._context.reconciler.now()
            await self._record(Lost(now, error.message))
        elif outcome == "rejected":
            await self._record(Rejected(error.code, str(error)))
        else:
            await self._record_not_sent()
            return error
        return None

    async def _look_up(self) -> float | None:
        context = self._context
        await context.reconciler.reconcile()
        # Another worker may have done it, and recorded what it found.
        self.item = await context.get(self.item.seq)
        is_in_doubt = NEXT[self.item.entry.state] is Action.LOOK_UP
        return context.options.look_every if is_in_doubt else None

    async def _wait(self) -> float | None:
        context = self._context
        ended = await wait_for_end(
            context.client,
            self.item,
            self._track,
            timeout=context.options.wait_timeout,
        )
        if ended is None:
            return context.options.look_every
        await self._record(ended)
        return None

    async def _download(self) -> float | None:
        """Save the item; returns the seconds to pause if that failed."""
        if self._context.save is not None:
            try:
                await self._context.save(self._context.client, BatchItem.of(self.item))
            except (FinetuningError, OSError) as error:
                if isinstance(error, BatchError):
                    raise
                logger.warning(
                    "%s was not saved: %s; retrying in %.0f s",
                    self.item.name,
                    error,
                    SAVE_DELAY,
                )
                return SAVE_DELAY
        await self._record(Saved())
        return None
