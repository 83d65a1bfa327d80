"""`JournalEntry`: an item of a client's journal, as its callers see it."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any

import attrs

from finetuning_async._api import AnyRequest, Generation, SoundEffect, parsing
from finetuning_async._errors import APIResponseError
from finetuning_async.journal._state_machine import IN_DOUBT, State

if TYPE_CHECKING:
    from finetuning_async.journal._records import Item


@attrs.frozen(kw_only=True)
class JournalEntry:
    """What a client's journal knows about one create.

    Attributes:
        key: The idempotency key; a generated one where the caller gave none.
        state: How far it has got: ``planned``, ``sending``, ``accepted``,
            ``completed``, ``downloaded`` or ``failed``; ``unknown`` if its response was
            lost, and ``held`` if no program can learn more.
        request: What was asked for; its webhook is without its query, login and
            fragment.
        generation_id: The id of its track, once it was accepted.
        generation: The track as it was last recorded: when it was accepted, and when it
            ended.
        error: What is wrong, for people.
        credits: What it has cost: one for each accepted track, and one if it is in
            doubt. Sound effects cost none.
        share: The end user or tenant that it was made for.
        created_at: When it was recorded first, in UTC.
        updated_at: When it was changed last, in UTC.

    Example:
        async with AsyncClient(journal="tracks.db") as client:
            entry = await client.journal.get("order-42")
            if entry is not None:
                print(entry.state, entry.generation_id, entry.credits)
    """

    key: str
    state: State
    request: AnyRequest
    generation_id: str | None
    generation: Generation | SoundEffect | None
    error: str | None
    credits: int
    share: str | None
    created_at: dt.datetime
    updated_at: dt.datetime

    @classmethod
    def of(cls, item: Item) -> JournalEntry:
        """The entry of an item."""
        entry, is_effect = item.entry, item.kind == "sound_effect"
        cost = 0 if is_effect else entry.accepts + (entry.state in IN_DOUBT)
        return cls(
            key=item.key,
            state=entry.state,
            request=item.request,
            generation_id=entry.track_id,
            generation=_track(item),
            error=entry.error,
            credits=cost,
            share=item.share,
            created_at=_utc(item.created_at),
            updated_at=_utc(item.updated_at),
        )


def _track(item: Item) -> Generation | SoundEffect | None:
    """The track whose JSON an entry holds, if it holds one."""
    raw: Any = json.loads(item.entry.result or "null")
    if not isinstance(raw, dict) or raw.get("id") != item.entry.track_id:
        return None  # a batch keeps other facts
    is_effect = item.kind == "sound_effect"
    parse = parsing.sound_effect_row if is_effect else parsing.generation_row
    try:
        return parse(raw)
    except APIResponseError:
        return None


def _utc(moment: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(moment, dt.UTC)
