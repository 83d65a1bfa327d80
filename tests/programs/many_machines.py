"""A batch on many machines, which share only a database.

Run the first once, the second on each machine, the third anywhere:

    procrastinate --app=many_machines.app schema --apply
    procrastinate --app=many_machines.app worker -c20 --delete-jobs=successful
    python -c "import asyncio, many_machines as m; asyncio.run(m.order())"

DATABASE_URL is the database, FINETUNING_API_KEY the API key.
"""

import os

import procrastinate

from finetuning_async import AsyncClient, GenerationRequest
from finetuning_async.postgres import PostgresRateLimiter
from finetuning_async.procrastinate import Batches, into

DATABASE = os.environ["DATABASE_URL"]


def client() -> AsyncClient:
    return AsyncClient(rate_limiter=PostgresRateLimiter(DATABASE))


app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=DATABASE))
batches = Batches(app, DATABASE, client=client, save=into("music"))


async def order() -> None:
    songs = [GenerationRequest(f"song {n} of an album", duration=30) for n in range(5)]
    added = await batches.defer("album", songs)
    print(f"{added.new} new, {added.known} known")
    print((await batches.summary("album")).as_dict())
    await batches.aclose()
