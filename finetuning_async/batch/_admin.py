"""Reading and changing a batch's folder without a client.

All of it blocks for a moment. Reading needs no lock; changing takes the folder's lock,
so no runner may be working there.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from finetuning_async.batch._object_folder import folder_of
from finetuning_async.journal import BatchError, Released, Retried, step

if TYPE_CHECKING:
    import os
    from collections.abc import Generator, Iterable

    from finetuning_async.batch._folder import Folder
    from finetuning_async.journal import Item, JournalStore, Summary


def read_summary(
    folder: str | os.PathLike[str], *, journal: str | os.PathLike[str] | None = None
) -> Summary:
    """A batch in numbers; a runner may be working there meanwhile.

    Args:
        folder: The batch's, or its URL.
        journal: As for `Batch`.

    Raises:
        BatchError: There is no batch in this folder, or it cannot be read.

    Example:
        from finetuning_async.batch import Batch, read_summary

        async with Batch(client, "album") as batch:
            await batch.add([GenerationRequest("rain")])
        print(read_summary("album").as_dict())
    """
    with _opened_to_read(folder_of(folder, journal)) as store:
        return store.summary()


def read_held(
    folder: str | os.PathLike[str], *, journal: str | os.PathLike[str] | None = None
) -> list[Item]:
    """The items that are held; arguments as for `read_summary`.

    Raises:
        BatchError: As `read_summary`.
    """
    with _opened_to_read(folder_of(folder, journal)) as store:
        return list(store.rows("held"))


def retry_failed(
    folder: str | os.PathLike[str], *, journal: str | os.PathLike[str] | None = None
) -> int:
    """Plan a folder's failed items again; each costs another credit. Returns how many.

    Args:
        folder: The batch's, or its URL.
        journal: As for `Batch`.

    Raises:
        BatchLockedError: A runner is working there.
        BatchError: As `read_summary`.

    Example:
        from finetuning_async.batch import Batch, retry_failed

        async with Batch(client, "album") as batch:
            await batch.add([GenerationRequest("rain")])
        print(retry_failed("album"), "planned again")
    """
    with _opened_to_change(folder_of(folder, journal)) as store:
        return retry_items(store)


def release(
    folder: str | os.PathLike[str],
    names: Iterable[str],
    *,
    journal: str | os.PathLike[str] | None = None,
) -> int:
    """Declare that held items of a folder made no track; see `Batch.release`.

    Args:
        folder: The batch's, or its URL.
        names: As for `Batch.release`.
        journal: As for `Batch`.

    Raises:
        BatchLockedError: A runner is working there.
        BatchError: One of them is not held, or as `read_summary`; none was released.

    Example:
        from finetuning_async.batch import Batch, BatchError, release

        async with Batch(client, "album") as batch:
            await batch.add([GenerationRequest("rain")])
        try:
            release("album", ["track-1"])
        except BatchError as error:
            print(error)
    """
    with _opened_to_change(folder_of(folder, journal)) as store:
        return release_items(store, names)


def retry_items(store: JournalStore) -> int:
    """As `retry_failed`, in a store."""
    items = list(store.rows("failed"))
    for item in items:
        store.record(item, step(item.entry, Retried())[0])
    return len(items)


def release_items(store: JournalStore, names: Iterable[str]) -> int:
    """As `release`, in a store."""
    found = {item.seq: item for item in (_held(store, name) for name in names)}
    for item in found.values():
        store.record(item, step(item.entry, Released())[0])
    return len(found)


def _held(store: JournalStore, name: str) -> Item:
    item = store.find(name)
    if item is None:
        raise BatchError(
            f"there is no item {name}; none was released. errors.jsonl lists those"
            " that are held"
        )
    if item.entry.state != "held":
        raise BatchError(
            f"item {name} is {item.entry.state}, not held; none was released. Leave it"
            " out"
        )
    return item


@contextmanager
def _opened_to_read(folder: Folder) -> Generator[JournalStore]:
    _check_is_batch(folder)
    store = folder.read_store()
    try:
        yield store
    finally:
        store.close()


@contextmanager
def _opened_to_change(folder: Folder) -> Generator[JournalStore]:
    _check_is_batch(folder)
    folder.open()
    try:
        store = folder.open_store()
        try:
            yield store
        finally:
            store.close()
    finally:
        folder.close()


def _check_is_batch(folder: Folder) -> None:
    if not folder.is_batch:
        raise BatchError(
            f"{folder.location} contains no batch; give the folder that a batch was run"
            " with"
        )
