"""Finding a create whose answer was lost.

The service has no idempotency key, but it echoes the seed, and every create of ours
carries one. `_matching` says which row of the list is the lost track, and `_listing`
whether all of the list was read.

That a track is in no list proves nothing by itself: the list may lag, and the service
may commit after we stopped waiting. It counts as *absent* after `SETTLE` seconds and
`LISTINGS` whole listings, and only if the last one shows, with its seed, a create of
ours that was sent later, and has had the time since to come as far as the lost one.

Sound effects have no seed: those that may be the lost one are named, none is adopted.
"""

from __future__ import annotations

import logging
from math import inf
from typing import TYPE_CHECKING, Final, TypeAlias

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
    Sought,
    choose,
    may_be,
    seen,
    shows_seeds,
)

if TYPE_CHECKING:
    from finetuning_async._api import Page
    from finetuning_async._http import Pipeline
    from finetuning_async._pacing import InFlight

    AnyTrack: TypeAlias = Generation | SoundEffect
    AnyPage: TypeAlias = Page[Generation] | Page[SoundEffect]

logger = logging.getLogger("finetuning_async")

SETTLE: Final = 30.0
"""Seconds after the answer was lost in which the service may still commit."""

LISTINGS: Final = 3
"""Listings without the track before that is said of it."""

