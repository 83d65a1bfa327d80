"""Finding a create whose answer was lost.

The service has no idempotency key, but it echoes the seed, and every create of ours
carries one. So a track in the list is the lost one if it shows that seed and kind, was
created no earlier than our first byte left, and is claimed by nobody. Prompt and
parameters only break ties; the service may rewrite them.

That it is absent needs time: the service may commit after we stopped waiting. So it
takes `SETTLE` seconds and `LISTINGS` complete listings to say so.

Sound effects have no seed: those that may be the lost one are named, none is adopted.
"""

from __future__ import annotations

import datetime as dt
import logging
from typing import TYPE_CHECKING, Final, TypeAlias

import anyio
import attrs

from finetuning_async import _parsing
from finetuning_async._errors import (
    APIResponseError,
    AuthenticationError,
    FinetuningError,
    NotFoundError,
    PermissionDeniedError,
)
from finetuning_async._inflight import SeedMark
from finetuning_async._models import Generation, SoundEffect
from finetuning_async._types import Kind
from finetuning_async._wire import Call

if TYPE_CHECKING:
    from finetuning_async._inflight import InFlight
    from finetuning_async._models import Page
    from finetuning_async._pipeline import Pipeline

    AnyTrack: TypeAlias = Generation | SoundEffect
    AnyPage: TypeAlias = Page[Generation] | Page[SoundEffect]

logger = logging.getLogger("finetuning_async")

SETTLE: Final = 30.0
"""Seconds after the answer was lost in which the service may still commit."""

LISTINGS: Final = 3
"""Complete listings without the track before it counts as absent."""

