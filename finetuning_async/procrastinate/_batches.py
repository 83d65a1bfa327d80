"""`Batches`: thousands of tracks, made by workers on many machines."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from finetuning_async._runtime import in_thread
from finetuning_async.batch import (
    BatchItem,
    Options,
    new_items,
    release_items,
    retry_items,
)
from finetuning_async.postgres import PostgresStore, check_conninfo
from finetuning_async.procrastinate._tasks import Tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from procrastinate import App

    from finetuning_async._client import AsyncClient
    from finetuning_async.batch import Added, Save, Summary
    from finetuning_async.journal import RowLike, State


class Batches:
    """Batches of tracks in a database, made by procrastinate's workers.

    Create it next to the app, in a module that workers import; it adds its tasks to
    the app. Every item ends once, as ``downloaded``, ``failed`` or ``held``, and the
    credits spent equal the items accepted, whichever machine dies when.

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
        app: The procrastinate app.
        conninfo: How to connect, in libpq's form; empty for ``PGHOST`` and so on. The
            journal's tables are created there, next to procrastinate's.
        client: Creates a worker's client, once. All workers together keep to the
            account's limits if it has a `rate_limiter` that they share.
        save: Awaited with each completed item before it counts as ``downloaded``, such
            as `into`; may be called again for an item whose worker died. `None` to save
            nothing.
        options: Further options. `max_credits` is for all batches of the journal
            together. `tags`, `downloads` and `free_bytes` have no effect here.
        journal: The name of the journal in the database; one for each account.
        queue: The procrastinate queue of the jobs.
        stalled_after: Seconds without a heartbeat after which a worker counts as dead;
            at least three of its ``update_heartbeat_interval``.
        sweep_every: Whole seconds, 1 to 59, between searches for jobs of dead workers.

    Raises:
        InvalidRequestError: `conninfo` is not valid; it is not shown.
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

    async def defer(self, batch: str, requests: Iterable[RowLike]) -> Added:
        """Add requests, with a job for each, all or none.

        Those that are known in this batch stay as they are, so the same call can be
        repeated if it is not known whether it went through.

        Args:
            batch: The name of the batch: letters, digits, ``._-``. Its files go into a
                folder of this name.
            requests: What to make: requests, prompts, or mappings of parameters; a
                `Row` or the mapping adds a `custom_id`. Their webhooks must have no
                query, login or fragment: these are secrets and not stored, and the
                workers send what is stored.

        Returns:
            How many are new, and how many were known.

        Raises:
            BatchInputError: Some are invalid; nothing was added.
            InvalidRequestError: It is one request, not a list; nothing was added.
            JournalError: A `custom_id` is known with different content, or the database
                cannot be used.
            ValueError: The name is not valid.
        """
        items = new_items(batch, requests)
        store = await self._tasks.store()
        return await in_thread(store.add, items, self._tasks.jobs.defer)

    async def summary(self, batch: str | None = None) -> Summary:
        """A batch in numbers.

        Args:
            batch: Its name; `None` for all batches together.
        """
        return await in_thread((await self._tasks.store()).summary, batch)

    async def items(self, batch: str, *states: State) -> list[BatchItem]:
        """The items of a batch, in their order.

        Args:
            batch: Its name.
            states: Only items in one of these states; by default all.
        """
        found = await in_thread((await self._tasks.store()).in_batch, batch, *states)
        return [BatchItem.of(item) for item in found]

    async def retry_failed(self) -> int:
        """Plan failed items again; each costs another credit. Returns how many."""
        count = await in_thread(retry_items, await self._tasks.store())
        await self._tasks.defer_missing()
        return count

    async def release(self, *names: str) -> int:
        """Declare that held items made no track: they are planned again.

        If one did make a track, it is charged twice: check with the service first.

        Args:
            names: Their `custom_id` or key.

        Raises:
            BatchError: One does not exist or is not held; none was released.
        """
        count = await in_thread(release_items, await self._tasks.store(), names)
        await self._tasks.defer_missing()
        return count

    async def aclose(self) -> None:
        """Close the client and the connection of this process; reopened when needed."""
        await self._tasks.aclose()
