"""Finding a create whose answer was lost.

The service has no idempotency key, but it echoes the seed, and every create of ours
carries one. So a track in the list is the lost one if it shows that seed and kind, was
created no earlier than our first byte left, and is claimed by nobody. Prompt and
parameters only break ties; the service may rewrite them.

That it is absent needs time: the service may commit after we stopped waiting. So it
takes `SETTLE` seconds and `LISTINGS` complete listings to say so.
"""

from __future__ import annotations

import datetime as dt
import logging
from typing import TYPE_CHECKING, Final

import anyio
import attrs

from finetuning_async import _parsing
from finetuning_async._errors import (
    AuthenticationError,
    FinetuningError,
    PermissionDeniedError,
)
from finetuning_async._models import Generation
from finetuning_async._types import Kind
from finetuning_async._wire import Call

if TYPE_CHECKING:
    from finetuning_async._inflight import InFlight
    from finetuning_async._models import Page
    from finetuning_async._pipeline import Pipeline

logger = logging.getLogger("finetuning_async")

SETTLE: Final = 30.0
"""Seconds after the answer was lost in which the service may still commit."""

LISTINGS: Final = 3
"""Complete listings without the track before it counts as absent."""

PAUSES: Final = (0.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before each listing; 30 in all. Then every 15 s, while listings fail."""

ROUNDS: Final = 12
"""Listings, failed ones included, after which nothing more is to be hoped for."""

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
        seed: The seed sent.
        seed_is_ours: Whether it was drawn here, at random, and so tells the track apart
            from all others; one that the caller chose may have been used before.
        sent_at: When its first byte left, in seconds of the loop's clock.
        lost_at: When it was given up, likewise.
    """

    kind: Kind
    prompt: str
    seed: int
    seed_is_ours: bool
    sent_at: float
    lost_at: float


@attrs.frozen(kw_only=True)
class Finding:
    """What a lookup found.

    Attributes:
        track: The lost track; `None` if it was not found.
        absent: Whether it is known not to exist.
        candidates: Ids that may be it, where several or none can be told apart.
    """

    track: Generation | None = None
    absent: bool = False
    candidates: tuple[str, ...] = ()


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

    async def find(self, *, settle: bool = True) -> Finding:
        """List until the track is found, or known to be absent.

        Args:
            settle: Whether the service may still commit it; if not, one complete
                listing decides.

        Raises:
            AuthenticationError: The list may not be read.
            PermissionDeniedError: Likewise.
        """
        complete, needed = 0, LISTINGS if settle else 1
        for number in range(ROUNDS):
            await anyio.sleep(PAUSES[number] if number < len(PAUSES) else 15.0)
            matches = await self._list()
            if matches is None:
                continue
            finding = self._judge(matches)
            if finding.track is not None or finding.candidates:
                return finding
            complete += 1
            waited = anyio.current_time() - self._lost.lost_at
            if complete >= needed and (waited >= SETTLE or not settle):
                return Finding(absent=True)
        return Finding()

    def _judge(self, matches: list[Generation]) -> Finding:
        if not matches:
            return Finding()
        exact = [m for m in matches if m.prompt == self._lost.prompt] or matches
        is_certain = self._since() is not None or self._lost.seed_is_ours
        if len(exact) == 1 and is_certain and self._inflight.seeds_are_echoed:
            # Claimed before anybody else can look: there is no await in between.
            self._inflight.claim(exact[0].id)
            return Finding(track=exact[0])
        return Finding(candidates=tuple(match.id for match in exact))

    async def _list(self) -> list[Generation] | None:
        """Page through what was created since; `None` if that did not succeed."""
        matches: dict[str, Generation] = {}
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

    async def _page(self, offset: int) -> Page[Generation] | None:
        call = Call(
            method="GET",
            path="/v1/generations",
            query={"limit": PAGE_SIZE, "offset": offset},
        )
        try:
            answer = await self._pipeline.request(call)
            return _parsing.generation_page(answer, offset=offset)
        except (AuthenticationError, PermissionDeniedError):
            raise
        except FinetuningError as error:
            logger.debug("a lookup goes on after: %s", error)
            return None

    def _since(self) -> dt.datetime | None:
        """The earliest the service can have dated the lost create, if that is known."""
        moment = self._pipeline.clock.not_before(self._lost.sent_at)
        return None if moment is None else moment - CLOCK_SLACK

    def _matches(self, row: Generation) -> bool:
        since = self._since()
        return (
            row.parameters.seed == self._lost.seed
            and row.kind == self._lost.kind
            and (since is None or row.created_at is None or row.created_at >= since)
            and not self._inflight.is_claimed(row.id)
        )

    def _is_past(self, page: Page[Generation]) -> bool:
        """Whether a page goes back to before the create; later ones are older still."""
        since = self._since()
        dates = [row.created_at for row in page.items if row.created_at is not None]
        return since is not None and bool(dates) and min(dates) < since - WELL_BEFORE
