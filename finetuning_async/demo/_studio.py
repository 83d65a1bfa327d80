"""The songs, and the tasks that make them, independent of any open page.

Every open page gets the same events: all songs whenever one changes, and the meters
(credits and both rate limits) whenever a number changes. None of that sends a request
to the service; the credits are read at the start and when a track ends.
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

    from finetuning_async import (
        AsyncClient,
        BudgetStatus,
        CreateWaiting,
        GenerationRequest,
        Progress,
    )

logger = logging.getLogger("finetuning_async")

MAX_SONGS: Final = 24
"""Songs on the page; the oldest ones that have ended are dropped."""

MAX_OPEN: Final = 20
"""Songs that have not ended."""

METER_INTERVAL: Final = 0.5
"""Seconds between two looks at the meters."""

WAIT_TIMEOUT: Final = 900.0
"""Seconds after which the demo gives up a track; the service may still finish it."""


class Studio:
    """Everything that the page shows.

    Args:
        client: Makes the songs.
        folder: Where their audio is kept while the demo runs.
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
        """Make songs while the block runs; tracks already in progress are followed."""
        async with anyio.create_task_group() as self._tasks:
            self._tasks.start_soon(self._load_tracks)
            try:
                yield self
            finally:
                self.close()
                self._tasks.cancel_scope.cancel()

    def close(self) -> None:
        """End all event streams, so that the server can stop."""
        self.is_closing = True
        self._notify()

    # Requests of the page.

    def make(self, request: GenerationRequest) -> Song:
        """Start a song; it is made whether or not a page is open.

        Raises:
            RateLimitError: Too many are in progress.
        """
        open_songs = sum(not song.is_final for song in self.songs.values())
        if open_songs >= MAX_OPEN or self._tasks is None:
            raise RateLimitError(
                f"{open_songs} songs are in progress, and at most {MAX_OPEN} may be;"
                " wait for one to end",
                status_code=429,
            )
        song = Song(
            key=f"song-{next(self._numbers)}",
            requested_at=anyio.current_time(),
            request=request,
        )
        self._add(song)
        self._tasks.start_soon(self._run, song, lambda: self._create(song))
        return song

    async def audio(self, song: Song) -> Path:
        """The audio file of a completed song, downloaded once.

        Raises:
            FinetuningError: It could not be downloaded.
        """
        assert song.track is not None  # noqa: S101 - the caller has checked that it is completed
        path = self.folder / f"{song.key}.mp3"
        async with self._files.setdefault(song.key, anyio.Lock()):
            if not await anyio.Path(path).exists():
                await self.client.download(song.track, path)
        return path

    # The tasks.

    async def _load_tracks(self) -> None:
        """Show the account's latest tracks, and follow those in progress."""
        try:
            page = await self.client.generations.list(limit=MAX_SONGS)
        except FinetuningError as error:
            logger.warning(
                "the demo could not list the account's tracks, so it shows none: %s",
                error,
            )
            return
        for track in reversed(page.items):
            song = Song(key=track.id, requested_at=anyio.current_time(), track=track)
            self._add(song)
            if not song.is_final and self._tasks is not None:
                self._tasks.start_soon(self._run, song, lambda s=song: self._follow(s))
        await self._update_credits()

    async def _run(self, song: Song, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
            if song.request is not None:
                song.took = anyio.current_time() - song.requested_at
        except FinetuningError as error:
            song.error = json.loads(bytes(answer_to(error).body))["error"]
        self._notify()
        await self._update_credits()

    async def _create(self, song: Song) -> None:
        request = song.request
        assert request is not None  # noqa: S101 - `make` has set it
        accepted = await self.client.generations.create(
            request.tags,
            lyrics=request.lyrics,
            duration=request.duration,
            bpm=request.bpm,
            language=request.language,
            key=request.key,
            scale=request.scale,
            timesignature=request.timesignature,
            seed=request.seed,
            share=request.share,
            on_waiting=lambda event: self._wait_in_line(song, event),
        )
        if accepted.credits_remaining is not None:
            self.credits = accepted.credits_remaining
        self._update(song, accepted)
        await self._follow(song)

    async def _follow(self, song: Song) -> None:
        if song.track is not None:
            await self.client.wait_for_completion(
                song.track,
                timeout=WAIT_TIMEOUT,
                on_update=lambda s: self._update(song, s),
            )

    def _wait_in_line(self, song: Song, event: CreateWaiting) -> None:
        song.waiting = event
        self._notify()

    def _update(self, song: Song, track: object) -> None:
        if isinstance(track, Generation):
            song.track = track
            self._notify()

    async def _update_credits(self) -> None:
        try:
            self.credits = (await self.client.me()).total_remaining
        except FinetuningError as error:
            logger.debug("the demo could not read the credits: %s", error)

    # Events for all open pages.

    def _add(self, song: Song) -> None:
        self.songs[song.key] = song
        # Only ended songs are dropped; one in progress stays however old it is.
        ended = [s.key for s in self.songs.values() if s.is_final]
        for key in ended[: max(len(self.songs) - MAX_SONGS, 0)]:
            del self.songs[key]
        self._notify()

    def _notify(self) -> None:
        # A page may be busy sending while this is set, and miss the event: it compares
        # versions before it waits.
        self._version += 1
        self._changed.set()
        self._changed = anyio.Event()

    async def events(self) -> AsyncGenerator[ServerSentEvent]:
        """``songs`` and ``meters`` at once, then whenever they change."""
        version, meters = -1, ""
        while not self.is_closing:
            if version != self._version:
                version = self._version
                yield ServerSentEvent(json.dumps(self.snapshot()), event="songs")
            newest = json.dumps(self.meters())
            if newest != meters:
                meters = newest
                yield ServerSentEvent(meters, event="meters")
            with anyio.move_on_after(METER_INTERVAL):
                if version == self._version:
                    await self._changed.wait()

    def snapshot(self) -> dict[str, Any]:
        """All songs, the newest first, and how long one usually takes, in seconds."""
        now = anyio.current_time()
        took = [s.took for s in self.songs.values() if s.took is not None]
        # What tracks take, and nothing of the line: of a create that goes out at once.
        ahead = self.client.estimate()
        takes = ahead.last_completed - ahead.last_sent
        return {
            "songs": [
                song.to_json(now, takes=takes, progress=self._progress(song))
                for song in reversed(self.songs.values())
            ],
            "usual": round(median(took), 1) if took else None,
        }

    def _progress(self, song: Song) -> Progress | None:
        if song.track is None or song.is_final:
            return None
        return self.client.progress(song.track)

    def meters(self) -> dict[str, Any]:
        """Credits, when the next song can start, and both rate limits."""
        status = self.client.rate_limit_status()
        starts_in = self.client.estimate().first_sent
        return {
            "credits": self.credits,
            "starts_in": ceil(starts_in) if isfinite(starts_in) else None,
            "creates": _budget_json(status.creates),
            "reads": _budget_json(status.reads),
        }


def _budget_json(budget: BudgetStatus) -> dict[str, Any]:
    wait = budget.next_free_in
    return {
        "limit": budget.limit,
        "per": budget.per,
        "available": budget.available,
        "waiting": budget.waiting,
        "next": ceil(wait) if isfinite(wait) else None,
    }
