"""The rules of the journal: one state machine for each item. Pure.

    planned ─ Sending → sending ─ Accepted → accepted ─ Ended → completed ─ Saved
       ↑                  │                     │                  ↑       ↓
       ├──── NotSent ─────┤                     └→ failed       Missing downloaded
       │                  └ Lost, Restarted → unknown ─ Found → accepted
       ├──── Absent ──────────────────────────────┤
       └─ Released, Absent ─ held ←── Held ───────┘      held ─ Found → accepted
    planned ─ Adopted → downloaded, completed, failed, held

Also: planned or sending ─ Rejected → failed; failed ─ Retried → planned; and
planned ─ Claimed → planned, with another holder.

An event is committed before anything that relies on it is done: `Sending` before the
first byte of a create leaves, `Accepted` before its track is waited for. So a crash
between any two commits leaves a state from which the next run can continue.
"""

from __future__ import annotations

import json
from enum import Enum
from functools import singledispatch
from typing import Final, Literal, TypeAlias, get_args

import attrs

from finetuning_async.journal._errors import JournalError

State: TypeAlias = Literal[
    "planned",
    "sending",
    "unknown",
    "held",
    "accepted",
    "completed",
    "downloaded",
    "failed",
]
STATES: Final[tuple[State, ...]] = get_args(State)
IN_DOUBT: Final[frozenset[State]] = frozenset({"sending", "unknown", "held"})
"""States in which a create was sent, or may have been, and may have been charged."""


class Action(Enum):
    """What to do next with an item."""

    SEND = "send"
    LOOK_UP = "look up"
    WAIT = "wait"
    DOWNLOAD = "download"
    REPORT = "report"


@attrs.frozen(kw_only=True)
class Entry:
    """The recorded progress of an item.

    Attributes:
        state: One of `STATES`.
        seed: What its creates carry; `None` before the first.
        sent_at: When the first create was sent whose outcome is or was in doubt, in
            seconds of the service's clock since 1970; `None` before.
        lost_at: When that create, or a later one, was given up, likewise.
        track_id: The track, once accepted.
        former: Ids of earlier tracks, which failed.
        accepts: How many tracks were accepted for it: the credits it took.
        fails: How many of them failed.
        holder: Who alone may send its create, while its lease lasts; `None` where the
            journal keeps no leases.
        fence: How often it was claimed. A holder whose lease was taken over sees by it
            that it must stop.
        code: The service's error code, or ``unknown``, ``held`` or ``missing``, if
            something is wrong.
        error: The same for people.
        result: The facts about the track, as JSON.
    """

    state: State = "planned"
    seed: int | None = None
    sent_at: float | None = None
    lost_at: float | None = None
    track_id: str | None = None
    former: tuple[str, ...] = ()
    accepts: int = 0
    fails: int = 0
    holder: str | None = None
    fence: int = 0
    code: str | None = None
    error: str | None = None
    result: str | None = None


@attrs.frozen
class Claimed:
    """A process takes the lease of a planned item that has none, or an expired one."""

    holder: str


@attrs.frozen
class Sending:
    """A create with this seed is about to leave, at this time of the service's clock.

    Committed before its first byte leaves. Sound effects have no seed.
    """

    seed: int | None
    at: float


@attrs.frozen
class NotSent:
    """The create did not leave, or was refused; it may be sent again."""


@attrs.frozen
class Rejected:
    """The service will never accept it; nothing was charged."""

    code: str | None
    error: str


@attrs.frozen
class Accepted:
    """The service accepted the create.

    Attributes:
        track_id: The track.
        result: The facts about it, as JSON, where the journal keeps them that early.
    """

    track_id: str
    result: str | None = None


@attrs.frozen
class Lost:
    """The create left, and its outcome could not be learned."""

    at: float
    error: str


@attrs.frozen
class Restarted:
    """The process that recorded the last event has ended; another takes over."""

    at: float


@attrs.frozen
class Found:
    """The track of a create in doubt was found; see `Accepted`."""

    track_id: str
    result: str | None = None


@attrs.frozen
class Absent:
    """It is proved that a create in doubt made no track."""


@attrs.frozen
class Held:
    """No program can learn the outcome of a create; a person has to look."""

    reason: str


@attrs.frozen
class Released:
    """A person says that a held create made no track."""


