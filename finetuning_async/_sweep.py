"""One sweep of the poll loop: the fewest reads that show every track that is due.

One track due: its own ``GET``. Several: a page of the list, newest first, and the next
page while the last one showed some of them and several are still missing; what is on no
page gets its own ``GET``. Nothing is read twice.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from finetuning_async import _parsing
from finetuning_async._errors import (
    AuthenticationError,
    BadRequestError,
    FinetuningError,
    NotFoundError,
    PermissionDeniedError,
)
from finetuning_async._retry import Repeatable
from finetuning_async._transport import NoAnswer
from finetuning_async._wire import Call

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from finetuning_async._models import Page
    from finetuning_async._pipeline import Pipeline
    from finetuning_async._shield import Guarded
    from finetuning_async._watch_list import AnyTrack, Family, Watched
    from finetuning_async._wire import Answer

logger = logging.getLogger("finetuning_async")

PAGE_SIZE: Final = 99
"""The largest page that every published source allows."""

WORTH_A_PAGE: Final = 2
"""From so many missing tracks on, the next page is cheaper than a read for each."""

PATHS: Final[dict[Family, str]] = {
    "generations": "/v1/generations",
    "sound_effects": "/v1/sound-effects",
}


class Sweep:
    """Reads what is due through one pipeline.

    Runs in a child task of the driver. A read on the wire, and what it tells, survive
    the driver's cancellation; the reads after it do not begin.

    Args:
        pipeline: The driver's.
        guarded: The child's guard.
        seen: Called with each state read.
        gone: Called with a track that was answered with 404.

    Attributes:
        reads: How many requests were sent.
        trouble: The passing failure that ended it, if one did.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        guarded: Guarded[None],
        *,
        seen: Callable[[AnyTrack], None],
        gone: Callable[[str, NotFoundError], None],
    ) -> None:
        self._pipeline = pipeline
        self._guarded = guarded
        self._seen = seen
        self._gone = gone
        self.reads = 0
        self.trouble: FinetuningError | None = None

    async def look_at(self, due: Sequence[Watched], *, lists_work: bool) -> None:
        """Read the state of every track given.

        Args:
            due: Tracks of one family.
            lists_work: Whether the list of that family can be used.

        Raises:
            AuthenticationError: The key does not hold any more.
            PermissionDeniedError: The account lost its access.
            BadRequestError: The list was refused.
        """
        family = due[0].family
        missing = {track.track_id for track in due}
        offset = 0
        while len(missing) >= WORTH_A_PAGE and lists_work and self.trouble is None:
            page = await self._page(family, offset, missing)
            if page is None:
                break
            found = missing & {row.id for row in page.items}
            missing -= found
            if not found or not page.has_more:
                break
            offset = page.next_offset
        for track_id in [t.track_id for t in due if t.track_id in missing]:
            if self.trouble is None:
                await self._single(family, track_id)

    async def _page(
        self, family: Family, offset: int, wanted: set[str]
    ) -> Page[AnyTrack] | None:
        call = Call(
            method="GET",
            path=PATHS[family],
            query={"limit": PAGE_SIZE, "offset": offset},
        )
        incomplete: list[str] = []
        pages: list[Page[AnyTrack]] = []

        def take(answer: Answer) -> None:
            page = _read_page(family, answer)
            pages.append(page)
            for row in page.items:
                if row.id in wanted and _needs_its_own_read(row):
                    incomplete.append(row.id)
                else:
                    self._seen(row)

        await self._read(call, take)
        for track_id in incomplete:
            await self._single(family, track_id)
        return pages[0] if pages else None

    async def _single(self, family: Family, track_id: str) -> None:
        call = Call(method="GET", path=f"{PATHS[family]}/{quote(track_id, safe='')}")

        def take(answer: Answer) -> None:
            self._seen(_read_track(family, answer))

        try:
            await self._read(call, take)
        except NotFoundError as error:
            self._gone(track_id, error)

    async def _read(self, call: Call, take: Callable[[Answer], None]) -> None:
        """One read; a passing failure is noted in `trouble`, not raised."""
        try:
            permit = await self._pipeline.turn(call)
            self.reads += 1
            with self._guarded.held():
                answer = await self._pipeline.send(call, permit)
                self._pipeline.check(call, answer)
                take(answer)
        except NoAnswer as failure:
            self.trouble = failure.as_error(call)
        except Repeatable as failure:
            self.trouble = failure.error
        except (
            AuthenticationError,
            PermissionDeniedError,
            NotFoundError,
            BadRequestError,
        ):
            raise
        except FinetuningError as error:
            self.trouble = error
        if self.trouble is not None:
            logger.debug("polling goes on after: %s", self.trouble)


def _needs_its_own_read(row: AnyTrack) -> bool:
    """Whether a row of a list lacks what its end should tell."""
    if row.status == "failed":
        return row.error_message is None
    return row.status == "completed" and row.audio_url is None


def _read_page(family: Family, answer: Answer) -> Page[AnyTrack]:
    if family == "generations":
        return _parsing.generation_page(answer)
    return _parsing.sound_effect_page(answer)


def _read_track(family: Family, answer: Answer) -> AnyTrack:
    if family == "generations":
        return _parsing.generation(answer)
    return _parsing.sound_effect(answer)
