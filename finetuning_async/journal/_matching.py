"""Which listed track belongs to which create in doubt, and when one is absent. Pure.

A seed that the batch drew proves a track by itself. A seed that the caller chose may be
shared by many rows. Then kind, date and prompt distinguish the tracks; rows with equal
content may take tracks with equal content in any order.

Absence needs several proofs, gathered in `AbsenceEvidence`. Where one is missing, the
create is held: a person may know more.
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
"""Seconds after a create was given up during which the service may still accept it.
A single create allows less, the `SETTLE_TIME` of `_submission`, because its caller
waits for the verdict; a batch goes on meanwhile."""

MAX_SETTLES: Final = 4
"""Times `SETTLE` after which a create is held for which the credits gave no proof."""

MAX_SHOWN: Final = 5
"""Candidate tracks that a reason names at most."""

SLACK: Final = 5.0
"""``createdAt`` has whole seconds, and the service's time is known to about one."""


@attrs.frozen(kw_only=True)
class Doubt:
    """A create whose outcome is not known.

    Attributes:
        seq: The item's number.
        kind: What it makes.
        prompt: The prompt it sent.
        body: All parameters it sent, as text; rows with equal bodies are
            interchangeable.
        seed: The seed it sent.
        seed_is_ours: Whether the seed was drawn here, and so is no other item's.
        sent_at: When its first byte left, or earlier, in seconds since 1970.
        slack: Seconds by which `sent_at` may be wrong; `None` if it is not known by the
            service's clock.
    """

    seq: int
    kind: str
    prompt: str
    body: str
    seed: int
    seed_is_ours: bool
    sent_at: float
    slack: float | None = SLACK

    @property
    def sought(self) -> SearchCriteria:
        """What to look for in a listing."""
        return SearchCriteria(
            kind=self.kind,
            prompt=self.prompt,
            seed=self.seed,
            is_ours=self.seed_is_ours,
            since=None if self.slack is None else self.sent_at - self.slack,
        )


def match(
    doubts: Iterable[Doubt], listed: Iterable[ListedRow], taken: Collection[str]
) -> dict[int, str]:
    """Assign listed tracks to creates in doubt.

    Args:
        doubts: All creates in doubt: one that is left out might own the track that
            another is given.
        listed: The listing.
        taken: Ids that already belong to items.

    Returns:
        The id by `seq`, for those whose track is certain.
    """
    doubts = list(doubts)
    rows = sorted((row for row in listed if row.id not in taken), key=_age)
    found = _match_by_our_seeds(doubts, rows)
    # Two creates compete for a track only if they share kind and seed, so each such
    # group is matched by itself, and as a whole.
    groups: dict[tuple[str, int], list[Doubt]] = defaultdict(list)
    for doubt in doubts:
        if not doubt.seed_is_ours:
            groups[doubt.kind, doubt.seed].append(doubt)
    for group in groups.values():
        found |= _match_group(group, rows)
    return found


def _age(row: ListedRow) -> tuple[float, str]:
    return (row.created_at or 0.0, row.id)


def _match_by_our_seeds(doubts: list[Doubt], rows: list[ListedRow]) -> dict[int, str]:
    """The oldest track with each seed of ours."""
    first = {row.seed: row.id for row in reversed(rows)}
    return {d.seq: first[d.seed] for d in doubts if d.seed_is_ours and d.seed in first}


def _match_group(group: list[Doubt], rows: list[ListedRow]) -> dict[int, str]:
    """Match creates that share kind and a seed of the caller's; oldest tracks first."""
    found: dict[int, str] = {}
    for body in {doubt.body for doubt in group}:
        equal = [doubt for doubt in group if doubt.body == body]
        first = min(equal, key=lambda doubt: doubt.sent_at)
        rivals = [d for d in group if d.body != body]
        # A rival with other parameters but much the same prompt: the service may spell
        # a prompt differently, so a listed row might belong to either.
        if any(prompts_match(first.prompt, rival.prompt) for rival in rivals):
            continue
        fitting = [row for row in rows if fit(first.sought, row) >= Fit.VAGUE]
        # With a rival of another prompt around, only an unchanged prompt is certain.
        if rivals:
            fitting = [row for row in fitting if row.prompt == first.prompt]
        found |= _assign_equal(equal, first.sought, fitting)
    return found


