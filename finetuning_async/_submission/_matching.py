"""Which row of a list is the track of a create whose response was lost. Pure.

A seed that was drawn here at random proves a row by itself, whatever its kind, date and
prompt say or leave out. A seed that the caller gave may have been used before, or by
another client: then a row must match in every field that can identify it, and each row
that comes near is a candidate, which stops the create from being sent again. The dates
of the service are a hint: its clock and time zone may be wrong by hours.
"""

from __future__ import annotations

import unicodedata
from enum import IntEnum
from typing import TYPE_CHECKING, Final

import attrs

from finetuning_async._api import Generation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from finetuning_async._api import SoundEffect

SLACK: Final = 2.0
"""Seconds by which ``createdAt`` may be before the create was sent: it has whole
seconds, and the offset of the two clocks is known to about one."""

FAR: Final = 16 * 3600.0
"""Seconds by which no row of a create is dated before it was sent, however wrong a
clock is: time zones differ from UTC by 14 hours at most."""


class Fit(IntEnum):
    """How well a row matches a create."""

    OTHER = 0
    """It belongs to another create."""

    NEAR = 1
    """It may be the one if a clock or a field is wrong."""

    VAGUE = 2
    """It matches in all that it says, but a field is missing."""

    EXACT = 3
    """It matches in all."""


@attrs.frozen(kw_only=True)
class SearchCriteria:
    """What identifies the track of a create whose response was lost.

    Attributes:
        kind: What it makes.
        prompt: The prompt it sent.
        seed: The seed it sent; `None` if it has none or the service does not echo it.
        is_ours: Whether the seed was drawn at random for this create alone.
        since: The earliest possible date of its track, in seconds since 1970 by the
            service's clock; `None` if that is not known.
    """

    kind: str
    prompt: str
    seed: int | None
    is_ours: bool
    since: float | None


@attrs.frozen(kw_only=True)
class ListedRow:
    """A row of a list.

    Attributes:
        id: Its id.
        kind: Its kind, if the row has one.
        prompt: The prompt as listed; empty if the row has none.
        seed: The seed as listed.
        created_at: In seconds since 1970, if the row has a date that can be parsed.
    """

    id: str
    kind: str | None
    prompt: str
    seed: int | None
    created_at: float | None


def listed_row(row: Generation | SoundEffect) -> ListedRow:
    """The fields of a row by which it can be matched."""
    created = row.created_at
    is_track = isinstance(row, Generation)
    return ListedRow(
        id=row.id,
        # The model says "music" where the row has no type.
        kind=None if is_track and not row.raw.get("type") else row.kind,
        prompt=row.prompt,
        seed=row.parameters.seed if isinstance(row, Generation) else None,
        created_at=None if created is None else created.timestamp(),
    )


def fit(criteria: SearchCriteria, row: ListedRow) -> Fit:
    """How well a row matches a create."""
    if criteria.seed is None:
        return _fit_by_words(criteria, row)
    # A row without a seed may belong to any create, ours included.
    if row.seed is None:
        may_be = row.prompt == "" or prompts_match(criteria.prompt, row.prompt)
        return Fit.NEAR if may_be and not _is_far(criteria, row) else Fit.OTHER
    if row.seed != criteria.seed:
        return Fit.OTHER
    if criteria.is_ours:  # one in 2**31: no other create has it
        return Fit.EXACT
    if _is_far(criteria, row):
        return Fit.OTHER
    if row.kind not in (None, criteria.kind) or _is_early(criteria, row):
        return Fit.NEAR
    says_all = None not in (criteria.since, row.created_at, row.kind)
    is_exact = says_all and prompts_match(criteria.prompt, row.prompt)
    return Fit.EXACT if is_exact else Fit.VAGUE


def _fit_by_words(criteria: SearchCriteria, row: ListedRow) -> Fit:
    if row.prompt != criteria.prompt or _is_far(criteria, row):
        return Fit.OTHER
    return Fit.NEAR if _is_early(criteria, row) else Fit.VAGUE


def _is_early(criteria: SearchCriteria, row: ListedRow) -> bool:
    if criteria.since is None or row.created_at is None:
        return False
    return row.created_at < criteria.since


def _is_far(criteria: SearchCriteria, row: ListedRow) -> bool:
    if criteria.since is None or row.created_at is None:
        return False
    return row.created_at < criteria.since - FAR


def prompts_match(sent: str, listed: str) -> bool:
    """Whether a listed prompt is the one sent, as a service may respell it.

    It may be in another case, cut short, or have text appended.
    """
    sent, listed = _plain(sent), _plain(listed)
    return bool(listed) and (sent.startswith(listed) or listed.startswith(sent))


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def choose(
    criteria: SearchCriteria,
    rows: Iterable[ListedRow],
    *,
    is_shared: bool = False,
    differs: Callable[[ListedRow], bool] = lambda _: False,
) -> tuple[ListedRow | None, tuple[ListedRow, ...]]:
    """Find the track of one create.

    Args:
        criteria: What identifies it.
        rows: The list, without rows that are known to belong to other creates.
        is_shared: Whether another create with this seed was in flight meanwhile.
        differs: Whether a row shows other parameters than those sent.

    Returns:
        The track, if one is beyond doubt, and no candidates; else `None` and the rows
        that may be it.
    """
    fits = [(fit(criteria, row), row) for row in rows]
    good = [row for how, row in fits if how >= Fit.VAGUE]
    # Prompt and parameters only break ties: a service may change either of them, so a
    # single match must not be rejected for a difference.
    if not criteria.is_ours:
        good = [row for row in good if row.prompt == criteria.prompt] or good
        good = [row for row in good if not differs(row)] or good
    is_sure = len(good) == 1 and fit(criteria, good[0]) is Fit.EXACT
    # Another create with the caller's seed may have made a row whose prompt merely
    # begins like ours: only the very same prompt is proof then.
    if is_sure and is_shared and not criteria.is_ours:
        is_sure = good[0].prompt == criteria.prompt
    if is_sure:
        return good[0], ()
    return None, tuple(good or [row for how, row in fits if how is Fit.NEAR])


def echoes_seeds(rows: Iterable[ListedRow], sent: Callable[[str], int | None]) -> bool:
    """Whether all tracks of ours in a list show the seed that was sent for them.

    Args:
        rows: The list.
        sent: Gives the seed that was sent for a track id; `None` if that is not known.
    """
    pairs = ((row.seed, sent(row.id)) for row in rows)
    return all(seed is None or seed == listed for listed, seed in pairs)


def possible_matches(
    criteria: SearchCriteria, rows: Iterable[ListedRow]
) -> tuple[str, ...]:
    """The ids of rows that keep a create from being proved absent.

    These are rows that show its seed, even if they are dated long before it, since a
    date may be nonsense, and rows without a seed, which may belong to any create.

    Args:
        criteria: What identifies the create.
        rows: The list, without rows that are known to belong to other creates.
    """
    return tuple(
        row.id
        for row in rows
        if row.seed == criteria.seed
        or (row.seed is None and not _is_far(criteria, row))
    )