PAUSES: Final = (0.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before each listing; 30 in all. Then `LATER`, while listings fail."""

LATER: Final = 15.0

LAG: Final = 60.0
"""Seconds after the answer was lost for which a list that does not show a later create
of ours yet is waited for, if that can prove something."""

LONGEST: Final = 300.0
"""Seconds after which nothing more is to be hoped for."""

UNREADABLE: Final = 3
"""Listings in a row that are no list of tracks, after which it is given up: something
else answers there."""

REFUSALS: Final = (AuthenticationError, PermissionDeniedError, NotFoundError)
"""What the service itself would say again to the same list."""

PAGES: Final = 20
"""Pages read at most to find a track; one that knows the service's time needs one or
two, and reads on only the last time."""

PAGES_OF_PROOF: Final = 300
"""Pages read at most to prove that a track is in none of them; the list of a busy year
fits in."""


@attrs.frozen(kw_only=True)
class LostCreate:
    """A create without an answer.

    Attributes:
        request: What was asked for.
        seed: The seed sent; `None` for a sound effect, which has none.
        seed_is_ours: Whether it was drawn here, at random, and so tells the track apart
            from all others; one that the caller chose may have been used before.
        mark: Says whether other creates with this seed were on their way; one may set
            out while this one is looked for.
        sent_at: When the first byte left of its first attempt whose answer was lost, in
            seconds of the loop's clock.
        last_sent_at: The same of its last attempt.
        lost_at: When that was given up, likewise.
    """

    request: AnyRequest
    seed: int | None
    seed_is_ours: bool
    mark: SeedMark | None
    sent_at: float
    last_sent_at: float
    lost_at: float


@attrs.frozen(kw_only=True)
class RecoveryResult:
    """What a lookup found.

    Attributes:
        track: The lost track; `None` if it was not found.
        is_absent: Whether it is proved not to exist.
        is_unlisted: Whether a list that was read to its end does not show it; that
            proves nothing.
        candidates: Ids that may be it, where several or none can be told apart.
        words: What was looked at, and what it showed.
    """

    track: Generation | None = None
    is_absent: bool = False
    is_unlisted: bool = False
    candidates: tuple[str, ...] = ()
    words: str = "the list was not read"


class _Hopeless(Exception):  # noqa: N818 - ends a lookup, and is no error of its own
    """The list cannot be read, and waiting will not change that."""


class Recovery:
    """Looks for one lost create.

    Args:
        pipeline: How to read.
        inflight: Who has claimed what.
        lost: What to look for.
        prove: Whether its absence is to be proved, if need be and if it can be.
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
        self._read = 0
        self._whole = 0
        self._unreadable = 0
        self._trouble: str | None = None

    async def find(self, *, settle: bool = True) -> RecoveryResult:
        """List until the track is found, or was not to be found for long enough.

        Args:
            settle: Whether the service may still commit it; if not, one listing
                decides.
        """
        try:
            return await self._find(settle=settle)
        except _Hopeless as end:
            return RecoveryResult(words=str(end))

    async def _find(self, *, settle: bool) -> RecoveryResult:
        number, pause = 0, PAUSES[0]
        finding = RecoveryResult()
        while self._waited() < LONGEST:
            await anyio.sleep(pause)
            number += 1
            pause = PAUSES[number] if number < len(PAUSES) else LATER
            listing = await self._list(settle=settle)
            if listing is None:
                finding = attrs.evolve(finding, words=self._trouble or finding.words)
                continue
            finding, proved_at = self._judge(listing)
            if finding.track is not None or not settle:
                return finding
            if not self._may_go_on(finding, proved_at):
                return finding
            if number >= len(PAUSES) and proved_at != inf:
                pause = min(pause, max(proved_at - anyio.current_time(), 1.0))
        return finding

    def _may_go_on(self, finding: RecoveryResult, proved_at: float) -> bool:
        """Whether another listing may tell more than this one has."""
        if finding.is_absent:
            return False
        if self._read < LISTINGS or not self._has_settled:
            return True
        if not self._prove or finding.candidates or not self._later():
            return False
        return proved_at != inf or self._waited() < LAG

    @property
    def _has_settled(self) -> bool:
        return self._waited() >= SETTLE

    @property
    def _seed_tells(self) -> bool:
        """Whether a track would show our seed, if it has one."""
        return self._lost.seed is not None and self._inflight.seeds_are_echoed

    def _waited(self) -> float:
        return anyio.current_time() - self._lost.lost_at

    # What a listing shows.

    def _judge(self, listing: CompleteListing) -> tuple[RecoveryResult, float]:
        """What a listing says, and when one like it would prove absence."""
        self._read += 1
        sought = self._sought()
        tracks = {
            row.id: row for row in listing.rows if not self._is_others(row, sought)
        }
        rows = [seen(row) for row in tracks.values()]
        one, several = choose(
            sought,
            rows,
            is_shared=self._lost.mark is not None and self._lost.mark.is_shared,
            differs=lambda row: self._differs(tracks[row.id]),
        )
        found = None if one is None else tracks[one.id]
        if isinstance(found, Generation):
            # Claimed before anybody else can look: there is no await in between.
            self._inflight.claim(found.id)
            return RecoveryResult(track=found), inf
        self._whole += listing.is_whole
        proved_at = inf
        if self._prove and not several and not may_be(sought, rows):
            proved_at = self._proved_at(listing)
        is_absent = (
            self._whole >= LISTINGS
            and self._has_settled
            and proved_at <= anyio.current_time()
        )
        ids = tuple(row.id for row in several)
        return self._finding(listing, ids, is_absent=is_absent), proved_at

    def _sought(self) -> Sought:
        lost = self._lost
        since = self._pipeline.clock.not_before(lost.sent_at)
        return Sought(
            kind=lost.request.kind,
            prompt=lost.request.prompt,
            seed=lost.seed if self._seed_tells else None,
            is_ours=lost.seed_is_ours and self._seed_tells,
            since=None if since is None else since.timestamp() - SLACK,
        )

    def _is_others(self, row: AnyTrack, sought: Sought) -> bool:
        """Whether a row belongs to another create, or was there before this one."""
        if self._inflight.is_claimed(row.id):
            return True
        was_there = self._inflight.listed_at(row.id) < self._lost.sent_at
        return was_there and not sought.is_ours

    def _differs(self, track: AnyTrack) -> bool:
        return not changes(self._lost.request, track).keys() <= {"prompt", "seed"}

    def _finding(
        self, listing: CompleteListing, candidates: tuple[str, ...], *, is_absent: bool
    ) -> RecoveryResult:
        tells = self._lost.seed is None or self._seed_tells
        return RecoveryResult(
            is_absent=is_absent,
            is_unlisted=listing.reached_end and not candidates and tells,
            candidates=candidates,
            words=self._words(listing, candidates),
        )

    def _words(self, listing: CompleteListing, candidates: tuple[str, ...]) -> str:
        if candidates:
            return f"candidates: {', '.join(candidates)}"
        times = "once" if self._read == 1 else f"{self._read} times"
        which = "all" if listing.reached_end else "the first"
        read = f"the list was read {times}, the last time {which} {len(listing.rows)}"
        if self._lost.seed is not None and not self._seed_tells:
            return f"{read} tracks, but the service does not echo seeds"
        words = f"{read} tracks, and none of them {self._mark}"
        if not self._prove:
            return words
        return (
            f"{words}; that is no proof, and so it was not sent again, without a"
            " complete list that shows a later create of this client"
        )

    @property
    def _mark(self) -> str:
        if self._lost.seed is None:
            return "has its prompt"
        return "has its seed" if self._lost.seed_is_ours else "can be it"

    # What proves absence.

    def _later(self) -> dict[str, Claim]:
        """The creates of ours that were sent after the lost one."""
        claims = self._inflight.claims()
        return {i: c for i, c in claims.items() if c.sent_at > self._lost.last_sent_at}

    def _proved_at(self, listing: CompleteListing) -> float:
        """When a listing that looks like this one proves absence, on the loop's clock.

        A list that first showed a later create at some moment was as far as that one
        then; it is as far as the lost one when it has had as much time more as lies
        between the two.
        """
        rows = {row.id: seen(row) for row in listing.rows}
        if not (listing.is_whole and self._is_faithful(rows)):
            return inf
        until = self._lost.lost_at + SETTLE
        return min(
            (
                self._inflight.listed_at(i) + max(until - claim.sent_at, 0.0)
                for i, claim in self._later().items()
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
        goes_back = not earlier or any(i in rows for i in earlier)
        return goes_back and shows_seeds(
            rows.values(), lambda i: claims[i].seed if i in claims else None
        )

    # Reading.

    async def _list(self, *, settle: bool) -> CompleteListing | None:
        """Read the list as far as it may tell something; `None` if that failed."""
        if self._prove and self._later():
            return await read_list(self._page, most=PAGES_OF_PROOF, to_the_end=True)
        is_last = self._read >= LISTINGS - 1 and self._has_settled
        since = self._sought().since if settle and not is_last else None
        return await read_list(
            self._page, most=PAGES, to_the_end=settle and is_last, since=since
        )

    async def _page(self, offset: int) -> AnyPage | None:
        effects = self._lost.request.kind == "sound_effect"
        call = Call(
            method="GET",
            path="/v1/sound-effects" if effects else "/v1/generations",
            query={"limit": PAGE_SIZE, "offset": offset},
        )
        read = parsing.sound_effect_page if effects else parsing.generation_page
        try:
            page = read(await self._pipeline.request(call), offset=offset)
        except FinetuningError as error:
            self._note(error, is_first=offset == 0)
            return None
        self._unreadable = 0
        self._inflight.mark_listed(row.id for row in page.items)
        for row in page.items:
            if row.is_final and self._inflight.is_in_progress(row.id):
                self._inflight.observe_final(row)
        return page

    def _note(self, error: FinetuningError, *, is_first: bool) -> None:
        """Go on after a passing failure.

        Raises:
            _Hopeless: It will not pass.
        """
        self._trouble = f"the list could not be read ({error})"
        logger.debug("a lookup goes on after: %s", error)
        is_final = isinstance(error, REFUSALS)
        is_ours = isinstance(error, APIStatusError) and is_in_own_form(error)
        # A gateway's word passes as a rule, so one alone ends nothing.
        is_foreign = isinstance(error, APIResponseError) or (is_final and not is_ours)
        self._unreadable += is_foreign
        is_refused = is_final and is_ours and is_first
        if is_refused or self._unreadable >= UNREADABLE:
            raise _Hopeless(self._trouble)
