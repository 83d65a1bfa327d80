"""Batches that survive the loss of a machine: procrastinate's jobs, on PostgreSQL.

    import os

    import procrastinate

    from finetuning_async.postgres import PostgresRateLimiter
    from finetuning_async.procrastinate import Batches, into

    database = os.environ.get("DATABASE_URL", "")

    def client() -> AsyncClient:
        return AsyncClient(rate_limiter=PostgresRateLimiter(database))

    app = procrastinate.App(
        connector=procrastinate.PsycopgConnector(conninfo=database)
    )
    batches = Batches(app, database, client=client, save=into("/mnt/music"))

    async def order() -> None:
        async with app.open_async():
            await batches.defer("album", [GenerationRequest("rain", duration=60)])

Create procrastinate's tables once, then run workers, on as many machines as you like:

    procrastinate --app=music.app schema --apply
    procrastinate --app=music.app worker --concurrency=20 --delete-jobs=successful

Items and jobs are committed together. A job hands its item to `Worker.process_item`,
which knows nothing of job queues; the journal ensures that each item is paid once. The
job of a worker that died is queued again within seconds of `stalled_after`. It needs
the extra ``procrastinate``, and asyncio, because procrastinate does.

    _batches   Batches: what callers use
    _tasks     the tasks of the workers: one processes an item, one sweeps
    _jobs      a job for each item, committed together with it
"""

from __future__ import annotations

try:
    import filelock as _filelock  # noqa: F401 - fail early if it is missing
    import procrastinate as _procrastinate  # noqa: F401 - fail early if it is missing
    import psycopg as _psycopg  # noqa: F401 - fail early if it is missing
except ImportError as _missing:
    # Without libpq psycopg raises an ImportError that names nothing.
    _HINT = (
        f"finetuning_async.procrastinate needs {_missing.name or 'psycopg[binary]'}:"
        " pip install 'finetuning-async[procrastinate]'"
    )
    raise ImportError(_HINT, name=_missing.name) from _missing

from finetuning_async.batch import Save as Save, into as into
from finetuning_async.procrastinate._batches import Batches as Batches

__all__ = ["Batches", "Save", "into"]
