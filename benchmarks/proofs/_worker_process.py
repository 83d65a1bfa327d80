"""One worker of the proof `workers`, a process that may be killed at any moment.

Its environment variables: ``DATABASE_URL``, ``FINETUNING_API_KEY``,
``FINETUNING_BASE_URL``, ``ALBUM`` and ``SPEED``.
"""

from __future__ import annotations

import asyncio
import os
from typing import Final

import procrastinate

from finetuning_async import AsyncClient, RateLimit, RateLimits
from finetuning_async.batch import Options
from finetuning_async.postgres import PostgresRateLimiter
from finetuning_async.procrastinate import Batches, into

CONCURRENCY: Final = 12
HEARTBEAT: Final = 0.3
LONGEST_REQUEST: Final = 2.0
STALLED: Final = 1.5
"""Seconds; procrastinate's defaults are 10 and 30."""


def limits(speed: float) -> RateLimits:
    """The account's limits at this speed of the emulator."""
    per = 60.0 / speed
    return RateLimits(creates=RateLimit(10, per=per), reads=RateLimit(60, per=per))


def build(conninfo: str, album: str, speed: float) -> tuple[procrastinate.App, Batches]:
    """The app, for the workers and for the process that defers the batch."""
    app = procrastinate.App(
        connector=procrastinate.PsycopgConnector(conninfo=conninfo, min_size=2)
    )
    usual = Options()
    batches = Batches(
        app,
        conninfo,
        client=lambda: AsyncClient(
            rate_limits=limits(speed),
            rate_limiter=PostgresRateLimiter(conninfo, timeout=LONGEST_REQUEST),
        ),
        save=into(album),
        options=Options(
            settle=usual.settle / speed, look_every=usual.look_every / speed
        ),
        stalled_after=STALLED,
        sweep_every=1,
    )
    return app, batches


async def main() -> None:
    """Work until the process is stopped."""
    app, batches = build(
        os.environ["DATABASE_URL"], os.environ["ALBUM"], float(os.environ["SPEED"])
    )
    async with app.open_async():
        try:
            await app.run_worker_async(
                concurrency=CONCURRENCY,
                delete_jobs="successful",
                fetch_job_polling_interval=0.2,
                update_heartbeat_interval=HEARTBEAT,
                stalled_worker_timeout=STALLED,
                shutdown_graceful_timeout=0.0,
            )
        finally:
            await batches.aclose()


def run() -> None:
    """Run a worker. Not in ``__main__``: procrastinate warns of an app made there."""
    asyncio.run(main())
