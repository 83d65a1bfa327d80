"""The rules of the journal: one state machine per item. Pure.

    planned ─ Sending → intent ─ Accepted → accepted ─ Ended → completed ─ Saved
       ↑                  │                     │                  ↑       ↓
       ├──── NotSent ─────┤                     └→ failed       Missing downloaded
       │                  └ Lost, Restarted → unknown ─ Found → accepted
       ├──── Absent ──────────────────────────────┤
       └──── Released ──── held ←──── Held ───────┘      held ─ Found → accepted
    planned ─ Adopted → downloaded, completed, failed, held

An event is committed before anything that relies on it is done: `Sending` before the
first byte of a create leaves, `Accepted` before its track is waited for. So a crash
between any two of them leaves a state from which `Restarted` knows the way.
"""

from __future__ import annotations

import json
from enum import Enum
from functools import singledispatch
from typing import Final, Literal, TypeAlias

import attrs

from finetuning_async.journal._errors import JournalError

State: TypeAlias = Literal[
    "planned",
    "intent",
    "unknown",
    "held",
    "accepted",
    "completed",
    "downloaded",
    "failed",
]
STATES: Final[tuple[State, ...]] = (
    "planned",
    "intent",
    "unknown",
    "held",
    "accepted",
    "completed",
    "downloaded",
    "failed",
)
IN_DOUBT: Final[frozenset[State]] = frozenset({"intent", "unknown", "held"})
"""A create was sent, or may have been, and nobody knows whether it was paid."""


class Action(Enum):
    """What is to be done next about an item."""

    SEND = "send"
    LOOK_UP = "look up"
    WAIT = "wait"
    DOWNLOAD = "download"
    REPORT = "report"


@attrs.frozen(kw_only=True)
class Entry:
    """Where an item stands.

    Attributes:
        state: One of `STATES`.
        seed: What its creates carry; `None` before the first.
        sent_at: When the first create left whose fate is or was in doubt, in seconds of
            the service's clock since 1970; `None` before.
        lost_at: When it, or a later one, was given up, likewise.
        track_id: The track, once accepted.
        former: Ids of earlier tracks, which failed.
        accepts: How many tracks were accepted for it: the credits it took.
        fails: How many of them failed.
        code: The service's error code, or a word of ours, if something is wrong.
        error: The same for people.
        result: What became of the track, as JSON.
    """

    state: State = "planned"
    seed: int | None = None
    sent_at: float | None = None
    lost_at: float | None = None
    track_id: str | None = None
    former: tuple[str, ...] = ()
    accepts: int = 0
    fails: int = 0
    code: str | None = None
    error: str | None = None
    result: str | None = None


@attrs.frozen
class Sending:
    """A create with this seed leaves now, at this time of the service's clock."""

    seed: int
    at: float


@attrs.frozen
class NotSent:
    """The create did not leave, or was refused; it may be made again."""


@attrs.frozen
class Rejected:
    """The service will not take it, now or later; nothing was paid."""

    code: str | None
    error: str


@attrs.frozen
class Accepted:
    """The service took the create."""

    track_id: str


@attrs.frozen
class Lost:
    """The create left, and what became of it could not be learned."""

    at: float
    error: str


@attrs.frozen
class Restarted:
    """The runner that made the last event is gone; another begins."""

    at: float


@attrs.frozen
class Found:
    """The track of a create in doubt was found."""

    track_id: str


@attrs.frozen
class Absent:
    """It is proved that a create in doubt made no track, or a person takes the risk."""


@attrs.frozen
class Held:
    """The fate of a create cannot be learned by a program."""

    reason: str


@attrs.frozen
class Released:
    """A person says that a held create made no track."""


@attrs.frozen
class Ended:
    """The track ended.

    Attributes:
        failed: Whether it failed.
        result: What became of it, as JSON.
        code: Of the failure.
        error: The same for people.
    """

    failed: bool
    result: str | None = None
    code: str | None = None
    error: str | None = None


@attrs.frozen
class Saved:
    """The file is whole and in its place.

    Attributes:
        size: Its bytes.
        file: Its name, if somebody else's file has the item's own.
    """

    size: int | None = None
    file: str | None = None


@attrs.frozen
class Missing:
    """The file is gone, or cut short."""


@attrs.frozen
class Adopted:
    """What became of an item is known from what is in the folder; nothing is paid.

    Attributes:
        state: Where it stands: ``downloaded``, ``completed``, ``failed`` or ``held``.
        track_id: Its track, if that is known.
        seed: What its create carried, likewise.
        result: What became of the track, as JSON.
        code: The service's error code, or a word of ours, if something is wrong.
        error: The same for people.
    """

    state: State
    track_id: str | None = None
    seed: int | None = None
    result: str | None = None
    code: str | None = None
    error: str | None = None


@attrs.frozen
class Retried:
    """A person asks for a failed item again."""


Event: TypeAlias = (
    Sending
    | NotSent
    | Rejected
    | Accepted
    | Lost
    | Restarted
    | Found
    | Absent
    | Held
    | Released
    | Ended
    | Saved
    | Missing
    | Adopted
    | Retried
)

