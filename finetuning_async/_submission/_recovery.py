"""Looking up a create whose response was lost.

The service has no idempotency key, but it echoes the seed, and every create of ours has
one. `_matching` says which row of the list is the lost track, and `_listing` whether
the list was read completely.

That no list shows a track proves nothing by itself: the list may be stale, and the
service may commit the create after we stopped waiting. A create counts as *absent* only
if all of these hold (P2: a second create would be paid as well):

    time      `SETTLE_TIME` seconds have passed since its response was lost;
    listings  `MIN_LISTINGS` complete listings do not show it, nor a row that may be it;
    evidence  the last of them shows, with its seed, a create of ours that was sent
              later. So the list is not merely older than the lost create. That later
              create must have been listed for as long as the lost one has had to get
              there, see `Recovery._proved_at`.

Sound effects have no seed: rows that may be the lost one are named in the error, and
none is adopted.
"""

from __future__ import annotations

import logging
from math import inf
from typing import TYPE_CHECKING, Final, Self, TypeAlias

import anyio
import attrs

from finetuning_async._api import (
    AnyRequest,
    Call,
    Generation,
    SoundEffect,
    changes,
    is_in_own_form,
    parsing,
)
from finetuning_async._errors import (
    APIResponseError,
    APIStatusError,
    AuthenticationError,
    FinetuningError,
    NotFoundError,
    PermissionDeniedError,
)
from finetuning_async._pacing import Claim, SeedMark
from finetuning_async._submission._listing import PAGE_SIZE, CompleteListing, read_list
from finetuning_async._submission._matching import (
    SLACK,
    ListedRow,
    SearchCriteria,
    choose,
    echoes_seeds,
    listed_row,
    possible_matches,
)

if TYPE_CHECKING:
    from finetuning_async._api import Page
    from finetuning_async._http import Pipeline
    from finetuning_async._pacing import InFlight
    from finetuning_async._submission._submission import Submission

    AnyTrack: TypeAlias = Generation | SoundEffect
    AnyPage: TypeAlias = Page[Generation] | Page[SoundEffect]

logger = logging.getLogger("finetuning_async")

SETTLE_TIME: Final = 30.0
"""Seconds after the response was lost in which the service may still commit."""

MIN_LISTINGS: Final = 3
"""Listings that must not show a track before it counts as not listed."""

