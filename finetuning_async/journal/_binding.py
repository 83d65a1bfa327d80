"""The account that a journal is bound to.

A journal belongs to an account, not to an API key: a new key of the same account goes
on. With another account's key all its tracks would seem to be deleted.
"""

from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from finetuning_async._api import Call
from finetuning_async._constants import READ_TIMEOUT
from finetuning_async._errors import NotFoundError
from finetuning_async.journal._errors import BatchError
from finetuning_async.journal._service import read_account

if TYPE_CHECKING:
    from finetuning_async._api import Account
    from finetuning_async.journal._journal import Journal
    from finetuning_async.journal._records import Item
    from finetuning_async.journal._service import Service
    from finetuning_async.journal._state_machine import State
    from finetuning_async.journal._store import JournalStore

ACCOUNT: Final = "account"
"""The note that says which account made the journal."""

SAMPLE: Final = 3
"""Tracks of each kind by which the account of an older version's journal is checked."""


async def bind_account(service: Service, journal: Journal, name: str) -> None:
    """Check that an account made the journal; bind a journal that has none.

    Args:
        service: Its account counts.
        journal: The journal.
        name: How messages call it.

    Raises:
        BatchError: Another account made it; nothing was changed.
        FinetuningError: The account could not be read.
    """
    account = await read_account(service)
    if await journal.call(journal.store.read_note, ACCOUNT) is None:
        await _check_tracks(service, journal, name, account)
        note = json.dumps({"id": account.id, "base_url": service.settings.base_url})
        await journal.call(journal.store.write_note, ACCOUNT, note)
    # Read it again: of two workers that bind it at once, the last one wins, and the
    # other must see that.
    bound = await journal.call(journal.store.read_note, ACCOUNT)
    check_account(bound, account, service.settings.base_url, name)


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
    service: Service, journal: Journal, name: str, account: Account
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
        path = f"/v1/generations/{quote(str(item.entry.track_id), safe='')}"
        try:
            await service.request(Call(method="GET", path=path), READ_TIMEOUT)
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