NEXT: Final[dict[State, Action | None]] = {
    "planned": Action.SEND,
    "intent": None,
    "unknown": Action.LOOK_UP,
    "held": Action.REPORT,
    "accepted": Action.WAIT,
    "completed": Action.DOWNLOAD,
    "downloaded": Action.REPORT,
    "failed": Action.REPORT,
}
"""What a state asks for; an intent is the business of the create that made it."""

_ALLOWED: Final[dict[type, frozenset[State]]] = {
    Sending: frozenset({"planned"}),
    NotSent: frozenset({"intent"}),
    Rejected: frozenset({"planned", "intent"}),
    Accepted: frozenset({"intent"}),
    Lost: frozenset({"intent"}),
    Restarted: frozenset(STATES),
    Found: frozenset({"unknown", "held"}),
    Absent: frozenset({"unknown"}),
    Held: frozenset({"unknown"}),
    Released: frozenset({"held"}),
    Ended: frozenset({"accepted"}),
    Saved: frozenset({"completed"}),
    Missing: frozenset({"downloaded"}),
    Adopted: frozenset({"planned"}),
    Retried: frozenset({"failed"}),
}


def step(entry: Entry, event: Event) -> tuple[Entry, Action | None]:
    """What an event makes of an item.

    Args:
        entry: Where it stood.
        event: What happened.

    Returns:
        Where it stands, to be committed; and what to do once that is done.

    Raises:
        JournalError: The event cannot happen in this state.
    """
    if entry.state not in _ALLOWED[type(event)]:
        raise JournalError(
            f"{type(event).__name__} cannot happen to an item that is {entry.state}"
        )
    after = _after(event, entry)
    return after, NEXT[after.state]


@singledispatch
def _after(event: object, entry: Entry) -> Entry:
    raise JournalError(f"{event!r} is no event (of {entry.state})")


@_after.register
def _(event: Sending, entry: Entry) -> Entry:
    # A second send after a proof of absence keeps the time of the first: a proof that
    # was wrong can then still be mended by a later look.
    sent_at = event.at if entry.sent_at is None else entry.sent_at
    return attrs.evolve(
        entry,
        state="intent",
        seed=event.seed,
        sent_at=sent_at,
        code=None,
        error=None,
    )


@_after.register
def _(event: NotSent, entry: Entry) -> Entry:
    del event
    never_lost = entry.lost_at is None
    sent_at = None if never_lost else entry.sent_at
    return attrs.evolve(entry, state="planned", sent_at=sent_at)


@_after.register
def _(event: Rejected, entry: Entry) -> Entry:
    return attrs.evolve(entry, state="failed", code=event.code, error=event.error)


@_after.register
def _(event: Accepted, entry: Entry) -> Entry:
    return _taken(entry, event.track_id)


@_after.register
def _(event: Found, entry: Entry) -> Entry:
    return _taken(entry, event.track_id)


def _taken(entry: Entry, track_id: str) -> Entry:
    return attrs.evolve(
        entry,
        state="accepted",
        track_id=track_id,
        accepts=entry.accepts + 1,
        code=None,
        error=None,
    )


@_after.register
def _(event: Lost, entry: Entry) -> Entry:
    return attrs.evolve(
        entry, state="unknown", lost_at=event.at, code="unknown", error=event.error
    )


@_after.register
def _(event: Restarted, entry: Entry) -> Entry:
    if entry.state != "intent":
        return entry
    lost = Lost(event.at, "the program ended while its create was on the way")
    return _after(lost, entry)


@_after.register
def _(event: Absent, entry: Entry) -> Entry:
    del event
    return attrs.evolve(entry, state="planned", code=None, error=None)


@_after.register
def _(event: Held, entry: Entry) -> Entry:
    return attrs.evolve(entry, state="held", code="held", error=event.reason)


@_after.register
def _(event: Released, entry: Entry) -> Entry:
    del event
    return attrs.evolve(entry, state="planned", code=None, error=None)


@_after.register
def _(event: Ended, entry: Entry) -> Entry:
    return attrs.evolve(
        entry,
        state="failed" if event.failed else "completed",
        fails=entry.fails + event.failed,
        code=event.code,
        error=event.error,
        result=event.result,
    )


@_after.register
def _(event: Saved, entry: Entry) -> Entry:
    told = attrs.asdict(event, filter=lambda _, value: value is not None)
    if told:
        told = json.loads(entry.result or "{}") | told
    result = json.dumps(told, ensure_ascii=False) if told else entry.result
    return attrs.evolve(entry, state="downloaded", result=result)


@_after.register
def _(event: Missing, entry: Entry) -> Entry:
    del event
    if entry.track_id is not None:
        return attrs.evolve(entry, state="completed")
    error = "its file is gone, and no id is known by which to fetch it again"
    return attrs.evolve(entry, state="failed", code="missing", error=error)


@_after.register
def _(event: Adopted, entry: Entry) -> Entry:
    has_track = event.track_id is not None
    return attrs.evolve(
        entry,
        accepts=entry.accepts + has_track,
        fails=entry.fails + (has_track and event.state == "failed"),
        **attrs.asdict(event),
    )


@_after.register
def _(event: Retried, entry: Entry) -> Entry:
    """Start anew; a new seed, since the old one may show a track that failed."""
    del event
    former = entry.former if entry.track_id is None else (*entry.former, entry.track_id)
    return Entry(former=former, accepts=entry.accepts, fails=entry.fails)