PAUSES: Final = (0.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before each listing; 30 in all. Then `LATER`, while listings fail."""

LATER: Final = 15.0

LONGEST: Final = 300.0
"""Seconds after which nothing more is to be hoped for."""

UNREADABLE: Final = 3
"""Listings in a row that are no list of tracks, after which it is given up: something
else answers there."""

CLOCK_SLACK: Final = dt.timedelta(seconds=2)
"""``createdAt`` has whole seconds, and the two clocks are known to about one."""

WELL_BEFORE: Final = dt.timedelta(minutes=1)
"""How far before the create a page must reach to be the last one read."""

PAGE_SIZE: Final = 99
PAGES: Final = 20
"""Pages read at most, of which a lookup that knows the service's time needs one or
two."""


@attrs.frozen(kw_only=True)
class Lost:
    """A create without an answer.

    Attributes:
        kind: What it makes.
        prompt: The words sent.
        seed: The seed sent; `None` for a sound effect, which has none.
        seed_is_ours: Whether it was drawn here, at random, and so tells the track apart
            from all others; one that the caller chose may have been used before.
        mark: Says whether other creates with this seed were on their way; one may set
            out while this one is looked for.
        sent_at: When its first byte left, in seconds of the loop's clock.
        lost_at: When it was given up, likewise.
    """

    kind: Kind
    prompt: str
    seed: int | None
    seed_is_ours: bool
    mark: SeedMark | None
    sent_at: float
    lost_at: float


@attrs.frozen(kw_only=True)
class Finding:
    """What a lookup found.

    Attributes:
        track: The lost track; `None` if it was not found.
        absent: Whether it is known not to exist.
        candidates: Ids that may be it, where several or none can be told apart.
        trouble: Why the list could not be read to the end, if it could not.
    """

    track: Generation | None = None
    absent: bool = False
    candidates: tuple[str, ...] = ()
    trouble: str | None = None


class _Hopeless(Exception):  # noqa: N818 - ends a lookup, and is no error of its own
    """The list cannot be read, and waiting will not change that."""


class Lookup:
    """Looks for one lost create.

    Args:
        pipeline: How to read.
        inflight: Who has claimed what.
        lost: What to look for.
    """

    def __init__(self, pipeline: Pipeline, inflight: InFlight, lost: Lost) -> None:
        self._pipeline = pipeline
        self._inflight = inflight
        self._lost = lost
        self._unreadable = 0
        self._trouble: str | None = None

    async def find(self, *, settle: bool = True) -> Finding:
        """List until the track is found, or known to be absent.

        Args:
            settle: Whether the service may still commit it; if not, one complete
                listing decides.
        """
        try:
            return await self._find(settle=settle)
        except _Hopeless as end:
            return Finding(trouble=str(end))

    async def _find(self, *, settle: bool) -> Finding:
        complete, number = 0, 0
        while self._waited() < LONGEST:
            await anyio.sleep(PAUSES[number] if number < len(PAUSES) else LATER)
            number += 1
            matches = await self._list()
            if matches is None:
                continue
            if matches:
                return self._judge(matches)
            complete += 1
            if not settle or (complete >= LISTINGS and self._waited() >= SETTLE):
                return Finding(absent=self._seed_tells)
        return Finding(trouble=self._trouble)

    @property
    def _seed_tells(self) -> bool:
        """Whether a track would show our seed, if it has one."""
        return self._lost.seed is None or self._inflight.seeds_are_echoed

    def _waited(self) -> float:
        return anyio.current_time() - self._lost.lost_at

    def _judge(self, matches: list[AnyTrack]) -> Finding:
        exact = [m for m in matches if m.prompt == self._lost.prompt] or matches
        one = exact[0]
        if len(exact) == 1 and isinstance(one, Generation) and self._is_ours(one):
            # Claimed before anybody else can look: there is no await in between.
            self._inflight.claim(one.id)
            return Finding(track=one)
        return Finding(candidates=tuple(match.id for match in exact))

    def _is_ours(self, only: Generation) -> bool:
        """Whether the only match is beyond doubt the lost one."""
        lost = self._lost
        if lost.seed is None or not self._inflight.seeds_are_echoed:
            return False
        if lost.seed_is_ours:
            return True
        if self._since() is None or only.created_at is None:
            return False  # it may be of last week
        is_shared = lost.mark is not None and lost.mark.is_shared
        return only.prompt == lost.prompt or not is_shared

    async def _list(self) -> list[AnyTrack] | None:
        """Page through what was created since; `None` if that did not succeed."""
        matches: dict[str, AnyTrack] = {}
        offset = 0
        for _ in range(PAGES):
            page = await self._page(offset)
            if page is None:
                return None
            matches |= {row.id: row for row in page.items if self._matches(row)}
            if not page.has_more or self._is_past(page):
                break
            offset = page.next_offset
        return list(matches.values())

    async def _page(self, offset: int) -> AnyPage | None:
        effects = self._lost.kind == "sound_effect"
        call = Call(
            method="GET",
            path="/v1/sound-effects" if effects else "/v1/generations",
            query={"limit": PAGE_SIZE, "offset": offset},
        )
        read = _parsing.sound_effect_page if effects else _parsing.generation_page
        try:
            page = read(await self._pipeline.request(call), offset=offset)
        except FinetuningError as error:
            self._note(error)
            return None
        self._unreadable = 0
        for row in page.items:
            if row.is_final and self._inflight.has(row.id):
                self._inflight.saw_end(row)
        return page

    def _note(self, error: FinetuningError) -> None:
        """Go on after a passing failure.

        Raises:
            _Hopeless: It will not pass.
        """
        self._trouble = f"the list could not be read ({error})"
        logger.debug("a lookup goes on after: %s", error)
        refused = (AuthenticationError, PermissionDeniedError, NotFoundError)
        self._unreadable += isinstance(error, APIResponseError)
        if isinstance(error, refused) or self._unreadable >= UNREADABLE:
            raise _Hopeless(self._trouble)

    def _since(self) -> dt.datetime | None:
        """The earliest the service can have dated the lost create, if that is known."""
        moment = self._pipeline.clock.not_before(self._lost.sent_at)
        return None if moment is None else moment - CLOCK_SLACK

    def _matches(self, row: AnyTrack) -> bool:
        since, created_at = self._since(), row.created_at
        return (
            self._has_our_mark(row)
            and (since is None or created_at is None or created_at >= since)
            and not self._inflight.is_claimed(row.id)
        )

    def _has_our_mark(self, row: AnyTrack) -> bool:
        if isinstance(row, SoundEffect):
            return row.prompt == self._lost.prompt
        if row.kind != self._lost.kind:
            return False
        if not self._seed_tells:
            return row.prompt == self._lost.prompt
        return row.parameters.seed == self._lost.seed

    def _is_past(self, page: AnyPage) -> bool:
        """Whether a page goes back to before the create; later ones are older still."""
        since = self._since()
        dates = [row.created_at for row in page.items if row.created_at is not None]
        return since is not None and bool(dates) and min(dates) < since - WELL_BEFORE
