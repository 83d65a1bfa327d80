"""``python -m benchmarks promises``: three promises, beside the SDKs of other services.

Each SDK talks to a small service of its own kind on this machine; ours to the emulator.
All have their default options. It takes a minute, and needs the extra ``bench``.

1. The response to a create is lost once: how many creates has the service accepted?
2. Thirty creates at once, where ten are allowed in `PER` seconds: how many 429s, and
   how many creates failed?
3. Forty tracks in progress, one wait for each: how many reads a minute?
"""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

import anyio

from benchmarks._machine import describe
from benchmarks.promises import clients
from benchmarks.promises.service import ALLOWED, PER, serve

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from benchmarks.promises.clients import Client

CREATES = 30
WAITING = 40
WATCHED = 15.0
"""Seconds for which the reads are counted."""


async def lost_response(client: Client) -> str:
    """How many creates one call made, if the first response is lost."""
    async with serve(client, loses=1) as service:
        with anyio.move_on_after(30):
            try:
                await client.create(service.url)()
            except Exception as error:
                return f"{service.accepted}, raises `{type(error).__name__}`"
    return str(service.accepted)


async def many_creates(client: Client) -> str:
    """The 429s of thirty creates, and how many of them failed."""
    failed = 0
    async with serve(client, limited=True) as service:

        async def create_one() -> None:
            nonlocal failed
            try:
                await call()
            except Exception:
                failed += 1

        call = client.create(service.url)
        async with anyio.create_task_group() as tasks:
            for _ in range(CREATES):
                tasks.start_soon(create_one)
    return f"{service.refused}; {failed}"


async def many_waits(client: Client) -> str:
    """The reads a minute of forty waits."""
    async with serve(client) as service:
        with anyio.move_on_after(WATCHED):
            async with anyio.create_task_group() as tasks:
                wait = client.wait(service.url)
                for number in range(WAITING):
                    tasks.start_soon(wait, service.track(number))
        return f"{service.reads / WATCHED * 60:.0f}"


async def _row(
    title: str, measure: Callable[[Client], Awaitable[str]], peers: Sequence[Client]
) -> None:
    cells = [""] * len(peers)

    async def fill(column: int) -> None:
        cells[column] = await measure(peers[column])

    async with anyio.create_task_group() as tasks:
        for column in range(len(peers)):
            tasks.start_soon(fill, column)
    print(f"| {title} | {' | '.join(cells)} |", flush=True)


async def _table() -> None:
    peers = clients.installed()
    print(describe(*(peer.package for peer in peers if peer.package)), end="\n\n")
    print(f"| | {' | '.join(peer.name for peer in peers)} |")
    print("|---" * (len(peers) + 1) + "|")
    await _row(
        "creates accepted for one call, if a response is lost", lost_response, peers
    )
    await _row(
        f"429s of 30 creates where {ALLOWED} in {PER} s are allowed; failed",
        many_creates,
        peers,
    )
    await _row(
        f"reads a minute while {WAITING} tracks are in progress", many_waits, peers
    )


def main(arguments: Sequence[str]) -> None:
    """Print the table."""
    del arguments
    logging.disable()
    warnings.simplefilter("ignore")  # of one SDK, which is deprecated
    anyio.run(_table)
