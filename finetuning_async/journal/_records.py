"""Rows as requested, items as recorded, and their numbers."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit, urlunsplit

import attrs

from finetuning_async._api import (
    REQUESTS,
    AnyRequest,
    GenerationRequest,
    InstrumentalRequest,
)
from finetuning_async.journal._file_names import file_name
from finetuning_async.journal._state_machine import IN_DOUBT, STATES, Entry, State

logger = logging.getLogger("finetuning_async")

Request: TypeAlias = GenerationRequest | InstrumentalRequest
"""What a batch can create. Not sound effects: they carry no seed, so one whose response
was lost could not be found again."""

BATCH_REQUESTS: Final[dict[str, type[Request]]] = {
    "music": GenerationRequest,
    "instrumental": InstrumentalRequest,
}
FREE: Final = "sound_effect"
"""The kind that costs no credit."""

FIELDS: Final[dict[str, tuple[str, ...]]] = {
    kind: tuple(
        field.name
        for field in attrs.fields(request)
        # The key is a column of its own.
        if field.name != "idempotency_key"
    )
    for kind, request in REQUESTS.items()
}
TERMS: Final = ("priority", "share")
"""Those of them that say how a request waits, not what it makes."""

DEFAULTS: Final = {"enhance": True}
REMOVED: Final = "?"
"""The end of a stored webhook whose secret part was removed."""

DIGEST_LENGTH: Final = 32
"""Hexadecimal characters at the end of the key of an item without a `custom_id`."""

_ENCODER: Final = json.JSONEncoder(sort_keys=True, ensure_ascii=False)

SHORT_LENGTH: Final = 12
"""How many of them are shown as the item's name."""


@attrs.frozen(kw_only=True)
class Row:
    """One track to make.

    Attributes:
        request: What to create.
        custom_id: The caller's own name for it, unique in the batch; by default the
            request's `idempotency_key`.
        line: Its line in the input, from 1.

    Example:
        from finetuning_async.batch import Batch, Row

        async with Batch(client, "album") as batch:
            rain = GenerationRequest("rain", duration=30)
            await batch.add([Row(request=rain, custom_id="track-1")])
    """

    request: Request
    custom_id: str | None = None
    line: int | None = None


RowLike: TypeAlias = Row | Request | str | Mapping[str, object]
"""A row, or what is made one: a request, the prompt of one for music, or the parameters
of one by name, with a `custom_id` if wanted."""


@attrs.frozen(kw_only=True)
class NewItem:
    """A row as the journal stores it.

    Attributes:
        key: Unique. The caller's, in a client's journal. In a batch it is made from the
            `custom_id`; without one, from the content and how many rows of the same
            content came before.
        custom_id: As in `Row`.
        line: As in `Row`.
        kind: ``music``, ``instrumental`` or ``sound_effect``.
        body: The parameters that were set, as JSON with sorted names; see `body_of`.
            `TERMS` are among them, but not part of its `content`.
        file: The name of its MP3; empty in a client's journal, which keeps no files.
        share: The end user or tenant it is for, if the client has named one.
    """

    key: str
    custom_id: str | None
    line: int | None
    kind: str
    body: str
    file: str
    share: str | None = None

    @property
    def content(self) -> str:
        """What its track is made from: `body` without `TERMS`."""
        if not any(f'"{name}"' in self.body for name in TERMS):  # cheaper to see
            return self.body
        parameters = json.loads(self.body)
        return _json({k: v for k, v in parameters.items() if k not in TERMS})


@attrs.frozen(kw_only=True)
class Item(NewItem):
    """An item of the journal.

    Attributes:
        seq: Its number in the journal: later items have higher ones, and none is used
            again.
        entry: Its recorded progress.
        created_at: When it was added, in seconds since 1970 by the store's clock.
        updated_at: When it was changed, likewise.
        spent_at: Until when its last credit may have been taken, likewise; `None` for
            `updated_at`.
    """

    seq: int
    entry: Entry
    created_at: float = 0.0
    updated_at: float = 0.0
    spent_at: float | None = None

    @property
    def request(self) -> Any:  # a batch knows that it holds no sound effect
        """What to create; its webhook is without its query, login and fragment."""
        parameters = json.loads(self.body)
        if self.has_lost_webhook:
            parameters["webhook"] = parameters["webhook"].removesuffix(REMOVED)
        return REQUESTS[self.kind](**parameters)

    @property
    def has_lost_webhook(self) -> bool:
        """Whether a secret part of its webhook was removed before it was stored."""
        if '"webhook"' not in self.body:  # cheaper than to parse it
            return False
        webhook = json.loads(self.body).get("webhook")
        return isinstance(webhook, str) and webhook.endswith(REMOVED)

    @property
    def result(self) -> dict[str, Any]:
        """The facts about its track, as far as known."""
        result: dict[str, Any] = json.loads(self.entry.result or "{}")
        return result

    @property
    def saved_as(self) -> str:
        """The name of its MP3: `file`, unless that was taken when it was saved."""
        return str(self.result.get("file", self.file))

    @property
    def name(self) -> str:
        """What messages call it: by its `custom_id`, else by the start of its key."""
        if not self.file:  # the key is the caller's
            return self.key
        return self.custom_id or self.key[-DIGEST_LENGTH:][:SHORT_LENGTH]


