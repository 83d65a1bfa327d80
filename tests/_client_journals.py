"""Journals for clients under test: in memory, and in a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from finetuning_async.journal import (
    Entry,
    Insert,
    Item,
    NewItem,
    body_of,
    step,
)
from finetuning_async.journal._store import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from finetuning_async import AsyncClient
    from finetuning_async._api import AnyRequest
    from finetuning_async.journal import Event, JournalStore


@attrs.define(eq=False)
class MemoryJournal:
    """Keeps each account's entries in memory, as long as it lives itself.

    Attributes:
        new_store: Makes the store of an account.
        stores: By account.
        is_closed: Whether a client has closed it.
    """

    settle: float = 300.0
    look_every: float = 30.0
    new_store: Callable[[], MemoryStore] = MemoryStore
    stores: dict[str, MemoryStore] = attrs.field(factory=dict)
    is_closed: bool = False

    def open(self, account: str) -> JournalStore:
        return self.stores.setdefault(account, self.new_store())

    async def aclose(self) -> None:
        self.is_closed = True

    @property
    def store(self) -> MemoryStore:
        """The store of the one account."""
        (store,) = self.stores.values()
        return store

    def item(self, key: str) -> Item:
        """The item of a key."""
        item = self.store.find_key(key)
        assert item is not None
        return item

    def states(self) -> dict[str, str]:
        """The state of each key."""
        return {item.key: item.entry.state for item in self.store.rows()}

    def leave(self, request: AnyRequest, *events: Event, holder: str = "dead") -> Item:
        """Leave an entry as a process does that dies after these events."""
        entry = Entry(holder=holder)
        for event in events:
            entry, _ = step(entry, event)
        assert request.idempotency_key is not None
        new = NewItem(
            key=request.idempotency_key,
            custom_id=None,
            line=None,
            kind=request.kind,
            body=body_of(request),
            file="",
        )
        return put(self.store, new, entry)


def put(store: JournalStore, new: NewItem, entry: Entry) -> Item:
    """Insert an item with its entry."""
    (item,) = store.commit([Insert(new, entry)])
    assert isinstance(item, Item)
    return item


async def open_journal(client: AsyncClient) -> None:
    """Let a client open its journal, by a read of it."""
    assert await client.journal.get("no such key") is None
