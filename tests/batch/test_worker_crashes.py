"""A worker dies at every commit, just before or after it; another goes on.

Both with SQLite and PostgreSQL: the rules are the journal's, and both must keep them.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from finetuning_async import GenerationRequest
from finetuning_async.batch import Row, Worker
from finetuning_async.emulator import Emulator, Fault
from finetuning_async.journal._records import ItemFactory
from finetuning_async.journal._state_machine import Released, step
from finetuning_async.testing import jumping_backend
from tests._emulated_client import SHORT, emulated
from tests.journal._journal_stores import opener

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from finetuning_async import AsyncClient
    from finetuning_async.journal._store import Change, Committed, JournalStore

ITEMS = 2
CHANGES = 4 * ITEMS - 1
"""Four for each item, three for the one that fails; some share a commit."""


@pytest.fixture
def anyio_backend() -> tuple[str, Mapping[str, Any]]:
    return jumping_backend(
        "asyncio"
    )  # one loop is enough: the journal does not depend on it


class CrashError(Exception):
    """The process has ended."""


class DyingStore:
    """A store that fails at one of its commits, and ever after.

    Args:
        store: The real one.
        at: The number of that commit, from 1.
        after: Whether it is still committed.
    """

    def __init__(self, store: JournalStore, at: int, *, after: bool) -> None:
        self._store = store
        self._left = at
        self._after = after
        self.is_dead = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def commit(self, changes: Sequence[Change]) -> list[Committed]:
        self._left -= 1
        if self._left == 0 and self._after and not self.is_dead:
            self._store.commit(changes)
        if self._left <= 0:
            self.is_dead = True
            raise CrashError
        return self._store.commit(changes)


@pytest.mark.parametrize(
    ("after", "kind"),
    [
        (False, "sqlite"),
        (True, "sqlite"),
        (False, "postgres"),
    ],
)
async def test_a_crash_at_any_commit_pays_nothing_twice(
    request: pytest.FixtureRequest, after: bool, kind: str
) -> None:
    for at in range(1, CHANGES + 2):
        reopened = opener(kind, request)
        async with emulated(
            Emulator(
                audio=b"ID3",
                queue_size=20,
                latency=(0.1, 0.2),
                generation_time=SHORT,
                seed=at,
            )
        ) as (service, client):
            service.add_fault(Fault("fail", "/v1/generations", method="POST", skip=1))
            store = reopened()
            fill(store)
            dying = DyingStore(store, at, after=after)
            with suppress(CrashError):
                await work(client, dying)
            store.close()
            if not dying.is_dead:  # it had fewer commits than that
                break
            store = reopened()
            await finish(client, store)
            paid = [entry.track for entry in service.ledger if entry.amount < 0]
            assert len(paid) == ITEMS, at
            assert set(paid) == set(store.tracks()), at
            store.close()
    assert CHANGES / 2 < at <= CHANGES + 1


def fill(store: JournalStore) -> None:
    factory = ItemFactory()
    requests = (GenerationRequest(f"song {n}") for n in range(ITEMS))
    store.add(factory.item(Row(request=request)) for request in requests)


async def work(client: AsyncClient, store: Any) -> None:
    """A queue that processes each item until it has ended."""
    worker = Worker(client, store)
    waiting = dict.fromkeys(range(1, ITEMS + 1), 0.0)
    while waiting:
        seq = min(waiting, key=lambda seq: waiting[seq])
        await anyio.sleep(max(waiting[seq] - anyio.current_time(), 0))
        progress = await worker.process_item(seq)
        if progress.again_in is None:
            del waiting[seq]
        else:
            waiting[seq] = anyio.current_time() + progress.again_in


async def finish(client: AsyncClient, store: JournalStore) -> None:
    """Process all; release what is held, as a person would after looking."""
    await work(client, store)
    for item in list(store.rows("held")):
        store.record(item, step(item.entry, Released())[0])
    await work(client, store)
    assert store.summary().is_done