PAUSES: Final = (0.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before each listing, 30 in all; then `LATER_PAUSE`."""

LATER_PAUSE: Final = 15.0
"""Seconds before each further listing, while listings fail or a proof may come."""

LAG_ALLOWANCE: Final = 60.0
"""Seconds after the response was lost in which a list may lag so far behind that it
does not show a later create of ours yet; another listing may still bring the proof."""

GIVE_UP_AFTER: Final = 300.0
"""Seconds after the response was lost at which the search ends in any case."""

MAX_UNREADABLE: Final = 3
"""Responses in a row that are not a list of tracks, after which the search ends: then
something else than the service responds."""

REFUSALS: Final = (AuthenticationError, PermissionDeniedError, NotFoundError)
"""Errors that the service itself would send again for the same list."""

MAX_PAGES: Final = 20
"""Pages read at most to find a track. With the service's clock known it takes one or
two, and only the last listing reads further."""

MAX_PROOF_PAGES: Final = 300
"""Pages read at most to prove that none of them shows a track; enough for the tracks of
a busy year."""


@attrs.frozen(kw_only=True)
class LostCreate:
    """A create whose response was lost. Times are seconds of the loop's clock.

    Attributes:
        request: What was asked for.
        seed: The seed sent; `None` for a sound effect, which has none.
        seed_is_ours: Whether it was drawn here at random, so that no other track has
            it; one that the caller chose may have been used before.
        seed_mark: Says whether another create with this seed is or was in flight; one
            may start during the search.
        sent_at: When the first attempt whose response was lost was sent.
        last_sent_at: When the last such attempt was sent.
        lost_at: When the response was given up.
    """

    request: AnyRequest
    seed: int | None
    seed_is_ours: bool
    seed_mark: SeedMark | None
    sent_at: float
    last_sent_at: float
    lost_at: float

    @classmethod
    def of(cls, submission: Submission, now: float) -> Self:
        """The lost create of a submission that is given up now."""
        first, last = submission.first_lost_sent_at, submission.last_lost_sent_at
        return cls(
            request=submission.request,
            seed=submission.seed,
            seed_is_ours=submission.seed_is_ours,
            seed_mark=submission.seed_mark,
            sent_at=now if first is None else first,
            last_sent_at=now if last is None else last,
            lost_at=now,
        )


@attrs.frozen(kw_only=True)
class RecoveryResult:
    """What a search found.

    Attributes:
        track: The lost track; `None` if it was not found.
        is_absent: Whether it is proved that the create was not accepted.
        is_unlisted: Whether a list that was read to its end does not show the track;
            that alone proves nothing.
        candidates: Ids of tracks that may be it, none of them beyond doubt.
        summary: What was read and what it showed, for the error message.
    """

    track: Generation | None = None
    is_absent: bool = False
    is_unlisted: bool = False
    candidates: tuple[str, ...] = ()
    summary: str = "the list was not read"


class _ListUnusable(Exception):  # noqa: N818 - ends a search, is not an error itself
    """The list cannot be read, and waiting will not change that."""


class Recovery:
    """The search for one lost create.

    Args:
        pipeline: Sends the reads.
        inflight: The register, which knows the claimed ids.
        lost: What to search for.
        prove: Whether to prove its absence if it is not found.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        inflight: InFlight,
        lost: LostCreate,
        *,
        prove: bool = False,
    ) -> None:
        self._pipeline = pipeline
        self._inflight = inflight
        self._lost = lost
        self._prove = prove and lost.seed is not None
        self._listings_read = 0
        self._whole_listings = 0
        self._unreadable_in_a_row = 0
        self._last_failure: str | None = None

    async def find(self, *, settle: bool = True) -> RecoveryResult:
        """Read the list until it shows the track, or long enough did not.

        Args:
            settle: Whether the service may still commit the create; if not, one listing
                decides.
        """
        try:
            return await self._find(settle=settle)
        except _ListUnusable as end:
            return RecoveryResult(summary=str(end))

    async def _find(self, *, settle: bool) -> RecoveryResult:
        number, pause = 0, PAUSES[0]
        result = RecoveryResult()
        while self._seconds_since_lost() < GIVE_UP_AFTER:
            await anyio.sleep(pause)
            number += 1
            pause = PAUSES[number] if number < len(PAUSES) else LATER_PAUSE
            listing = await self._read_list(settle=settle)
            if listing is None:
                # A failed listing says nothing. It counts neither for nor against.
                summary = self._last_failure or result.summary
                result = attrs.evolve(result, summary=summary)
                continue
            result, proved_at = self._evaluate(listing)
            if result.track is not None or not settle:
                return result
            if not self._needs_another_listing(result, proved_at):
                return result
            if number >= len(PAUSES) and proved_at != inf:
                pause = min(pause, max(proved_at - anyio.current_time(), 1.0))
        return result

    def _needs_another_listing(self, result: RecoveryResult, proved_at: float) -> bool:
        """Whether another listing may show more than this one did."""
        if result.is_absent:
            return False
        if self._listings_read < MIN_LISTINGS or not self._has_settled:
            return True
        # From here on only a proof of absence is worth waiting for. It needs a later
        # create of ours: without one, no number of listings proves anything.
        if not self._prove or result.candidates or not self._later_creates():
            return False
        return proved_at != inf or self._seconds_since_lost() < LAG_ALLOWANCE

    @property
    def _has_settled(self) -> bool:
        return self._seconds_since_lost() >= SETTLE_TIME

    @property
    def _seed_identifies(self) -> bool:
        """Whether the lost track would show a seed by which it is recognized."""
        return self._lost.seed is not None and self._inflight.seeds_are_echoed

    def _seconds_since_lost(self) -> float:
        return anyio.current_time() - self._lost.lost_at

    # What a listing shows.

    def _evaluate(self, listing: CompleteListing) -> tuple[RecoveryResult, float]:
        """The result of a listing, and when one like it would prove absence."""
        self._listings_read += 1
        criteria = self._criteria()
        tracks = {
            row.id: row
            for row in listing.rows
            if not self._belongs_to_another(row, criteria)
        }
        rows = [listed_row(row) for row in tracks.values()]
        one, several = choose(
            criteria,
            rows,
            is_shared=self._lost.seed_mark is not None
            and self._lost.seed_mark.is_shared,
            differs=lambda row: self._differs(tracks[row.id]),
        )
        found = None if one is None else tracks[one.id]
        if isinstance(found, Generation):
            # Claimed in the same step in which it was chosen, without an await: two
            # lost creates must not both adopt it.
            self._inflight.claim(found.id)
            return RecoveryResult(track=found), inf
        self._whole_listings += listing.is_whole
        proved_at = inf
        if self._prove and not several and not possible_matches(criteria, rows):
            proved_at = self._proved_at(listing)
        is_absent = (
            self._whole_listings >= MIN_LISTINGS
            and self._has_settled
            and proved_at <= anyio.current_time()
        )
        ids = tuple(row.id for row in several)
        return self._result(listing, ids, is_absent=is_absent), proved_at

    def _criteria(self) -> SearchCriteria:
        lost = self._lost
        since = self._pipeline.clock.not_before(lost.sent_at)
        return SearchCriteria(
            kind=lost.request.kind,
            prompt=lost.request.prompt,
            seed=lost.seed if self._seed_identifies else None,
            is_ours=lost.seed_is_ours and self._seed_identifies,
            since=None if since is None else since.timestamp() - SLACK,
        )

    def _belongs_to_another(self, row: AnyTrack, criteria: SearchCriteria) -> bool:
        """Whether a row is the track of another create, or older than this one."""
        if self._inflight.is_claimed(row.id):
            return True
        was_there = self._inflight.listed_at(row.id) < self._lost.sent_at
        return was_there and not criteria.is_ours

    def _differs(self, track: AnyTrack) -> bool:
        # What is compared here has the same prompt or the same seed already.
        return bool(changes(self._lost.request, track).keys() - {"prompt", "seed"})

    def _result(
        self, listing: CompleteListing, candidates: tuple[str, ...], *, is_absent: bool
    ) -> RecoveryResult:
        is_recognizable = self._lost.seed is None or self._seed_identifies
        return RecoveryResult(
            is_absent=is_absent,
            is_unlisted=listing.reached_end and not candidates and is_recognizable,
            candidates=candidates,
            summary=self._summary(listing, candidates),
        )

    def _summary(self, listing: CompleteListing, candidates: tuple[str, ...]) -> str:
        if candidates:
            return f"candidates: {', '.join(candidates)}"
        number = self._listings_read
        times = "once" if number == 1 else f"{number} times"
        which = "all" if listing.reached_end else "the first"
        read = f"the list was read {times}, most recently {which} {len(listing.rows)}"
        if self._lost.seed is not None and not self._seed_identifies:
            return f"{read} tracks, but the service does not echo seeds"
        summary = f"{read} tracks, and none of them {self._unmatched}"
        if not self._prove:
            return summary
        return (
            f"{summary}; it was not sent again, since only a complete list that shows a"
            " later create of this client proves that it was not accepted"
        )

    @property
    def _unmatched(self) -> str:
        if self._lost.seed is None:
            return "has its prompt"
        return "has its seed" if self._lost.seed_is_ours else "can be its track"

    # What proves absence.

    def _later_creates(self) -> dict[str, Claim]:
        """The creates of ours that were sent after the lost one, by track id."""
        claims = self._inflight.claims()
        return {i: c for i, c in claims.items() if c.sent_at > self._lost.last_sent_at}

    def _proved_at(self, listing: CompleteListing) -> float:
        """When a listing like this one proves absence, on the loop's clock.

        A list that first showed a later create at time `t` contained, at `t`, what the
        service had taken in by the time that create was sent. The lost create may have
        been committed up to `SETTLE_TIME` after its response was lost. So the list is
        given, from `t` on, as much more time as lies between the two.
        """
        rows = {row.id: listed_row(row) for row in listing.rows}
        if not (listing.is_whole and self._is_faithful(rows)):
            return inf
        until = self._lost.lost_at + SETTLE_TIME
        return min(
            (
                self._inflight.listed_at(i) + max(until - claim.sent_at, 0.0)
                for i, claim in self._later_creates().items()
                if i in rows and rows[i].seed == claim.seed is not None
            ),
            default=inf,
        )

    def _is_faithful(self, rows: dict[str, ListedRow]) -> bool:
        """Whether a list shows what it must: our seeds, and creates before the lost."""
        claims = self._inflight.claims()
        sent = self._lost.sent_at
        earlier = [
            i for i, c in claims.items() if c.sent_at < sent and c.seed is not None
        ]
        # A list that shows none of our earlier tracks may end before the lost one.
        goes_back = not earlier or any(i in rows for i in earlier)
        return goes_back and echoes_seeds(
            rows.values(), lambda i: claims[i].seed if i in claims else None
        )

    # Reading.

    async def _read_list(self, *, settle: bool) -> CompleteListing | None:
        """Read as much of the list as can matter; `None` if that failed."""
        if self._prove and self._later_creates():
            return await read_list(
                self._read_page, max_pages=MAX_PROOF_PAGES, verify_end=True
            )
        # Earlier listings stop at pages that are older than the create. The last one
        # does not rely on dates: the service's clock may be wrong.
        is_last = self._listings_read >= MIN_LISTINGS - 1 and self._has_settled
        since = self._criteria().since if settle and not is_last else None
        return await read_list(
            self._read_page,
            max_pages=MAX_PAGES,
            verify_end=settle and is_last,
            since=since,
        )

    async def _read_page(self, offset: int) -> AnyPage | None:
        effects = self._lost.request.kind == "sound_effect"
        call = Call(
            method="GET",
            path="/v1/sound-effects" if effects else "/v1/generations",
            query={"limit": PAGE_SIZE, "offset": offset},
        )
        parse = parsing.sound_effect_page if effects else parsing.generation_page
        try:
            page = parse(await self._pipeline.request(call), offset=offset)
        except FinetuningError as error:
            self._on_read_failed(error, is_first=offset == 0)
            return None
        self._unreadable_in_a_row = 0
        self._inflight.mark_listed(row.id for row in page.items)
        for row in page.items:
            if row.is_final and self._inflight.is_in_progress(row.id):
                self._inflight.observe_final(row)
        return page

    def _on_read_failed(self, error: FinetuningError, *, is_first: bool) -> None:
        """Note a failed read; the search goes on if it may pass.

        Raises:
            _ListUnusable: It will not pass.
        """
        self._last_failure = f"the list could not be read ({error})"
        logger.debug("looking for a lost create; a read failed: %s", error)
        is_final = isinstance(error, REFUSALS)
        is_ours = isinstance(error, APIStatusError) and is_in_own_form(error)
        # What a gateway says passes as a rule, so one such response ends nothing.
        is_foreign = isinstance(error, APIResponseError) or (is_final and not is_ours)
        self._unreadable_in_a_row += is_foreign
        is_refused = is_final and is_ours and is_first
        if is_refused or self._unreadable_in_a_row >= MAX_UNREADABLE:
            raise _ListUnusable(self._last_failure)
