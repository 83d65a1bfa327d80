"""Tasks of Celery's prefork workers: each process has its own event loop.

    celery --app=celery_tasks worker --concurrency=4
    python -c "import celery_tasks as c; c.make.delay('rain', 'order-42')"

BROKER_URL is Celery's broker, such as redis://localhost: one in memory serves a
single process. FINETUNING_API_KEY is the API key, JOURNAL a file or the URL of
a PostgreSQL, which lets a task that runs twice cost one credit.
"""

import os

from celery import Celery

from finetuning_async import WaitTimeoutError
from finetuning_async.sync import Client

app = Celery("celery_tasks", broker=os.environ.get("BROKER_URL", "memory://"))
app.conf.task_acks_late = True  # what a dead worker had comes to another

# Made before the workers fork. They share the account's limits.
journal = os.environ.get("JOURNAL", "tracks.db")
client = Client(rate_limiter="shared", journal=journal)


@app.task(autoretry_for=(WaitTimeoutError,), max_retries=None)
def make(tags: str, order: str) -> str:
    track = client.generate(tags, duration=30, idempotency_key=order)
    return str(client.download(track, f"{order}.mp3"))
