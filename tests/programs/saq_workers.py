"""A batch made by SAQ's workers, on many machines, which share a PostgreSQL.

Run the first on each machine, the second anywhere:

    saq saq_workers.settings
    python -c "import asyncio, saq_workers as s; asyncio.run(s.order())"

DATABASE_URL is the database, FINETUNING_API_KEY the API key. SAQ keeps its jobs
in the same database, or in the Redis of QUEUE_URL.
"""

import os
from typing import Any

import anyio
from saq import CronJob, Job, Queue
from saq.types import Context

from finetuning_async import AsyncClient, GenerationRequest
from finetuning_async.batch import BatchJournal, Worker, into
from finetuning_async.postgres import PostgresRateLimiter

DATABASE = os.environ["DATABASE_URL"]
# A worker without a heartbeat for 60 s is dead. SAQ takes 5 s for each of its
# jobs, and judges the others by their heartbeats from before: hence 10 of them.
CONCURRENCY, HEARTBEAT = 10, 60

queue = Queue.from_url(os.environ.get("QUEUE_URL", DATABASE))
journal = BatchJournal(DATABASE)
client = AsyncClient(rate_limiter=PostgresRateLimiter(DATABASE))
worker = Worker(client, journal, save=into("music"))


class NotEndedError(Exception):
    """Lets SAQ run the job again, after its `retry_delay`."""


async def beat(job: Job, done: anyio.Event) -> None:
    while not done.is_set():
        await job.update()
        with anyio.move_on_after(HEARTBEAT / 4):
            await done.wait()


async def process_item(context: Context, *, number: int) -> None:
    job = context["job"]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(beat, job, done := anyio.Event())
        progress = await worker.process_item(number)
        done.set()
    if progress.again_in is not None:
        job.retry_delay = progress.again_in + 1.0  # SAQ drops the fraction
        raise NotEndedError


async def queue_jobs(_: Context | None = None) -> None:
    """A job for each item that has not ended, unless SAQ has one for it."""
    always: dict[str, Any] = {"timeout": 0, "retries": 10**9, "retry_delay": 5}
    always["heartbeat"] = HEARTBEAT
    for number in await journal.unfinished():
        job = {"number": number, "key": f"track-{number}"}
        await queue.enqueue("process_item", **job, **always)


async def order() -> None:
    songs = [GenerationRequest(f"song {n}", duration=30) for n in range(5)]
    await journal.add("album", songs)
    await queue.connect()
    await queue_jobs()
    await queue.disconnect()
    await journal.aclose()


async def shutdown(_: Context) -> None:
    await client.aclose()
    await journal.aclose()


settings: dict[str, Any] = {
    "queue": queue,
    "functions": [process_item],
    "concurrency": CONCURRENCY,
    "timers": {"sweep": 15},  # looks for jobs of dead workers
    "cron_jobs": [CronJob(queue_jobs, cron="* * * * *")],  # what SAQ lost
    "cancellation_hard_deadline_s": 10.0,  # a create is heard for 5 s
    "shutdown": shutdown,
}
