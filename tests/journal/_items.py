"""Items for a journal's store. Programs import it, so it loads no library of tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finetuning_async import GenerationRequest
from finetuning_async.batch import Row
from finetuning_async.journal._records import Item, ItemFactory, NewItem
from finetuning_async.journal._state_machine import Entry
from finetuning_async.journal._store import Insert

if TYPE_CHECKING:
    from finetuning_async.journal._store import JournalStore


def items(count: int, custom: bool = False) -> list[NewItem]:
    factory = ItemFactory()
    return [
        factory.item(
            Row(
                request=GenerationRequest(f"song {n}", bpm=90),
                custom_id=f"id{n}" if custom else None,
                line=n + 1,
            )
        )
        for n in range(count)
    ]


def new(key: str, **fields: str) -> NewItem:
    """A create of a client's journal."""
    given = {"kind": "music", "body": '{"tags": "rain"}', "file": ""}
    return NewItem(key=key, custom_id=None, line=None, **given, **fields)


def inserted(store: JournalStore, key: str, entry: Entry | None = None) -> Item:
    (item,) = store.commit([Insert(new(key), entry or Entry())])
    assert isinstance(item, Item)
    return item
