"""`Batches`: tracks by the thousand, worked on by many machines."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Final

from finetuning_async._runtime import in_thread
from finetuning_async.batch import (
    BatchItem,
    Options,
    Row,
    check_rows,
    plan_failed,
    plan_held,
)
from finetuning_async.journal import Keys
from finetuning_async.postgres import PostgresStore, check_conninfo
from finetuning_async.procrastinate._tasks import Tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from procrastinate import App

    from finetuning_async._client import AsyncClient
    from finetuning_async.batch import Added, Save, Summary
    from finetuning_async.journal import Request, State

_BATCH: Final = re.compile(r"(?![-.])[A-Za-z0-9._-]{1,100}")


class Batches:
    """Batches of tracks in a database, worked on by procrastinate's workers.

    Make it beside the app, in a module that workers import; it adds its tasks to it.
    Every item ends once, as ``downloaded``, ``failed`` or ``held``, and credits spent
    equal items accepted, whichever machine dies when.

        import procrastinate
        from finetuning_async.procrastinate import Batches

        app = procrastinate.App(connector=procrastinate.PsycopgConnector())
        batches = Batches(app, client=AsyncClient)

        async def order() -> None:
            async with app.open_async():
                await batches.defer("album", [GenerationRequest("rain")])
            print(await batches.summary("album"))
            await batches.retry_failed()
            await batches.release("song-17")
            for item in await batches.items("album", "failed", "held"):
                print(item.custom_id, item.error)
            await batches.aclose()

    Args:
        app: procrastinate's.
        conninfo: How to connect, as libpq takes it; empty for ``PGHOST`` and so on. The
            journal's tables are made there, beside procrastinate's.
        client: Makes the client of a worker, once. All workers together keep to the
            account's limits if it is given a `rate_limiter` that they share.
        save: Awaited with each completed item before it counts as ``downloaded``, such
            as `into`; may be called again for one whose worker died. `None` to save
            nothing.
        options: What else there is to tell. `max_credits` is the most for all batches
            of the journal together. `tags`, `downloads` and `free_bytes` are for
            folders, and not heeded here.
        journal: Its name in the database; one for each account.
        queue: procrastinate's queue.
        stalled_after: Seconds without a heartbeat after which a worker counts as dead;
            at least three of its ``update_heartbeat_interval``.
        sweep_every: Whole seconds, 1 to 59, between looks for jobs of dead workers.

    Raises:
        InvalidRequestError: `conninfo` cannot be read; it is not shown.
    """

    def __init__(
        self,
        app: App,
        conninfo: str = "",
        *,
        client: Callable[[], AsyncClient],
        save: Save | None = None,
        options: Options | None = None,
        journal: str = "default",
        queue: str = "finetuning",
        stalled_after: float = 30.0,
        sweep_every: int = 10,
    ) -> None:
        check_conninfo(conninfo)
        self._journal = journal
        self._tasks = Tasks(
            app,
            open_store=partial(PostgresStore, conninfo, journal=journal),
            client=client,
            save=save,
            options=options or Options(),
            queue=queue,
            stalled_after=stalled_after,
            sweep_every=sweep_every,
            name=f"finetuning.{journal}",
        )

    def __repr__(self) -> str:
        return f"<Batches {self._journal!r}>"

    async def defer(self, batch: str, requests: Iterable[Request | Row]) -> Added:
        """Take requests in, with a job for each, all or none.

        What is known in this batch already stays as it is, so the same call can be
        repeated when its fate is not known.

        Args:
            batch: Its name: letters, digits, ``._-``. Files go into a folder of it.
            requests: What to make; a `Row` adds a `custom_id`.

        Returns:
            How many are new, and how many were known.

        Raises:
            BatchInputError: Some are wrong; nothing was taken in.
            JournalError: A `custom_id` is known with another content, or the database
                cannot be used.
            ValueError: The name will not do.
        """
        if not _BATCH.fullmatch(batch):
            raise ValueError(f"{batch!r} is no name of a batch: letters, digits, ._-")
        keys, store = Keys(batch), await self._tasks.store()
        rows = (r if isinstance(r, Row) else Row(request=r) for r in requests)
        items = (keys.item(row) for row in check_rows(rows))
        return await in_thread(store.add, items, self._tasks.jobs.plan)

    async def summary(self, batch: str | None = None) -> Summary:
        """A batch in numbers.

        Args:
            batch: Its name; `None` for all together.
        """
        return await in_thread((await self._tasks.store()).summary, batch)

    async def items(self, batch: str, *states: State) -> list[BatchItem]:
        """The items of a batch, in their order.

        Args:
            batch: Its name.
            states: Only those in one of them; by default all.
        """
        found = await in_thread((await self._tasks.store()).in_batch, batch, *states)
        return [BatchItem.of(item) for item in found]

    async def retry_failed(self) -> int:
        """Plan failed items again; each takes another credit. Returns how many."""
        count = await in_thread(plan_failed, await self._tasks.store())
        await self._tasks.plan_jobless()
        return count

    async def release(self, *names: str) -> int:
        """Say that held items made no track: they are planned again, may pay twice.

        Args:
            names: Their `custom_id` or key.

        Raises:
            BatchError: One is not held, or not there; none was released.
        """
        count = await in_thread(plan_held, await self._tasks.store(), names)
        await self._tasks.plan_jobless()
        return count

    async def aclose(self) -> None:
        """Close what was opened in this process. It is opened anew if need be."""
        await self._tasks.aclose()
