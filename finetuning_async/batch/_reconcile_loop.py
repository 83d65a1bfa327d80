"""A look at the list now and then, while something is in doubt; and its verdicts."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import anyio

from finetuning_async.journal import Held

if TYPE_CHECKING:
    from collections.abc import Iterable

    from finetuning_async.batch._completion import Follower
    from finetuning_async.batch._creator import Creator
    from finetuning_async.batch._credit_check import Reading
    from finetuning_async.batch._reconciler import Look
    from finetuning_async.batch._run_context import RunContext
    from finetuning_async.journal import Item

logger = logging.getLogger("finetuning_async")

REBASE: Final = 300.0
"""Seconds between looks at the balance while nothing is in doubt."""


class Doubting:
    """Settles the doubts of one run.

    Args:
        desk: What the run shares.
        creator: Takes back what is proved absent.
        follower: Takes what was found.
    """

    def __init__(self, desk: RunContext, creator: Creator, follower: Follower) -> None:
        self._desk = desk
        self._creator = creator
        self._follower = follower

    async def run(self) -> None:
        """Look now and then, until nothing is in doubt and nothing more can be."""
        while not self._is_over():
            if self._desk.doubts:
                await self._investigate()
            every = self._desk.options.look_every if self._desk.doubts else REBASE
            with anyio.move_on_after(every) as scope:
                await self._until_it_matters()
            if scope.cancelled_caught and not self._desk.doubts:
                await self.rebase()

    def _is_over(self) -> bool:
        desk, creator = self._desk, self._creator
        if desk.doubts:  # of a run that creates no more, they are left to the next
            return desk.paused is not None and not (creator.makes or desk.running)
        return creator.is_over and not creator.makes

    async def _until_it_matters(self) -> None:
        """Wait until there is a new doubt, or nothing more to do."""
        known = set(self._desk.doubts)
        while set(self._desk.doubts) <= known and not self._is_over():
            await self._desk.wait_for_change()

    async def rebase(self) -> None:
        """Take the balance as a new base, if nothing is in doubt that it may show."""
        desk = self._desk
        states = desk.journal.summary.states
        if states["intent"] or states["unknown"]:
            return
        if states["accepted"] and not desk.running:
            return  # before a run has begun to follow them
        reading = await desk.detective.reading()
        look = await self._look() if desk.running else None
        if reading is not None and desk.detective.is_current(
            reading, look, self._running_ids()
        ):
            await desk.detective.rebase(reading)

    async def _look(self, *, whole: bool = False) -> Look | None:
        desk = self._desk
        items = [*desk.doubts.values(), *desk.running.values()]
        return await desk.detective.look(earliest(items), whole=whole)

    def _running_ids(self) -> frozenset[str]:
        """Tracks that are not known to have ended."""
        items = self._desk.running.values()
        return frozenset(
            str(item.entry.track_id) for item in items if item.entry.state == "accepted"
        )

    async def _investigate(self) -> None:
        """A look for all that is in doubt, and a verdict for each."""
        desk = self._desk
        is_old = any(map(self._is_old, desk.doubts.values()))
        reading = await desk.detective.reading() if is_old else None
        words: dict[int, str] = {}
        for whole in (False, True):  # no sentence before all pages were read
            look = await self._look(whole=whole)
            if look is None:
                return
            await self._adopt_found(look)
            words = await self._verdicts(look, reading, presume_whole=not whole)
            if set(words.values()) <= {"wait"}:
                break
        for item in list(desk.doubts.values()):
            await self._sentence(item, words.get(item.seq, "wait"))
        desk.tell()

    async def _verdicts(
        self, look: Look, reading: Reading | None, *, presume_whole: bool
    ) -> dict[int, str]:
        desk = self._desk
        clear = await desk.detective.credits_clear(reading, look, self._running_ids())
        return {
            item.seq: desk.detective.judge(
                item,
                look,
                now=desk.now,
                credits_clear=clear,
                presume_whole=presume_whole,
                more_to_come=self._more_to_come(),
            )
            for item in desk.doubts.values()
        }

    def _is_old(self, item: Item) -> bool:
        age = self._desk.now - (item.entry.lost_at or 0.0)
        return age >= self._desk.options.settle

    async def _adopt_found(self, look: Look) -> None:
        desk = self._desk
        items = [make.item for make in self._creator.makes]
        rivals = [item for item in items if item.entry.state == "intent"]
        ids = desk.detective.match([*desk.doubts.values(), *rivals], look)
        for seq, track_id in ids.items():
            item = desk.doubts.pop(seq, None)
            if item is not None:
                self._follower.start(await desk.adopt(item, track_id, logger))

    async def _sentence(self, item: Item, word: str) -> None:
        desk = self._desk
        if word == "absent":
            await self._plan_again(item)
        elif word != "wait" and desk.paused is None:
            del desk.doubts[item.seq]
            logger.warning("%s is held: %s", item.name, word)
            await desk.end(item, Held(word))

    def _more_to_come(self) -> bool:
        creator = self._creator
        return bool(creator.makes or self._desk.running or not creator.is_idle)

    async def _plan_again(self, item: Item) -> None:
        logger.warning("%s was not accepted; it is sent again", item.name)
        del self._desk.doubts[item.seq]
        await self._creator.plan_again(item)


def earliest(items: Iterable[Item]) -> float:
    """When the first create of some items left, in seconds since 1970."""
    return min(item.entry.sent_at or 0.0 for item in items)
