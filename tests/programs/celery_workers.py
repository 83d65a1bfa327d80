"""A batch made by Celery's workers.

Run the first on each machine, the second anywhere, again if it broke off:

    celery --app=celery_workers worker --pool=threads --concurrency=20
    python -c "import celery_workers as c; c.order()"

BROKER_URL is Celery's broker, such as redis://localhost: one in memory serves a
single process. FINETUNING_API_KEY is the API key. JOURNAL is a file for workers
of one machine, or the URL of a PostgreSQL.
"""

import os
from contextlib import ExitStack

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal
from celery import Celery
from celery.signals import worker_init, worker_shutdown

from finetuning_async import AsyncClient, GenerationRequest
from finetuning_async.batch import BatchJournal, Worker, into

broker = os.environ.get("BROKER_URL", "memory://")
app = Celery("celery_workers", broker=broker)
app.conf.task_acks_late = True  # what a dead worker had comes to another,
app.conf.broker_transport_options = {"visibility_timeout": 900}  # s, on Redis
app.conf.worker_prefetch_multiplier = 1

journal = BatchJournal(os.environ.get("JOURNAL", "tracks.db"))
client = AsyncClient(rate_limiter="shared")  # or RedisRateLimiter(...)
worker = Worker(client, journal, save=into("music"))
portal: BlockingPortal
opened = ExitStack()


@worker_init.connect
def start_loop(**_: object) -> None:
    """One event loop for all threads: one client serves and polls for all."""
    global portal
    portal = opened.enter_context(start_blocking_portal())


@worker_shutdown.connect
def stop_loop(**_: object) -> None:
    portal.call(client.aclose)
    portal.call(journal.aclose)
    opened.close()


@app.task(max_retries=None, autoretry_for=(Exception,))
def process_item(number: int) -> None:
    progress = portal.call(worker.process_item, number)
    if progress.again_in is not None:
        raise process_item.retry(countdown=progress.again_in)


def order() -> None:
    songs = [GenerationRequest(f"song {n}", duration=30) for n in range(5)]
    for number in anyio.run(journal.add, "album", songs):
        process_item.delay(number)
