"""The tracks in the making that end users have asked for, each followed by one task.

The tasks belong to the application and not to the request that began them: a browser
may go away, and come back to the same track. They all use the account's one poll loop.
What they know is in memory; what they do is in the journal, so that another process
goes on where this one stops.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from contextlib import asynccontextmanager
from math import inf
from typing import TYPE_CHECKING, Final, Self, cast
from weakref import WeakKeyDictionary

import anyio
import attrs

from finetuning_async._errors import (
    CapacityError,
    ClientClosedError,
    FinetuningError,
    GenerationFailedError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from anyio.abc import TaskGroup

    from finetuning_async._api import Generation, SoundEffect
    from finetuning_async._client import AsyncClient
    from finetuning_async._events import CreateWaiting

logger = logging.getLogger("finetuning_async")

REMEMBERED: Final = 300.0
"""Seconds for which it is known how a track ended; the journal knows it for ever, but
for an error before anything was sent."""

TRY_AGAIN_AFTER: Final = 30.0
"""Seconds after an error before a reader, who pays for nothing, has the track followed
again: a lost create is then looked for once more."""


@attrs.define(eq=False, kw_only=True)
class Followed:
    """One track, from the line to its end.

    Attributes:
        key: The journal's key.
        track: Its latest state; `None` until it is accepted.
        waiting: Its place in the line, as last reported.
        error: Why it is no longer followed, unless it has ended.
        over_at: When it was followed no longer, on the loop's clock.
    """

    key: str
    track: Generation | SoundEffect | None = None
    waiting: CreateWaiting | None = None
    error: FinetuningError | None = None
    over_at: float = inf
    _changed: anyio.Event = attrs.field(factory=anyio.Event)

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come."""
        return self.over_at < inf

    def update(self, track: Generation | SoundEffect) -> None:
        """Take a new state."""
        self.track = track
        self.notify()

    def wait_in_line(self, event: CreateWaiting) -> None:
        """Take a new place in the line."""
        self.waiting = event
        self.notify()

    def notify(self) -> None:
        """Wake all that wait for a change."""
        self._changed.set()
        self._changed = anyio.Event()

    async def until_accepted(self) -> None:
        """Wait until the service has accepted it, or nothing more will come."""
        while self.track is None and not self.is_over:
            await self.change()

    async def change(self) -> None:
        """Wait for the next change."""
        await self._changed.wait()


_running: WeakKeyDictionary[AsyncClient, Followers] = WeakKeyDictionary()
"""Those of each application's client, while its lifespan runs."""


def followers_of(client: AsyncClient) -> Followers:
    """What follows the tracks of an application.

    Raises:
        RuntimeError: The client's lifespan is not one of `client_lifespan`.
    """
    found = _running.get(client)
    if found is None:
        raise RuntimeError(
            "the client was not opened by client_lifespan(), or its application has"
            " ended; create the application with FastAPI(lifespan=client_lifespan())"
        )
    return found


class Followers:
    """Follows tracks in tasks of its own, while its block runs.

    Args:
        client: Has a journal.
    """

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._tasks: TaskGroup | None = None
        self._running: dict[str, Followed] = {}
        self._over: OrderedDict[str, Followed] = OrderedDict()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[Self]:
        """Follow tracks until the block ends; what is left is the next process's."""
        self._tasks = await anyio.create_task_group().__aenter__()
        _running[self._client] = self
        try:
            yield self
        finally:
            if _running.get(self._client) is self:  # two applications may share it
                del _running[self._client]
            self._tasks.cancel_scope.cancel()
            # Given to the group, an exception of the block would come out in a group.
            await self._tasks.__aexit__(None, None, None)
            self._tasks = None

    def find(self, key: str) -> Followed | None:
        """What is known of a track, without following it."""
        self._prune()
        return self._running.get(key) or self._over.get(key)

    def follow(self, key: str, *, again: bool = False) -> Followed:
        """Follow a track of the journal, once for all that ask for it.

        Args:
            key: The journal's key.
            again: Whether to try at once what has ended with an error.
        """
        assert self._tasks is not None  # noqa: S101 - `followers_of` finds running ones
        known = self.find(key)
        if known is not None and not (known.is_over and self._is_stale(known, again)):
            return known
        self._over.pop(key, None)
        followed = self._running[key] = Followed(key=key)
        self._tasks.start_soon(self._follow, followed)
        return followed

    def _is_stale(self, known: Followed, again: bool) -> bool:
        # Without an error it has ended, and so has its entry. But a person may have had
        # the journal forget that: then it is asked for anew.
        since = anyio.current_time() - known.over_at
        return known.error is None or again or since >= TRY_AGAIN_AFTER

    def _prune(self) -> None:
        old = anyio.current_time() - REMEMBERED
        while self._over and next(iter(self._over.values())).over_at < old:
            self._over.popitem(last=False)

    async def _follow(self, followed: Followed) -> None:
        try:
            await self._to_its_end(followed)
        except Exception as error:
            # Of one track; the others are followed on.
            logger.exception("following %s failed", followed.key)
            followed.error = FinetuningError(f"following it failed: {error!r}")
        finally:
            followed.over_at = anyio.current_time()
            del self._running[followed.key]
            self._over[followed.key] = followed
            followed.notify()

    async def _to_its_end(self, followed: Followed) -> None:
        client, key = self._client, followed.key
        try:
            track = await client.resume(
                key,
                timeout=None,
                on_submitted=followed.update,
                on_update=followed.update,
                on_waiting=followed.wait_in_line,
            )
        except GenerationFailedError as error:
            followed.track = cast("Generation | SoundEffect", error.generation)
        except CapacityError as error:
            # Refused, and said so: nothing may be paid for it later.
            followed.error = error
            await client.journal.forget(key)
        except FinetuningError as error:
            followed.error = error
            if not isinstance(error, ClientClosedError):
                logger.warning("%s could not be followed: %s", key, error)
        else:
            followed.track = track
