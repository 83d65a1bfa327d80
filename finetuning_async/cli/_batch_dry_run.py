"""``batch run --dry-run``: what a run would cost, and how long it would take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from finetuning_async._errors import APIConnectionError
from finetuning_async.batch import (
    ACCOUNT,
    Existing,
    Folder,
    check_account,
    existing_error,
)
from finetuning_async.cli._output import (
    duration_text,
    print_json,
    say,
    shown,
    yes_or_no,
)
from finetuning_async.cli._tables import print_fields
from finetuning_async.journal import ItemFactory, NewItem

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from finetuning_async import Account, AsyncClient
    from finetuning_async.cli._batch_settings import RunSettings
    from finetuning_async.journal import Item

    Connect = Callable[[RunSettings], AbstractAsyncContextManager[AsyncClient]]

ACCOUNT_TIMEOUT: Final = 15.0
"""Seconds for reading the credits, which a dry run can do without."""


@attrs.frozen
class _Plan:
    """What a run would do.

    Attributes:
        rows: How many rows the input has.
        known: How many of them are done, or in progress.
        planned: What would be created, for a credit each; rows of earlier runs too.
    """

    rows: int
    known: int
    planned: list[NewItem]


async def plan_run(settings: RunSettings, connect: Connect) -> int:
    """Print what a run would cost, and how long it would take.

    Args:
        settings: The arguments of the run.
        connect: Makes the client.

    Raises:
        BatchError: A run would be rejected.
        FinetuningError: The service rejects the key.
    """
    folder = settings.folder()
    account_note, known = _read_existing_batch(folder)
    plan = _plan(settings, folder, known)
    # At the speed of the service; a faster emulator divides all of it.
    queue = settings.queue or settings.assumed_queue
    async with connect(attrs.evolve(settings, queue=queue, speed=1)) as client:
        account = await _account(settings, client)
        if account is not None:
            check_account(account_note, account, settings.url, str(settings.out))
        count = len(plan.planned)
        estimate = client.estimate(count, priority="low") if count else None
    seconds = estimate.last_completed / settings.speed if estimate else 0.0
    _print(settings, plan, account, seconds)
    return 0


async def _account(settings: RunSettings, client: AsyncClient) -> Account | None:
    """The account; `None` without a key or a network, which is no error here."""
    if settings.key is None:
        say("note: the credits are not checked: no API key")
        return None
    try:
        return await client.me(timeout=ACCOUNT_TIMEOUT, max_retries=1)
    except APIConnectionError as error:
        say(f"note: the credits are not checked: {shown(str(error))}")
        return None


def _print(
    settings: RunSettings, plan: _Plan, account: Account | None, seconds: float
) -> None:
    left = None if account is None else account.total_remaining
    enough = None if left is None else left >= len(plan.planned)
    facts: dict[str, Any] = {
        "rows": plan.rows,
        "known": plan.known,
        "credits_needed": len(plan.planned),
        "credits_left": left,
        "enough": enough,
        "seconds": round(seconds, 1),
        "queue": settings.queue or settings.assumed_queue,
        "queue_is_assumed": settings.queue is None,
    }
    if settings.as_json:
        print_json(facts)
        return
    print_fields(
        {"rows": plan.rows, "known": plan.known}
        | {"credits needed": len(plan.planned), "credits left": left}
        | {"enough": yes_or_no(enough) or None}
        | {"takes about": duration_text(seconds)}
    )
    if settings.queue is None and plan.planned and not settings.common.quiet:
        say(
            f"note: assumes that {settings.assumed_queue} tracks may be in progress at"
            " once; if you know the number: --queue N"
        )


def _plan(settings: RunSettings, folder: Folder, known: list[Item]) -> _Plan:
    factory = ItemFactory()
    items = [factory.item(row) for row in settings.rows()]
    done = {item.key for item in known if item.entry.state != "planned"}
    done |= _adoptable_keys(settings, folder, items, known)
    new = [item for item in items if item.key not in done]
    rows = {item.key for item in items}
    left = [
        item for item in known if item.entry.state == "planned" and item.key not in rows
    ]
    return _Plan(len(items), len(items) - len(new), [*left, *new])


def _read_existing_batch(folder: Folder) -> tuple[str | None, list[Item]]:
    """The account of an existing batch, and its items; nothing if there is none."""
    if not folder.is_batch:
        return None, []
    store = folder.read_store()
    try:
        return store.read_note(ACCOUNT), list(store.rows())
    finally:
        store.close()


def _adoptable_keys(
    settings: RunSettings, folder: Folder, items: list[NewItem], known: list[Item]
) -> set[str]:
    """The keys of the items that a run would count as done.

    Raises:
        BatchError: A run would be rejected.
    """
    if folder.audio is not None and not folder.audio.is_dir():
        return set()
    found = Existing.read(folder).without(known).outcomes(items)
    if found and settings.options.existing == "refuse":
        raise existing_error(folder.location, found)
    return (
        {item.key for item, _ in found}
        if settings.options.existing == "adopt"
        else set()
    )
