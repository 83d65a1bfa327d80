"""What a batch is made of: rows that were asked for, and items that stand somewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final, TypeAlias

import attrs

from finetuning_async._api import GenerationRequest, InstrumentalRequest
from finetuning_async.journal._file_names import file_name
from finetuning_async.journal._state_machine import IN_DOUBT, STATES, Entry, State

Request: TypeAlias = GenerationRequest | InstrumentalRequest
"""What a batch can make. Sound effects carry no seed: a lost one could not be found."""

REQUESTS: Final[dict[str, type[Request]]] = {
    "music": GenerationRequest,
    "instrumental": InstrumentalRequest,
}
FIELDS: Final[dict[str, tuple[str, ...]]] = {
    kind: tuple(field.name for field in attrs.fields(request))
    for kind, request in REQUESTS.items()
}
DEFAULTS: Final = {"enhance": True}
DIGEST: Final = 32
"""Characters of a key that tell an item without a `custom_id`, at its end."""

SHORT: Final = 12
"""Characters of them that stand for it."""


@attrs.frozen(kw_only=True)
class Row:
    """One thing asked for.

    Attributes:
        request: What to make.
        custom_id: The caller's own name for it, unique in the batch.
        line: Where it stands in the input, from 1.

    Example:
        from finetuning_async.batch import Batch, Row

        async with Batch(client, "album") as batch:
            rain = GenerationRequest("rain", duration=30)
            await batch.add([Row(request=rain, custom_id="track-1")])
    """

    request: Request
    custom_id: str | None = None
    line: int | None = None


@attrs.frozen(kw_only=True)
class NewItem:
    """A row as the journal takes it in.

    Attributes:
        key: Tells the item from all others: from its `custom_id`, else from its content
            and how many of that content came before.
        custom_id: As in `Row`.
        line: As in `Row`.
        kind: ``music`` or ``instrumental``.
        body: What was set of the request, as JSON with sorted names.
        file: The name of its MP3.
    """

    key: str
    custom_id: str | None
    line: int | None
    kind: str
    body: str
    file: str


@attrs.frozen(kw_only=True)
class Item(NewItem):
    """An item of the journal.

    Attributes:
        seq: Its place, from 1.
        entry: Where it stands.
    """

    seq: int
    entry: Entry

    @property
    def request(self) -> Request:
        """What to make."""
        return REQUESTS[self.kind](**json.loads(self.body))

    @property
    def facts(self) -> dict[str, Any]:
        """What became of the track, as far as it is known."""
        facts: dict[str, Any] = json.loads(self.entry.result or "{}")
        return facts

    @property
    def saved_as(self) -> str:
        """The name of its MP3: `file`, unless that was taken when it was saved."""
        return str(self.facts.get("file", self.file))

    @property
    def name(self) -> str:
        """What to call it: its `custom_id`, else the start of its key."""
        return self.custom_id or self.key[-DIGEST:][:SHORT]


class Keys:
    """Makes items of rows; counts how often each content came.

    Args:
        batch: A name that sets its items apart from those of other batches in one
            journal: it begins their keys, and is the folder of their files.
    """

    def __init__(self, batch: str | None = None) -> None:
        self._prefix = "" if batch is None else f"{batch}/"
        self._seen: dict[bytes, int] = {}

    def item(self, row: Row) -> NewItem:
        """The item of a row."""
        request, custom_id = row.request, row.custom_id
        kind, body = request.kind, body_of(request)
        digest = blake2b(f"{kind}\n{body}".encode(), digest_size=16)
        if custom_id is None:
            occurrence = self._seen.get(digest.digest(), 0) + 1
            self._seen[digest.digest()] = occurrence
            if occurrence > 1:
                digest.update(f"\n{occurrence}".encode())
            key = digest.hexdigest()
        else:
            key = f"id:{custom_id}"
        return NewItem(
            key=self._prefix + key,
            custom_id=custom_id,
            line=row.line,
            kind=kind,
            body=body,
            file=self._prefix + file_name(request.prompt, key, custom_id),
        )


def body_of(request: Request) -> str:
    """What was set of a request, as JSON with sorted names."""
    given = {
        name: value
        for name in FIELDS[request.kind]
        if (value := getattr(request, name)) is not None
        and DEFAULTS.get(name) is not value
    }
    return json.dumps(given, sort_keys=True, ensure_ascii=False)


@attrs.frozen(kw_only=True)
class Summary:
    """A journal in numbers.

    Attributes:
        states: How many items are in each state.
        accepts: Tracks accepted in all: the credits spent for sure.
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
        """How many creates may have been paid."""
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
        """For JSON."""
        return {
            "total": self.total,
            **{state: self.states[state] for state in STATES},
            "credits_spent": self.accepts,
            "credits_possibly_spent": self.in_doubt,
        }
