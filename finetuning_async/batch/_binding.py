"""Whose journal it is: the account that made it, and the folder where it was made.

A journal belongs to an account, not to a key: a new key of the same account goes on.
Under another account's key its tracks would look as if they were gone.
"""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from finetuning_async._errors import NotFoundError
from finetuning_async.batch._client_access import session_of
from finetuning_async.journal import BatchError

if TYPE_CHECKING:
    from finetuning_async._api import Account
    from finetuning_async._client import AsyncClient
    from finetuning_async.journal import Item, Journal, JournalStore, State

ACCOUNT: Final = "account"
PLACE: Final = "place"

SAMPLE: Final = 3
"""Tracks of each kind by which a journal of an older version is known."""


async def bind(client: AsyncClient, journal: Journal, name: str) -> None:
    """Check that the key's account is the journal's; bind a journal that has none.

    Args:
        client: Whose account counts.
        journal: Which.
        name: What to call it.

    Raises:
        BatchError: It is another account's; nothing was changed.
        FinetuningError: The account could not be read.
    """
    account = await client.me()
    if await journal.call(journal.store.read_note, ACCOUNT) is None:
        await _check_tracks(client, journal, name, account)
        url = session_of(client).settings.base_url
        note = json.dumps({"id": account.id, "base_url": url})
        await journal.call(journal.store.write_note, ACCOUNT, note)
    # Read again: of two workers that bind it at once, one was the last.
    bound = await journal.call(journal.store.read_note, ACCOUNT)
    check_account(bound, account, session_of(client).settings.base_url, name)


def check_account(note: str | None, account: Account, url: str, name: str) -> None:
    """Check an account against what `bind` noted; `None` is nobody's.

    Raises:
        BatchError: It is another's.
    """
    owner = {"id": account.id, "base_url": url} if note is None else json.loads(note)
    if owner["id"] != account.id:
        raise BatchError(
            f"{name} was made by the account {owner['id']} (at {owner['base_url']});"
            f" this key is of the account {account.id} (at {url}). Use a key of the"
            " account that made it, new ones will do; or begin another folder, or"
            " journal. Nothing was sent or changed"
        )


async def _check_tracks(
    client: AsyncClient, journal: Journal, name: str, account: Account
) -> None:
    """Check that a journal older than this check is this account's, as far as it shows.

    Raises:
        BatchError: What it waits for is not there.
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
        f"{name} waits for tracks such as {pending[0].entry.track_id}, and the account"
        f" {account.id} of this key has none of them. Use the key that made them."
        " Nothing was sent or changed"
    )


def _some(store: JournalStore, *states: State) -> list[Item]:
    """A few items in these states that have a track."""
    found = (item for item in store.rows(*states) if item.entry.track_id is not None)
    return list(islice(found, SAMPLE))


def take_place(store: JournalStore, journal: Path) -> None:
    """Note where the journal is; refuse a copy whose original is still in use.

    A folder may be moved; a copy may take the place of an original that is gone, or go
    its own way when all is made. But two journals that both know what is still to be
    made would both pay for it.

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
        path, *number = json.loads(known)
        if number != json.loads(here)[1:] and _is_at(Path(path), number):
            original = Path(path).parent
            raise BatchError(
                f"{journal.parent} is a copy of {original}, which is still there: both"
                " would pay for what is to be made. Go on there; or, for this one to"
                f" take its place, remove {original}"
            )
    store.write_note(PLACE, here)


def _place(journal: Path) -> str:
    facts = journal.stat()
    return json.dumps([str(journal.resolve()), facts.st_dev, facts.st_ino])


def _is_at(journal: Path, number: list[int]) -> bool:
    try:
        facts = journal.stat()
    except OSError:
        return False
    return [facts.st_dev, facts.st_ino] == number
