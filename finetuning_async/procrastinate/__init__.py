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

Make procrastinate's tables once, then run workers, on as many machines as there are:

    procrastinate --app=music.app schema --apply
    procrastinate --app=music.app worker --concurrency=20 --delete-jobs=successful

Items and jobs are committed together. A job brings its item to `Worker.process_item`,
which knows no job queue; what is paid once is up to the journal. A job whose worker
died is brought back within seconds of `stalled_after`. Needs the extra
``procrastinate``; asyncio only, because procrastinate does.

    _batches   Batches: what callers hold
    _tasks     the tasks: one that processes an item, one that sweeps
    _jobs      a job for each item, committed with it
"""

from __future__ import annotations

try:
    import filelock as _filelock  # noqa: F401 - only to see that it is there
    import procrastinate as _procrastinate  # noqa: F401 - only to see that it is there
    import psycopg as _psycopg  # noqa: F401 - only to see that it is there
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