def _assign_equal(
    doubts: list[Doubt], sought: SearchCriteria, rows: list[ListedRow]
) -> dict[int, str]:
    """Assign tracks to creates of equal content: the earliest takes the oldest.

    Which one takes which does not matter, as long as every track is ours.
    """
    if len(doubts) == 1:
        track, _ = choose(sought, rows)
        return {} if track is None else {doubts[0].seq: track.id}
    same = [row for row in rows if row.prompt == sought.prompt]
    rows = same if len(same) >= len(doubts) else rows
    is_sure = all(fit(sought, row) is Fit.EXACT for row in rows)
    # More tracks than creates: another program uses this seed too, so that any of the
    # tracks may be its own.
    if not is_sure or len(rows) > len(doubts):
        return {}
    doubts = sorted(doubts, key=lambda doubt: (doubt.sent_at, doubt.seq))
    return {doubt.seq: row.id for doubt, row in zip(doubts, rows, strict=False)}


@attrs.frozen(kw_only=True)
class AbsenceEvidence:
    """What is known about a create that was not found.

    Attributes:
        age: Seconds since it was given up.
        settle: Seconds during which the service may still accept it.
        candidates: Ids of listed tracks that may be its own.
        is_complete: Whether the listing was read to its end without missing a row.
        later_is_listed: Whether the listing shows, with its seed, a create of ours that
            was sent later.
        seeds_are_echoed: Whether every response so far echoed the seed that was sent,
            and the listing shows the seeds of all our tracks in it.
        no_charge: Whether the credits rule out a charge for it; `None` if that is not
            known now.
        is_comparable: Whether there is a reading of the credits from before it to
            compare with.
        unchanged_for: Seconds between the first and the last reading after it was given
            up, if all of them are equal: nothing of the account was spent in between.
        read_ago: Seconds since the last reading that could be compared with earlier
            ones; 0 if there is one of this look.
        needs_credits: Whether absence must be shown by the credits too.
        more_to_come: Whether further creates of ours are in flight or will be sent.
    """

    age: float
    settle: float
    candidates: tuple[str, ...] = ()
    is_complete: bool = True
    later_is_listed: bool
    seeds_are_echoed: bool
    no_charge: bool | None
    is_comparable: bool = False
    unchanged_for: float = 0.0
    read_ago: float = 0.0
    needs_credits: bool = True
    more_to_come: bool


def verdict(evidence: AbsenceEvidence) -> str:
    """``wait``, ``absent``, or the reason why a create must be held."""
    # Without faithful seeds no listing can ever prove anything: waiting is useless.
    if not evidence.seeds_are_echoed:
        return _NO_SEEDS
    if evidence.age < evidence.settle:
        return "wait"
    missing = _missing_proof(evidence)
    if missing is None:
        return "absent"
    # While more creates of ours follow, the missing proof may still turn up: a later
    # row, a complete listing, a reading. A charge that shows does not go away.
    # So may a reading that no create in flight spoils.
    may_turn_up = evidence.more_to_come or (
        missing in (_NO_LATER, _NO_BASELINE) and _may_stay_unchanged(evidence)
    )
    return "wait" if may_turn_up and missing != _CHARGED else missing


def _may_stay_unchanged(evidence: AbsenceEvidence) -> bool:
    """Whether later readings of the credits may still show that nothing was charged.

    As many are waited for as fit into a while, and one if none was of use at this look.
    """
    is_open = evidence.is_comparable and evidence.no_charge is not False
    longest = MAX_SETTLES * evidence.settle
    return is_open and (evidence.age < longest or 0 < evidence.read_ago < longest)


def _missing_proof(evidence: AbsenceEvidence) -> str | None:
    if evidence.candidates:
        return f"{_CANDIDATES}: {', '.join(evidence.candidates[:MAX_SHOWN])}"
    if not evidence.is_complete:
        return _INCOMPLETE
    # Listings lag. Only a later create of ours in it shows that this one is up to date.
    # The credits do not: where two readings, as far apart as a create may be late, are
    # equal and rule out a charge, the last create of all needs no later one.
    is_unchanged = evidence.no_charge and evidence.unchanged_for >= evidence.settle
    if not (evidence.later_is_listed or is_unchanged):
        return _NO_LATER
    if evidence.no_charge is None:
        return _NO_BASELINE if evidence.needs_credits else None
    return None if evidence.no_charge else _CHARGED


_NO_SEEDS: Final = (
    "the service does not echo seeds, so no listing can show whether it was accepted"
)
_CANDIDATES: Final = "listed tracks may be its own, but none of them is certain"
_INCOMPLETE: Final = (
    "it was not found, but the listing could not be read completely: its pages do not"
    " fit together, or it is too long"
)
_NO_LATER: Final = (
    "it is not listed, but no later create of this batch is listed either, so the"
    " listing may be out of date, and the credits do not rule out a charge for long"
    " enough"
)
_NO_BASELINE: Final = (
    "it is not listed, but the credits could not be compared: they could not be read"
    " before it or since, or tracks have failed of which it is not known whether that"
    " gives their credits back"
)
_CHARGED: Final = (
    "it is not listed, but the credits do not rule out that it was charged"
)
