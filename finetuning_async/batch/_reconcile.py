"""Which track in a list belongs to which create in doubt, and when one is absent. Pure.

A create of ours carries a seed of its own, and the service echoes it. So a track that
shows kind and seed, is not older than the create and belongs to no other item, is the
lost one. A seed that the caller chose may be shared by many rows; then the prompt tells
them apart, and rows that are alike in all may take alike tracks in any order.

Absence needs four proofs (`Evidence`); a person may still know more.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

SETTLE: Final = 300.0
"""Seconds after a create was given up in which the service may still commit it."""

SLACK: Final = 5.0
"""``createdAt`` has whole seconds, and the service's time is known to about one."""

LOCAL_SLACK: Final = 86_400.0
"""The same when only this machine's wall clock dated the create."""


@attrs.frozen(kw_only=True)
class Doubt:
    """A create whose fate is not known.

    Attributes:
        seq: The item.
        kind: What it makes.
        prompt: The words it sent.
        body: All that it sent, as text; rows with equal bodies are alike.
        seed: The seed it sent.
        is_ours: Whether the seed was drawn here and is no other item's.
        sent_at: Not later than its first byte left, in seconds since 1970.
        lost_at: When it was given up.
        slack: Seconds by which `sent_at` may be wrong.
    """

    seq: int
    kind: str
    prompt: str
    body: str
    seed: int
    is_ours: bool
    sent_at: float
    lost_at: float
    slack: float = SLACK

    @property
    def since(self) -> float:
        """The earliest that its track can be dated."""
        return self.sent_at - self.slack


@attrs.frozen(kw_only=True)
class Seen:
    """A track in a list.

    Attributes:
        id: Its id.
        kind: What it is.
        prompt: The words as listed; the service may have rewritten them.
        seed: The seed as listed.
        created_at: In seconds since 1970; `None` if the list does not say.
    """

    id: str
    kind: str
    prompt: str
    seed: int | None
    created_at: float | None


def match(
    doubts: Iterable[Doubt], seen: Iterable[Seen], taken: Collection[str]
) -> dict[int, str]:
    """Give tracks to creates in doubt.

    Args:
        doubts: The creates, all of them: one left out might own what another is given.
        seen: The list.
        taken: Ids that belong to items already.

    Returns:
        The id by `seq`, for those whose track is certain.
    """
    rows: dict[tuple[str, int | None], list[Seen]] = defaultdict(list)
    for row in seen:
        if row.id not in taken:
            rows[row.kind, row.seed].append(row)
    groups: dict[tuple[str, int | None], list[Doubt]] = defaultdict(list)
    for doubt in doubts:
        groups[doubt.kind, doubt.seed].append(doubt)
    found: dict[int, str] = {}
    for mark, group in groups.items():
        found |= _match_group(group, sorted(rows[mark], key=_age))
    return found


def _age(row: Seen) -> tuple[float, str]:
    return (row.created_at or 0.0, row.id)


def _match_group(group: list[Doubt], rows: list[Seen]) -> dict[int, str]:
    """Creates and tracks that share kind and seed; tracks oldest first."""
    if len({doubt.body for doubt in group}) == 1:
        doubt = min(group, key=lambda doubt: doubt.sent_at)
        return _alike(group, [row for row in rows if _fits(doubt, row)])
    found: dict[int, str] = {}
    for body in {doubt.body for doubt in group}:
        alike = [doubt for doubt in group if doubt.body == body]
        one = min(alike, key=lambda doubt: doubt.sent_at)
        exact = [row for row in rows if row.prompt == one.prompt and _fits(one, row)]
        rivals = [d for d in group if d.prompt == one.prompt and d.body != body]
        if not rivals:
            found |= _alike(alike, exact)
    return found


def _fits(doubt: Doubt, row: Seen) -> bool:
    return row.created_at is None or row.created_at >= doubt.since


def _alike(doubts: list[Doubt], rows: list[Seen]) -> dict[int, str]:
    """Any of the creates may own any of the tracks; the earliest takes the oldest."""
    doubts = sorted(doubts, key=lambda doubt: (doubt.sent_at, doubt.seq))
    exact = [row for row in rows if row.prompt == doubts[0].prompt]
    if not doubts[0].is_ours:
        rows = exact if len(exact) >= len(doubts) else rows
        if len(rows) > len(doubts):  # somebody else uses this seed, too
            rows = exact if len(exact) == len(doubts) else []
    return {doubt.seq: row.id for doubt, row in zip(doubts, rows, strict=False)}


@attrs.frozen(kw_only=True)
class Evidence:
    """What speaks for the absence of a create's track.

    Attributes:
        age: Seconds since it was given up.
        settle: Seconds that the service may still take.
        later_is_listed: Whether a create of ours that left later stands in a complete
            listing in which this one does not.
        seeds_are_echoed: Whether every create so far was echoed with its seed.
        credits_clear: Whether the balance shows no charge for it; `None` if that cannot
            be said now.
        more_to_come: Whether further creates of ours will leave, or are under way.
    """

    age: float
    settle: float
    later_is_listed: bool
    seeds_are_echoed: bool
    credits_clear: bool | None
    more_to_come: bool


def verdict(evidence: Evidence) -> str:
    """``wait``, ``absent``, or why a create that is in no list must be held."""
    if not evidence.seeds_are_echoed:
        return "the service does not echo seeds, so a list cannot show it"
    if evidence.age < evidence.settle:
        return "wait"
    if not evidence.later_is_listed:
        return "wait" if evidence.more_to_come else _NO_LATER
    if evidence.credits_clear is None:
        return "wait" if evidence.more_to_come else _NO_BALANCE
    return "absent" if evidence.credits_clear else _CHARGED


_NO_LATER: Final = (
    "it is in no list, and no later create of this batch is there to show that the list"
    " is up to date"
)
_NO_BALANCE: Final = "it is in no list, but the credits could not be compared"
_CHARGED: Final = "it is in no list, but the credits do not rule out that it was paid"