@attrs.frozen
class Ended:
    """The track ended.

    Attributes:
        failed: Whether it failed.
        result: The facts about it, as JSON.
        code: The error code of the failure.
        error: The same for people.
    """

    failed: bool
    result: str | None = None
    code: str | None = None
    error: str | None = None


@attrs.frozen
class Saved:
    """The file is complete and under its final name.

    Attributes:
        size: Its size in bytes.
        file: Its name, if another file already had the item's own name.
    """

    size: int | None = None
    file: str | None = None


@attrs.frozen
class Missing:
    """The file was deleted or truncated."""


@attrs.frozen
class Adopted:
    """The outcome of an item was read from its folder; nothing is paid.

    Attributes:
        state: ``downloaded``, ``completed``, ``failed`` or ``held``.
        track_id: Its track, if known.
        seed: The seed that its create carried, if known.
        result: The facts about the track, as JSON.
        code: The service's error code, or a code of ours, if something is wrong.
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
    Claimed
    | Sending
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
    # Only the process that is sending this create can say what comes next. A process
    # that finds an intent it did not write records `Restarted` first.
    "sending": None,
    "unknown": Action.LOOK_UP,
    "held": Action.REPORT,
    "accepted": Action.WAIT,
    "completed": Action.DOWNLOAD,
    "downloaded": Action.REPORT,
    "failed": Action.REPORT,
}
"""What to do with an item in each state."""

# Why these transitions, and no others, pay once and lose nothing:
#
# A credit can be spent only while a create is in flight, and a create leaves only
# after `Sending` is on disk. So an item that was never `sending` has cost nothing, and
# after a crash the items that are `sending` are exactly those that may have been
# charged.
#
# Three arrows lead back to `planned`, from where the create is sent again. Each needs
# knowledge that the last create made no track: `NotSent` (no byte left, or the service
# refused it), `Absent` (proved from listings and credits, see _matching.py) and
# `Released` (a person has looked). A timeout, a lost connection or a crash leads to
# `unknown`, never to `planned`: that single rule is what prevents paying twice (P2).
#
# `Found` and `Absent` are allowed from `held` too: a track that shows up late is
# certain evidence, and a proof that was missing may be there at a later look.
#
# `Rejected` is allowed from `planned` too: a request may be refused before anything is
# sent, and a refusal that is repeated becomes final only after `NotSent` was recorded.
#
# `Retried` is the one deliberate second payment: the first track failed, and the caller
# asked for another. `Adopted` starts from `planned` only, so that what a folder seems
# to show never overrides what the journal knows.
_ALLOWED: Final[dict[type, frozenset[State]]] = {
    Claimed: frozenset({"planned"}),
    Sending: frozenset({"planned"}),
    NotSent: frozenset({"sending"}),
    Rejected: frozenset({"planned", "sending"}),
    Accepted: frozenset({"sending"}),
    Lost: frozenset({"sending"}),
    Restarted: frozenset(STATES),
    Found: frozenset({"unknown", "held"}),
    Absent: frozenset({"unknown", "held"}),
    Held: frozenset({"unknown"}),
    Released: frozenset({"held"}),
    Ended: frozenset({"accepted"}),
    Saved: frozenset({"completed"}),
    Missing: frozenset({"downloaded"}),
    Adopted: frozenset({"planned"}),
    Retried: frozenset({"failed"}),
}
"""The states in which each event may happen."""


def step(entry: Entry, event: Event) -> tuple[Entry, Action | None]:
    """Apply an event to an item's entry.

    Args:
        entry: The entry before the event.
        event: What happened.

    Returns:
        The entry to commit, and what to do once it is committed.

    Raises:
        JournalError: The event is not possible in this state.
    """
    if entry.state not in _ALLOWED[type(event)]:
        raise JournalError(
            f"event {type(event).__name__} is not possible for an item in state"
            f" {entry.state}"
        )
    after = _apply(event, entry)
    return after, NEXT[after.state]


@singledispatch
def _apply(event: object, entry: Entry) -> Entry:
    raise JournalError(f"{event!r} is not an event of the journal (in {entry.state})")


@_apply.register
def _(event: Claimed, entry: Entry) -> Entry:
    return attrs.evolve(entry, holder=event.holder, fence=entry.fence + 1)


@_apply.register
def _(event: Sending, entry: Entry) -> Entry:
    # A second send after a proof of absence keeps the time of the first. Should that
    # proof have been wrong, a later listing can still show the first track, and it is
    # recognized only if it may be dated that early.
    sent_at = event.at if entry.sent_at is None else entry.sent_at
    return attrs.evolve(
        entry,
        state="sending",
        seed=event.seed,
        sent_at=sent_at,
        code=None,
        error=None,
    )


@_apply.register
def _(event: NotSent, entry: Entry) -> Entry:
    del event
    # `sent_at` stays if an earlier create of the item was ever in doubt: see `Sending`.
    never_lost = entry.lost_at is None
    sent_at = None if never_lost else entry.sent_at
    return attrs.evolve(entry, state="planned", sent_at=sent_at)


@_apply.register
def _(event: Rejected, entry: Entry) -> Entry:
    return attrs.evolve(
        entry, state="failed", holder=None, code=event.code, error=event.error
    )


@_apply.register
def _(event: Accepted, entry: Entry) -> Entry:
    return _with_track(entry, event)


@_apply.register
def _(event: Found, entry: Entry) -> Entry:
    return _with_track(entry, event)


def _with_track(entry: Entry, event: Accepted | Found) -> Entry:
    # The lease ends: any process that reads the id may wait for the track.
    return attrs.evolve(
        entry,
        state="accepted",
        track_id=event.track_id,
        accepts=entry.accepts + 1,
        holder=None,
        code=None,
        error=None,
        result=event.result or entry.result,
    )


@_apply.register
def _(event: Lost, entry: Entry) -> Entry:
    # The lease ends: any process may look it up; the one that sends it again claims it.
    return attrs.evolve(
        entry,
        state="unknown",
        lost_at=event.at,
        holder=None,
        code="unknown",
        error=event.error,
    )


@_apply.register
def _(event: Restarted, entry: Entry) -> Entry:
    if entry.state != "sending":
        return entry
    # The create was in flight when the process ended, so its response is lost.
    lost = Lost(event.at, "the program ended while its create was in flight")
    return _apply(lost, entry)


@_apply.register
def _(event: Absent, entry: Entry) -> Entry:
    del event
    # The seed stays: should the proof be wrong, both tracks carry the same seed, and
    # the first one is still recognized as this item's.
    return attrs.evolve(entry, state="planned", code=None, error=None)


@_apply.register
def _(event: Held, entry: Entry) -> Entry:
    return attrs.evolve(entry, state="held", code="held", error=event.reason)


@_apply.register
def _(event: Released, entry: Entry) -> Entry:
    del event
    return attrs.evolve(entry, state="planned", code=None, error=None)


@_apply.register
def _(event: Ended, entry: Entry) -> Entry:
    return attrs.evolve(
        entry,
        state="failed" if event.failed else "completed",
        fails=entry.fails + event.failed,
        code=event.code,
        error=event.error,
        result=event.result,
    )


@_apply.register
def _(event: Saved, entry: Entry) -> Entry:
    known = attrs.asdict(event, filter=lambda _, value: value is not None)
    if known:
        known = json.loads(entry.result or "{}") | known
    result = json.dumps(known, ensure_ascii=False) if known else entry.result
    return attrs.evolve(entry, state="downloaded", result=result)


@_apply.register
def _(event: Missing, entry: Entry) -> Entry:
    del event
    if entry.track_id is not None:
        return attrs.evolve(entry, state="completed")
    # Adopted from a bare file. It is not planned again by itself: that would cost a
    # credit that the caller did not ask to spend.
    error = "its file is missing, and no track id is known to download it again"
    return attrs.evolve(entry, state="failed", code="missing", error=error)


@_apply.register
def _(event: Adopted, entry: Entry) -> Entry:
    has_track = event.track_id is not None
    return attrs.evolve(
        entry,
        accepts=entry.accepts + has_track,
        fails=entry.fails + (has_track and event.state == "failed"),
        **attrs.asdict(event),
    )


@_apply.register
def _(event: Retried, entry: Entry) -> Entry:
    """Start again, with a new seed: the old one would match the track that failed."""
    del event
    former = entry.former if entry.track_id is None else (*entry.former, entry.track_id)
    return Entry(
        former=former, accepts=entry.accepts, fails=entry.fails, fence=entry.fence
    )
