"""Which row of a list is the track of a create that got no response. Pure.

A random seed of ours proves a row by itself, whatever else the row says of kind, date
and words, or leaves out. Where the caller gave the seed, others may have used it too:
then a row must fit in all that it can be known by, and whatever comes near it is a
candidate. The service's time is a hint: clocks and zones may be wrong by hours.
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
"""Seconds by which a row may be dated before its create left: ``createdAt`` has whole
seconds, and the two clocks are known to about one."""

FAR: Final = 16 * 3600.0
"""Seconds before its create that no track of it is dated, however wrong a clock is: the
zones of the world are 14 hours apart from UTC at most."""


class Fit(IntEnum):
    """How a row fits a create."""

    OTHER = 0
    """It belongs to another create."""

    NEAR = 1
    """It may be the one, if a clock is wrong or a field is."""

    VAGUE = 2
    """It fits, but for something that it does not say."""

    EXACT = 3
    """It fits in all."""


@attrs.frozen(kw_only=True)
class SearchCriteria:
    """A create that got no response.

    Attributes:
        kind: What it makes.
        prompt: The words it sent.
        seed: The seed it sent; `None` if a list cannot tell it by that.
        is_ours: Whether the seed was drawn at random for this create alone.
        since: The earliest that its track can be dated, in seconds since 1970 by the
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
        kind: What it is, if the row says so.
        prompt: The words as listed; empty if the row has none.
        seed: The seed as listed.
        created_at: In seconds since 1970, if it says so and can be read.
    """

    id: str
    kind: str | None
    prompt: str
    seed: int | None
    created_at: float | None


def listed_row(row: Generation | SoundEffect) -> ListedRow:
    """A row as what it says."""
    created = row.created_at
    is_track = isinstance(row, Generation)
    return ListedRow(
        id=row.id,
        # Where a row has no type, the model says "music".
        kind=None if is_track and not row.raw.get("type") else row.kind,
        prompt=row.prompt,
        seed=row.parameters.seed if isinstance(row, Generation) else None,
        created_at=None if created is None else created.timestamp(),
    )


def fit(criteria: SearchCriteria, row: ListedRow) -> Fit:
    """How a row fits a create."""
    if criteria.seed is None:
        return _fit_by_words(criteria, row)
    if row.seed is None:
        may_be = row.prompt == "" or prompts_match(criteria.prompt, row.prompt)
        return Fit.NEAR if may_be and not _is_far(criteria, row) else Fit.OTHER
    if row.seed != criteria.seed:
        return Fit.OTHER
    if criteria.is_ours:
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
    """Whether words are those sent, as a service may spell them.

    In another case, cut short, or with more behind them.
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
        criteria: The create.
        rows: The list, without what is known to be another's.
        is_shared: Whether other creates with this seed were on their way meanwhile.
        differs: Whether a row shows other parameters than were sent.

    Returns:
        The track that is beyond doubt, if there is one; else those that may be it.
    """
    fits = [(fit(criteria, row), row) for row in rows]
    good = [row for how, row in fits if how >= Fit.VAGUE]
    if not criteria.is_ours:
        good = [row for row in good if row.prompt == criteria.prompt] or good
        good = [row for row in good if not differs(row)] or good
    is_sure = len(good) == 1 and fit(criteria, good[0]) is Fit.EXACT
    if is_sure and is_shared and not criteria.is_ours:
        is_sure = good[0].prompt == criteria.prompt
    if is_sure:
        return good[0], ()
    return None, tuple(good or [row for how, row in fits if how is Fit.NEAR])


def echoes_seeds(rows: Iterable[ListedRow], sent: Callable[[str], int | None]) -> bool:
    """Whether all tracks of ours in a list show the seed that they were sent with.

    Args:
        rows: The list.
        sent: The seed that a track was sent with, by its id; `None` if not known.
    """
    pairs = ((row.seed, sent(row.id)) for row in rows)
    return all(seed is None or seed == listed for listed, seed in pairs)


def possible_matches(
    criteria: SearchCriteria, rows: Iterable[ListedRow]
) -> tuple[str, ...]:
    """The ids of rows beside which a create does not count as absent.

    Those that show its seed, be they dated long before it: a date may be nonsense. And
    those that show none, so that they may be any create's.

    Args:
        criteria: The create.
        rows: The list, without what is known to be another's.
    """
    return tuple(
        row.id
        for row in rows
        if row.seed == criteria.seed
        or (row.seed is None and not _is_far(criteria, row))
    )