class ItemFactory:
    """Makes items from rows, and requests from items.

    It counts how often each content came. It remembers the webhooks of its rows, whose
    secret parts are not stored.

    Args:
        batch: The name of the batch, where one journal holds several: it begins the
            keys of the batch's items, and is the folder of their files.
    """

    def __init__(self, batch: str | None = None) -> None:
        self._prefix = "" if batch is None else f"{batch}/"
        self._seen: dict[bytes, int] = {}
        self._webhooks: dict[str, str] = {}
        self._has_warned = False

    def item(self, row: Row) -> NewItem:
        """The item of a row."""
        request = row.request
        # Where both are given they are the same: the input was checked for it.
        custom_id = row.custom_id or request.idempotency_key
        kind = request.kind
        # Of the whole webhook, as ever: so a batch that an earlier version began knows
        # its rows again.
        parameters = {k: v for k, v in _parameters(request).items() if k not in TERMS}
        content = f"{kind}\n{_json(parameters)}"
        digest = blake2b(content.encode(), digest_size=16)
        if custom_id is None:
            # Two equal rows are two tracks. The second gets another key, and the same
            # one whenever the same input is read again.
            occurrence = self._seen.get(digest.digest(), 0) + 1
            self._seen[digest.digest()] = occurrence
            if occurrence > 1:
                digest.update(f"\n{occurrence}".encode())
            key = digest.hexdigest()
        else:
            key = f"id:{custom_id}"
        if has_secrets(request.webhook):
            self._webhooks[self._prefix + key] = str(request.webhook)
        return NewItem(
            key=self._prefix + key,
            custom_id=custom_id,
            line=row.line,
            kind=kind,
            body=body_of(request),
            share=request.share,
            file=self._prefix + file_name(request.prompt, key, custom_id),
        )

    def request(self, item: Item) -> Any:
        """The request of an item, with the whole webhook if one of its rows had it."""
        request = item.request
        if not item.has_lost_webhook:
            return request
        webhook = self._webhooks.get(item.key)
        if webhook is not None:
            return attrs.evolve(request, webhook=webhook)
        if not self._has_warned:
            self._has_warned = True
            logger.warning(
                "%s, and maybe others, sends its webhook to %s without its query, which"
                " is a secret and not stored; add the same rows again in this program",
                item.name,
                request.webhook,
            )
        return request


def has_secrets(webhook: str | None) -> bool:
    """Whether a webhook has a query, a login or a fragment."""
    return webhook is not None and _public_part(webhook) != webhook


def body_of(request: AnyRequest) -> str:
    """The parameters of a request that were set, as JSON with sorted names.

    Not among them: its `idempotency_key`, which is the item's key, and what may be
    secret in its webhook, the query, login and fragment.
    """
    return without_secrets(_json(_parameters(request)))


def _parameters(request: AnyRequest) -> dict[str, Any]:
    return {
        name: value
        for name in FIELDS[request.kind]
        if (value := getattr(request, name)) is not None
        and DEFAULTS.get(name) is not value
    }


def _json(parameters: dict[str, Any]) -> str:
    return _ENCODER.encode(parameters)


def without_secrets(text: str) -> str:
    """A JSON object without the query, login and fragment of its webhook.

    Where there were any the webhook ends with ``?``. Other text stays as it is.
    """
    if '"webhook"' not in text:
        return text
    parameters = json.loads(text)
    webhook = parameters.get("webhook")
    if isinstance(webhook, str):
        parameters["webhook"] = _public_part(webhook)
    return _json(parameters)


def _public_part(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return REMOVED
    host = parts.netloc.rpartition("@")[2]
    public = urlunsplit((parts.scheme, host, parts.path, "", ""))
    return public if public == url else public + REMOVED


def costs_credits(item: NewItem) -> bool:
    """Whether the track of an item takes a credit, as all but sound effects do."""
    return item.kind != FREE


@attrs.frozen(kw_only=True)
class Summary:
    """A journal in numbers.

    Attributes:
        states: How many items are in each state.
        accepts: Tracks accepted in all: the credits that were certainly spent. Sound
            effects are not counted, since they cost none.
        fails: How many of them failed.

    Example:
        from finetuning_async.batch import Batch

        async with Batch(client, "album") as batch:
            await batch.add([GenerationRequest("rain")])
            print(batch.summary.total, batch.summary.spent, batch.summary.is_done)
    """

    states: Mapping[State, int]
    accepts: int = 0
    fails: int = 0

    @property
    def total(self) -> int:
        """How many items there are."""
        return sum(self.states.values())

    @property
    def in_doubt(self) -> int:
        """How many items may have been charged, without confirmation."""
        return sum(self.states[state] for state in IN_DOUBT)

    @property
    def spent(self) -> int:
        """Credits spent, those in doubt included."""
        return self.accepts + self.in_doubt

    @property
    def is_done(self) -> bool:
        """Whether every item is downloaded or failed."""
        return self.states["downloaded"] + self.states["failed"] == self.total

    def as_dict(self) -> dict[str, Any]:
        """The numbers by name, for JSON."""
        return {
            "total": self.total,
            **{state: self.states[state] for state in STATES},
            "credits_spent": self.accepts,
            "credits_possibly_spent": self.in_doubt,
        }


@attrs.frozen
class Added:
    """How many items of one `Batch.add` were new.

    Attributes:
        new: How many were added.
        known: How many were in the journal already.

    Example:
        from finetuning_async.batch import Batch

        async with Batch(client, "album") as batch:
            added = await batch.add([GenerationRequest("rain")])
            print(added.new, "new,", added.known, "known")
    """

    new: int
    known: int
