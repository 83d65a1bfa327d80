"""Which track in a list belongs to which create in doubt, and when one is absent. Pure.

`_matching` says how a row fits a create: a seed that the batch drew proves it by
itself. A seed that the caller chose may be shared by many rows; then kind, date and
prompt tell them apart, and rows that are alike in all may take alike tracks in any
order.

Absence needs proofs (`AbsenceEvidence`); a person may still know more.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

import attrs

from finetuning_async._submission import (
    Fit,
    ListedRow as ListedRow,
    SearchCriteria,
    choose,
    fit,
    prompts_match,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

SETTLE: Final = 300.0
"""Seconds after a create was given up in which the service may still commit it."""

SHOWN: Final = 5
"""Tracks that a reason names at most."""

SLACK: Final = 5.0
"""``createdAt`` has whole seconds, and the service's time is known to about one."""


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
        slack: Seconds by which `sent_at` may be wrong; `None` if it is not known by the
            service's clock.
    """

    seq: int
    kind: str
    prompt: str
    body: str
    seed: int
    is_ours: bool
    sent_at: float
    lost_at: float
    slack: float | None = SLACK

    @property
    def sought(self) -> SearchCriteria:
        """What to look for."""
        return SearchCriteria(
            kind=self.kind,
            prompt=self.prompt,
            seed=self.seed,
            is_ours=self.is_ours,
            since=None if self.slack is None else self.sent_at - self.slack,
        )


def match(
    doubts: Iterable[Doubt], seen: Iterable[ListedRow], taken: Collection[str]
) -> dict[int, str]:
    """Give tracks to creates in doubt.

    Args:
        doubts: The creates, all of them: one left out might own what another is given.
        seen: The list.
        taken: Ids that belong to items already.

    Returns:
        The id by `seq`, for those whose track is certain.
    """
    doubts = list(doubts)
    rows = sorted((row for row in seen if row.id not in taken), key=_age)
    found = _by_our_seeds(doubts, rows)
    groups: dict[tuple[str, int], list[Doubt]] = defaultdict(list)
    for doubt in doubts:
        if not doubt.is_ours:
            groups[doubt.kind, doubt.seed].append(doubt)
    for group in groups.values():
        found |= _match_group(group, rows)
    return found


def near(
    doubt: Doubt, seen: Iterable[ListedRow], taken: Collection[str]
) -> tuple[str, ...]:
    """The ids of tracks that may be that of a create for which `match` has none.

    Args:
        doubt: The create.
        seen: The list.
        taken: Ids that belong to items.
    """
    rows = (row for row in seen if row.id not in taken)
    return tuple(row.id for row in rows if fit(doubt.sought, row) >= Fit.NEAR)


def _age(row: ListedRow) -> tuple[float, str]:
    return (row.created_at or 0.0, row.id)


def _by_our_seeds(doubts: list[Doubt], rows: list[ListedRow]) -> dict[int, str]:
    """The first track with each seed of ours."""
    first = {row.seed: row.id for row in reversed(rows)}
    return {d.seq: first[d.seed] for d in doubts if d.is_ours and d.seed in first}


def _match_group(group: list[Doubt], rows: list[ListedRow]) -> dict[int, str]:
    """Creates that share kind and a seed of the caller's; tracks oldest first."""
    found: dict[int, str] = {}
    for body in {doubt.body for doubt in group}:
        alike = [doubt for doubt in group if doubt.body == body]
        one = min(alike, key=lambda doubt: doubt.sent_at)
        rivals = [d for d in group if d.body != body]
        if any(prompts_match(one.prompt, rival.prompt) for rival in rivals):
            continue
        fits = [row for row in rows if fit(one.sought, row) >= Fit.VAGUE]
        if rivals:
            fits = [row for row in fits if row.prompt == one.prompt]
        found |= _alike(alike, one.sought, fits)
    return found


def _alike(
    doubts: list[Doubt], sought: SearchCriteria, rows: list[ListedRow]
) -> dict[int, str]:
    """Any of the creates may own any of the tracks; the earliest takes the oldest."""
    if len(doubts) == 1:
        track, _ = choose(sought, rows)
        return {} if track is None else {doubts[0].seq: track.id}
    same = [row for row in rows if row.prompt == sought.prompt]
    rows = same if len(same) >= len(doubts) else rows
    is_sure = all(fit(sought, row) is Fit.EXACT for row in rows)
    if not is_sure or len(rows) > len(doubts):  # somebody else uses this seed, too
        return {}
    doubts = sorted(doubts, key=lambda doubt: (doubt.sent_at, doubt.seq))
    return {doubt.seq: row.id for doubt, row in zip(doubts, rows, strict=False)}


@attrs.frozen(kw_only=True)
class AbsenceEvidence:
    """What speaks for the absence of a create's track.

    Attributes:
        age: Seconds since it was given up.
        settle: Seconds that the service may still take.
        candidates: Ids in the list that may be it.
        is_whole: Whether the listing was read to its end, and no row passed over.
        later_is_listed: Whether a create of ours that left later stands in the listing,
            with its seed.
        seeds_are_echoed: Whether every create so far was echoed with its seed, and the
            listing shows those of all our tracks in it.
        credits_clear: Whether the balance shows no charge for it; `None` if that cannot
            be said now.
        needs_credits: Whether that must be said.
        more_to_come: Whether further creates of ours will leave, or are under way.
    """

    age: float
    settle: float
    candidates: tuple[str, ...] = ()
    is_whole: bool = True
    later_is_listed: bool
    seeds_are_echoed: bool
    credits_clear: bool | None
    needs_credits: bool = True
    more_to_come: bool


def verdict(evidence: AbsenceEvidence) -> str:
    """``wait``, ``absent``, or why a create that was not found must be held."""
    if not evidence.seeds_are_echoed:
        return _NO_SEEDS
    if evidence.age < evidence.settle:
        return "wait"
    missing = _missing_proof(evidence)
    if missing is None:
        return "absent"
    return missing if missing == _CHARGED or not evidence.more_to_come else "wait"


def _missing_proof(evidence: AbsenceEvidence) -> str | None:
    if evidence.candidates:
        return f"{_NEAR}: {', '.join(evidence.candidates[:SHOWN])}"
    if not evidence.is_whole:
        return _NOT_WHOLE
    if not evidence.later_is_listed:
        return _NO_LATER
    if evidence.credits_clear is None:
        return _NO_BALANCE if evidence.needs_credits else None
    return None if evidence.credits_clear else _CHARGED


_NO_SEEDS: Final = "the service does not echo seeds, so a list cannot show it"
_NEAR: Final = "tracks in the list may be its own, and none is beyond doubt"
_NOT_WHOLE: Final = (
    "it was not found, but the list could not be read as a whole: its pages do not fit"
    " together, or it is too long"
)
_NO_LATER: Final = (
    "it is in no list, and no later create of this batch is there to show that the list"
    " is up to date"
)
_NO_BALANCE: Final = "it is in no list, but the credits could not be compared"
_CHARGED: Final = "it is in no list, but the credits do not rule out that it was paid"
