"""Tasks of Celery's prefork workers: each process has an event loop of its own.

    celery --app=celery_tasks worker --concurrency=4
    python -c "import celery_tasks as c; print(c.make.delay('rain', 'order-42'))"

BROKER_URL is Celery's broker, FINETUNING_API_KEY the API key, JOURNAL a file or the URL
of a PostgreSQL, which lets a task that runs twice cost one credit.
"""

import os

from celery import Celery

from finetuning_async import WaitTimeoutError
from finetuning_async.sync import Client

app = Celery("celery_tasks", broker=os.environ.get("BROKER_URL", "memory://"))
app.conf.task_acks_late = True  # what a worker had when it died comes to another

# Made before the workers fork. They share the account's limits.
client = Client(rate_limiter="shared", journal=os.environ.get("JOURNAL", "tracks.db"))


@app.task(autoretry_for=(WaitTimeoutError,), max_retries=None)
def make(tags: str, order: str) -> str:
    track = client.generate(tags, duration=30, idempotency_key=order)
    return str(client.download(track, f"{order}.mp3"))
