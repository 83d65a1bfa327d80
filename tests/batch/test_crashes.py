"""The runner dies at every commit, just before or after it; then another resumes."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from finetuning_async import GenerationRequest
from finetuning_async.batch import Batch
from finetuning_async.emulator import Emulator, Fault
from finetuning_async.journal._sqlite_store import SQLiteStore
from finetuning_async.testing import jumping_backend
from tests._emulated_client import SHORT, emulated

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from finetuning_async import AsyncClient
    from finetuning_async.journal._store import Change, Committed

    Commit = Callable[[SQLiteStore, Sequence[Change]], list[Committed]]

pytestmark = pytest.mark.sampled(2)

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
    """Makes a store fail at one of its commits, and ever after.

    Args:
        at: The number of that commit, from 1.
        after: Whether it is still committed.
    """

    def __init__(self, at: int, *, after: bool) -> None:
        self._left = at
        self._after = after
        self.is_dead = False
        self._commit = SQLiteStore.commit

    def method(self) -> Commit:
        """A replacement for `SQLiteStore.commit`."""
        return lambda store, changes: self.commit(store, changes)

    def commit(self, store: SQLiteStore, changes: Sequence[Change]) -> list[Committed]:
        self._left -= 1
        if self._left == 0 and self._after and not self.is_dead:
            self._commit(store, changes)
        if self._left <= 0:
            self.is_dead = True
            raise CrashError
        return self._commit(store, changes)


@pytest.mark.parametrize("after", [False, True])
async def test_a_crash_at_any_commit_pays_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    for at in range(1, CHANGES + 2):
        folder = tmp_path / str(at)
        dying = DyingStore(at, after=after)
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
            with monkeypatch.context() as patch:
                patch.setattr(SQLiteStore, "commit", dying.method())
                with suppress(CrashError):
                    await run(folder, client)
            if not dying.is_dead:  # it had fewer commits than that
                break
            await run(folder, client)
            await release_all(folder, client)
            paid = [entry.track for entry in service.ledger if entry.amount < 0]
            assert len(paid) == ITEMS, at
            assert set(paid) == known_tracks(folder), at
    assert CHANGES / 2 < at <= CHANGES + 1


async def run(folder: Path, client: AsyncClient) -> None:
    async with Batch(client, folder) as batch:
        await batch.add(GenerationRequest(f"song {n}") for n in range(ITEMS))
        async for _ in batch.run():
            pass


async def release_all(folder: Path, client: AsyncClient) -> None:
    async with Batch(client, folder) as batch:
        held = [item.key async for item in batch.run() if item.state == "held"]
        await batch.release(*held)
        async for item in batch.run():
            assert item.state != "held"


def known_tracks(folder: Path) -> set[str]:
    store = SQLiteStore(folder / "batch-journal" / "journal.db", read_only=True)
    try:
        assert store.summary().is_done
        return set(store.tracks())
    finally:
        store.close()
