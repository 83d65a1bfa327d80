"""Creates tracks by keys, in a process of its own; run as a module.

Arguments: the URL, the journal, and for each line of standard input the key of a create
or ``*`` to resume all. Prints a line of JSON for each outcome.
"""

from __future__ import annotations

import json
import sys

import anyio
import anyio.to_thread

from finetuning_async import AsyncClient, FinetuningError, RateLimit, RateLimits

LIMITS = RateLimits(creates=RateLimit(1000), reads=RateLimit(1000))


def tell(**facts: object) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


async def create(client: AsyncClient, key: str) -> None:
    try:
        track = await client.generate("rain", idempotency_key=key)
        tell(key=key, id=track.id)
    except FinetuningError as error:
        tell(key=key, error=type(error).__name__, message=str(error))


async def resume(client: AsyncClient) -> None:
    async with client.resume_all() as outcomes:
        async for outcome in outcomes:
            track, error = outcome.generation, outcome.error
            tell(
                key=outcome.request.idempotency_key,
                id=track and track.id,
                error=error and type(error).__name__,
            )
    tell(key="*", id=None)


async def main(*args: str) -> None:
    url, journal, api_key = args
    async with (
        AsyncClient(
            api_key, base_url=url, rate_limits=LIMITS, journal=journal
        ) as client,
        anyio.create_task_group() as group,
    ):
        while line := await anyio.to_thread.run_sync(sys.stdin.readline):
            if line.strip() == "*":
                group.start_soon(resume, client)
            else:
                group.start_soon(create, client, line.strip())


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
