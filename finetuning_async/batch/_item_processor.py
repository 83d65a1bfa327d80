"""One item while a worker has it: its steps, each committed before the next."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeAlias

import anyio
import anyio.lowlevel
import attrs

from finetuning_async._client import AsyncClient
from finetuning_async._errors import FinetuningError, InsufficientCreditsError
from finetuning_async.batch._client_access import Create
from finetuning_async.batch._completion import end_of
from finetuning_async.batch._create_outcome import (
    PAUSES,
    REFUSALS,
    fate_of,
    is_numbered,
)
from finetuning_async.batch._item import BatchItem
from finetuning_async.batch._options import Options
from finetuning_async.batch._shared_reconciler import Settling
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
"""What makes a completed item last, before it counts as ``downloaded``.

Example:
    import procrastinate
    from finetuning_async.batch import BatchItem
    from finetuning_async.procrastinate import Batches, Save

    async def tell(client: AsyncClient, item: BatchItem) -> None:
        print(item.custom_id, item.result["audio_url"])

    save: Save = tell
    app = procrastinate.App(connector=procrastinate.PsycopgConnector())
    Batches(app, client=AsyncClient, save=save)
"""

NO_CREDITS: Final = 600.0
"""Seconds before an item that could not be paid is tried again."""

NOT_SAVED: Final = 20.0
"""Seconds before an item that could not be saved is tried again."""


class SpentError(BatchError):
    """No more credits may be spent."""


@attrs.frozen(kw_only=True)
class WorkerContext:
    """What all items of a worker share; see `Worker`."""

    client: AsyncClient
    journal: Journal
    save: Save | None
    options: Options
    settling: Settling

    async def get(self, seq: int) -> Item:
        """An item as it stands now."""
        return await self.journal.call(self.journal.store.get, seq)

    async def summary(self) -> Summary | None:
        """The journal in numbers, if credits are limited."""
        if self.options.max_credits is None:
            return None
        return await self.journal.call(self.journal.store.summary)


class ItemProcessor:
    """One item while it is processed.

    Args:
        tools: What all items of a worker share.
        item: Which.

    Attributes:
        item: As it stands.
    """

    def __init__(self, tools: WorkerContext, item: Item) -> None:
        self.item = item
        self._tools = tools
        self._track: Generation | None = None
        self._steps: dict[Action | None, Callable[[], Awaitable[float | None]]] = {
            Action.SEND: self._send,
            Action.LOOK_UP: self._look_up,
            Action.WAIT: self._wait,
            Action.DOWNLOAD: self._download,
        }

    async def run(self) -> tuple[Item, float | None]:
        """Go on until the item has ended or wants a pause of so many seconds."""
        if self.item.entry.state == "intent":
            await self._record(Restarted(await self._tools.settling.now()))
        while True:
            step = self._steps.get(NEXT[self.item.entry.state])
            pause = None if step is None else await step()
            if step is None or pause is not None:
                return self.item, pause

    async def _record(self, event: Event) -> None:
        self.item, _ = await self._tools.journal.record(self.item, event)

    async def _send(self) -> float | None:
        if await self._tools.settling.twin_is_in_doubt(self.item):
            return self._tools.options.look_every
        if self._is_spent(await self._tools.summary(), coming=1):
            return NO_CREDITS
        await self._tools.settling.rebase()
        error = await self._create()
        for pause in PAUSES[: REFUSALS - 1]:
            if error is None or not is_numbered(error):
                break
            logger.warning("%s is tried again: %s", self.item.name, error.message)
            await anyio.sleep(pause)
            error = await self._create()
        if error is not None and is_numbered(error):
            await self._record(Rejected(error.code, str(error)))
            return None
        return None if error is None else self._refused(error)

    def _refused(self, error: FinetuningError) -> float:
        """The pause after a create that the service does not take now."""
        broke = isinstance(error, InsufficientCreditsError | SpentError)
        if is_fatal(error) and not broke:
            raise error
        pause = max(NO_CREDITS if broke else PAUSES[0], error.retry_after or 0.0)
        logger.warning(
            "%s is tried again in %.0f s: %s", self.item.name, pause, error.message
        )
        return pause

    async def _create(self) -> FinetuningError | None:
        """One create; returns why it was refused, if it was."""
        create = Create(
            self._tools.client,
            self.item.request,
            self.item.entry.seed,
            leaving=lambda: self._leaving(create),
            back=self._back,
            accepted=self._accepted,
        )
        try:
            self._track = await create.send()
        except SpentError as error:
            return error
        except FinetuningError as error:
            return await self._not_accepted(create, error)
        except BaseException:
            if not (create.is_accepted or create.is_in_doubt):
                with anyio.CancelScope(shield=True):
                    await self._back()
            raise
        return None

    async def _leaving(self, create: Create) -> None:
        """Commit the intent; only then the first byte leaves."""
        await anyio.lowlevel.checkpoint_if_cancelled()
        await self._record(Sending(create.seed, await self._tools.settling.now()))
        # Counted with the intent in the books: of two workers that take the last
        # credit at once, both may give it back, but never both spend it.
        if self._is_spent(await self._tools.summary(), coming=0):
            await self._back()
            raise SpentError("max_credits are spent")

    def _is_spent(self, summary: Summary | None, *, coming: int) -> bool:
        most = self._tools.options.max_credits
        return (
            summary is not None and most is not None and summary.spent + coming > most
        )

    async def _back(self) -> None:
        """Commit that the last attempt was not accepted."""
        if self.item.entry.state == "intent":
            await self._record(NotSent())

    async def _accepted(self, track: Generation) -> None:
        await self._record(Accepted(track.id))
        await self._tools.settling.accepted(self.item, track)

    async def _not_accepted(
        self, create: Create, error: FinetuningError
    ) -> FinetuningError | None:
        fate = fate_of(create, error)
        if fate == "lost":
            await self._record(Lost(await self._tools.settling.now(), error.message))
        elif fate == "rejected":
            await self._record(Rejected(error.code, str(error)))
        else:
            await self._back()
            return error
        return None

    async def _look_up(self) -> float | None:
        tools = self._tools
        await tools.settling.look()
        self.item = await tools.get(self.item.seq)
        is_in_doubt = NEXT[self.item.entry.state] is Action.LOOK_UP
        return tools.options.look_every if is_in_doubt else None

    async def _wait(self) -> float | None:
        tools = self._tools
        ended = await end_of(
            tools.client, self.item, self._track, timeout=tools.options.wait_timeout
        )
        if ended is None:
            return tools.options.look_every
        await self._record(ended)
        return None

    async def _download(self) -> float | None:
        """Save it, or say when to try again."""
        if self._tools.save is not None:
            try:
                await self._tools.save(self._tools.client, BatchItem.of(self.item))
            except (FinetuningError, OSError) as error:
                if isinstance(error, BatchError):
                    raise
                logger.warning("%s was not saved: %s", self.item.name, error)
                return NOT_SAVED
        await self._record(Saved())
        return None
