"""What a journal is bound to: the account that made it, and its place on the disk.

A journal belongs to an account, not to an API key: a new key of the same account goes
on. With another account's key all its tracks would seem to be deleted.
"""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from finetuning_async._errors import NotFoundError
from finetuning_async._session import session_of
from finetuning_async.journal import BatchError

if TYPE_CHECKING:
    from finetuning_async._api import Account
    from finetuning_async._client import AsyncClient
    from finetuning_async.journal import Item, Journal, JournalStore, State

ACCOUNT: Final = "account"
"""The note that says which account made the journal."""

PLACE: Final = "place"
"""The note that says where on the disk the journal is."""

SAMPLE: Final = 3
"""Tracks of each kind by which the account of an older version's journal is checked."""


async def bind_account(client: AsyncClient, journal: Journal, name: str) -> None:
    """Check that the client's account made the journal; bind a journal that has none.

    Args:
        client: Its account counts.
        journal: The journal.
        name: How messages call it.

    Raises:
        BatchError: Another account made it; nothing was changed.
        FinetuningError: The account could not be read.
    """
    account = await client.me()
    if await journal.call(journal.store.read_note, ACCOUNT) is None:
        await _check_tracks(client, journal, name, account)
        url = session_of(client).settings.base_url
        note = json.dumps({"id": account.id, "base_url": url})
        await journal.call(journal.store.write_note, ACCOUNT, note)
    # Read it again: of two workers that bind it at once, the last one wins, and the
    # other must see that.
    bound = await journal.call(journal.store.read_note, ACCOUNT)
    check_account(bound, account, session_of(client).settings.base_url, name)


def check_account(note: str | None, account: Account, url: str, name: str) -> None:
    """Check an account against the note of `bind_account`; `None` is no account yet.

    Raises:
        BatchError: It is another account.
    """
    owner = {"id": account.id, "base_url": url} if note is None else json.loads(note)
    if owner["id"] != account.id:
        raise BatchError(
            f"{name} was made by account {owner['id']} (at {owner['base_url']}), but"
            f" this API key belongs to account {account.id} (at {url}). Nothing was"
            " sent or changed. Use a key of the account that made it (a new key will"
            " do), or another folder or journal"
        )


async def _check_tracks(
    client: AsyncClient, journal: Journal, name: str, account: Account
) -> None:
    """Check the account of a journal that does not name it, by a few of its tracks.

    Raises:
        BatchError: The account has none of them.
    """
    store = journal.store
    pending = await journal.call(lambda: _some(store, "accepted", "completed"))
    if not pending:
        return
    for item in (*pending, *await journal.call(lambda: _some(store, "downloaded"))):
        try:
            await client.generations.get(str(item.entry.track_id))
        except NotFoundError:
            continue
        return
    raise BatchError(
        f"{name} waits for tracks such as {pending[0].entry.track_id}, but account"
        f" {account.id} of this API key has none of them. Nothing was sent or changed."
        " Use a key of the account that made them"
    )


def _some(store: JournalStore, *states: State) -> list[Item]:
    """A few items in these states that have a track."""
    found = (item for item in store.rows(*states) if item.entry.track_id is not None)
    return list(islice(found, SAMPLE))


def claim_place(store: JournalStore, journal: Path) -> None:
    """Note where the journal is; refuse a copy whose original is still there.

    A folder may be moved. A copy may replace an original that was deleted, and may go
    on independently once everything is made. But two journals that both know what is
    still to be made would both pay for it.

    Args:
        store: The journal.
        journal: Its file.

    Raises:
        BatchError: It is such a copy.
    """
    known, here = store.read_note(PLACE), _place(journal)
    if known == here:
        return
    if known is not None and not store.summary().is_done:
        path, *inode = json.loads(known)
        # A moved file keeps its device and inode; a copy gets another one, while the
        # original still has the one in the note.
        if inode != json.loads(here)[1:] and _is_at(Path(path), inode):
            original = Path(path).parent
            raise BatchError(
                f"{journal.parent} is a copy of {original}, which still exists: both"
                " would pay for the tracks that are left. Resume there, or remove"
                f" {original} to resume here"
            )
    store.write_note(PLACE, here)


def _place(journal: Path) -> str:
    facts = journal.stat()
    return json.dumps([str(journal.resolve()), facts.st_dev, facts.st_ino])


def _is_at(journal: Path, inode: list[int]) -> bool:
    try:
        facts = journal.stat()
    except OSError:
        return False
    return [facts.st_dev, facts.st_ino] == inode
