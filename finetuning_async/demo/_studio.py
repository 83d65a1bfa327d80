"""The songs, and the tasks that make them: independent of any open page.

Everybody who looks gets the same picture: `Studio.events` gives all songs whenever one
changes, and the meters (credits, both budgets) whenever a figure does. None of that
asks the service; credits are asked for once at the start and when a track ends.
"""

from __future__ import annotations

import json
import logging
from contextlib import asynccontextmanager
from itertools import count
from math import ceil, isfinite
from statistics import median
from typing import TYPE_CHECKING, Any, Final, Self

import anyio
from sse_starlette import ServerSentEvent

from finetuning_async import FinetuningError, Generation, RateLimitError
from finetuning_async.demo._song import Song
from finetuning_async.fastapi import answer_to

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from pathlib import Path

    from anyio.abc import TaskGroup

    from finetuning_async import AsyncClient, BudgetStatus, GenerationRequest

logger = logging.getLogger("finetuning_async")

SHOWN: Final = 24
"""Songs on the page; older ones that have ended are dropped."""

MOST_AT_ONCE: Final = 20
"""Songs that have not ended."""

LOOK_EVERY: Final = 0.5
"""Seconds between looks at the meters."""

WAIT: Final = 900.0
"""Seconds after which a track that never ends is given up here; the service goes on."""


class Studio:
    """All that the page shows.

    Args:
        client: Makes the songs.
        folder: Where their audio is kept while this runs.
    """

    def __init__(self, client: AsyncClient, folder: Path) -> None:
        self.client = client
        self.folder = folder
        self.songs: dict[str, Song] = {}
        self.credits: int | None = None
        self.is_closing: bool = False
        self._tasks: TaskGroup | None = None
        self._numbers = count(1)
        self._version = 0
        self._changed = anyio.Event()
        self._files: dict[str, anyio.Lock] = {}

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Self]:
        """Work for the length of the block; what was under way is taken up again."""
        async with anyio.create_task_group() as self._tasks:
            self._tasks.start_soon(self._begin)
            try:
                yield self
            finally:
                self.close()
                self._tasks.cancel_scope.cancel()

    def close(self) -> None:
        """End all event streams, so that a server can end."""
        self.is_closing = True
        self._tell()

    # What people wish for.

    def make(self, request: GenerationRequest) -> Song:
        """Start a song; it goes on whether or not somebody looks.

        Raises:
            RateLimitError: Too many are under way.
        """
        open_ones = sum(not song.is_final for song in self.songs.values())
        if open_ones >= MOST_AT_ONCE or self._tasks is None:
            raise RateLimitError("too many songs are under way", status_code=429)
        song = Song(
            key=f"song-{next(self._numbers)}",
            asked_at=anyio.current_time(),
            request=request,
        )
        self._add(song)
        self._tasks.start_soon(self._ends, song, lambda: self._create(song))
        return song

    async def audio(self, song: Song) -> Path:
        """The file of a completed song, fetched once.

        Raises:
            FinetuningError: It could not be fetched.
        """
        assert song.track is not None  # noqa: S101 - callers ask for completed songs
        path = self.folder / f"{song.key}.mp3"
        async with self._files.setdefault(song.key, anyio.Lock()):
            if not await anyio.Path(path).exists():
                await self.client.download(song.track, path)
        return path

    # What the tasks do.

    async def _begin(self) -> None:
        """Show what is there already, and follow what is not at its end."""
        try:
            page = await self.client.generations.list(limit=SHOWN)
        except FinetuningError as error:
            logger.warning("the demo shows no earlier tracks: %s", error)
            return
        for track in reversed(page.items):
            song = Song(key=track.id, asked_at=anyio.current_time(), track=track)
            self._add(song)
            if not song.is_final and self._tasks is not None:
                self._tasks.start_soon(self._ends, song, lambda s=song: self._follow(s))
        await self._count_credits()

    async def _ends(self, song: Song, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
            if song.request is not None:
                song.took = anyio.current_time() - song.asked_at
        except FinetuningError as error:
            song.error = json.loads(bytes(answer_to(error).body))["error"]
        self._tell()
        await self._count_credits()

    async def _create(self, song: Song) -> None:
        wish = song.request
        assert wish is not None  # noqa: S101 - `make` has set it
        accepted = await self.client.generations.create(
            wish.tags,
            lyrics=wish.lyrics,
            duration=wish.duration,
            bpm=wish.bpm,
            language=wish.language,
            key=wish.key,
            scale=wish.scale,
            timesignature=wish.timesignature,
            seed=wish.seed,
        )
        if accepted.credits_remaining is not None:
            self.credits = accepted.credits_remaining
        self._update(song, accepted)
        await self._follow(song)

    async def _follow(self, song: Song) -> None:
        if song.track is not None:
            await self.client.wait_for_completion(
                song.track, timeout=WAIT, on_update=lambda s: self._update(song, s)
            )

    def _update(self, song: Song, track: object) -> None:
        if isinstance(track, Generation):
            song.track = track
            self._tell()

    async def _count_credits(self) -> None:
        try:
            self.credits = (await self.client.me()).total_remaining
        except FinetuningError as error:
            logger.debug("the demo could not count the credits: %s", error)

    # What everybody sees.

    def _add(self, song: Song) -> None:
        self.songs[song.key] = song
        ended = [s.key for s in self.songs.values() if s.is_final]
        for key in ended[: max(len(self.songs) - SHOWN, 0)]:
            del self.songs[key]
        self._tell()

    def _tell(self) -> None:
        self._version += 1
        self._changed.set()
        self._changed = anyio.Event()

    async def events(self) -> AsyncGenerator[ServerSentEvent]:
        """``songs`` and ``meters`` at once, then again as they change."""
        version, meters = -1, ""
        while not self.is_closing:
            if version != self._version:
                version = self._version
                yield ServerSentEvent(json.dumps(self.picture()), event="songs")
            newest = json.dumps(self.meters())
            if newest != meters:
                meters = newest
                yield ServerSentEvent(meters, event="meters")
            with anyio.move_on_after(LOOK_EVERY):
                if version == self._version:
                    await self._changed.wait()

    def picture(self) -> dict[str, Any]:
        """All songs, the newest first, and how long one usually takes, in seconds."""
        now = anyio.current_time()
        took = [s.took for s in self.songs.values() if s.took is not None]
        return {
            "songs": [song.shown(now) for song in reversed(self.songs.values())],
            "usual": round(median(took), 1) if took else None,
        }

    def meters(self) -> dict[str, Any]:
        """Credits and both budgets."""
        status = self.client.rate_limit_status()
        return {
            "credits": self.credits,
            "creates": _budget(status.creates),
            "reads": _budget(status.reads),
        }


def _budget(budget: BudgetStatus) -> dict[str, Any]:
    wait = budget.next_free_in
    return {
        "limit": budget.limit,
        "per": budget.per,
        "available": budget.available,
        "waiting": budget.waiting,
        "next": ceil(wait) if isfinite(wait) else None,
    }
