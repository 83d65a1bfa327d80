"""A lock for each key; it exists only while a task holds it."""

from __future__ import annotations

from collections import deque
from typing import TypeAlias

import anyio

_Key: TypeAlias = tuple[object, ...]


class KeyedLock:
    """Lets one task at a time hold each key, first come first served.

    Creates that a listing could not distinguish share a key.
    """

    def __init__(self) -> None:
        self._waiting: dict[_Key, deque[anyio.Event]] = {}

    def __repr__(self) -> str:
        return f"<KeyedLock held={len(self._waiting)}>"

    def is_held(self, key: _Key) -> bool:
        """Whether a task holds the lock of a key."""
        return key in self._waiting

    async def acquire(self, key: _Key) -> None:
        """Wait for the lock of a key; pair it with `release`.

        A task that is cancelled here does not hold the lock.
        """
        waiting = self._waiting.get(key)
        if waiting is None:
            self._waiting[key] = deque()
            return
        handover = anyio.Event()
        waiting.append(handover)
        try:
            await handover.wait()
        except BaseException:
            # The cancellation and the handover may arrive in the same tick: then the
            # lock is ours already, and the next task would wait for it forever.
            if handover.is_set():
                self.release(key)
            else:
                waiting.remove(handover)
            raise

    def release(self, key: _Key) -> None:
        """Hand the lock of a key to the task that has waited longest for it."""
        waiting = self._waiting[key]
        if waiting:
            waiting.popleft().set()
        else:
            del self._waiting[key]
