"""How many requests of one account may be on the wire at a time.

More would not be faster. Creates and downloads have slots of their own, so that reads
that hang cannot block them.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

import anyio

if TYPE_CHECKING:
    from finetuning_async._api import Call

READS: Final = 80
"""With the other slots at most 100, as many connections as a caller's client has by
default. Otherwise reads that hang could keep creates out of its pool."""
FEW_READS: Final = 20
"""For a caller's client of httpx. By default it keeps 20 connections alive; with more
in use it closes each one after its request."""
CREATES: Final = 10
DOWNLOADS: Final = 8
"""Each download holds up to 2 MiB; more at once would not be faster."""


class Slots:
    """A semaphore: a fixed number of slots, and a queue of tasks that wait for one.

    It allocates nothing until a task has to wait: a process may have thousands of
    accounts.

    Args:
        number: How many there are.
    """

    __slots__ = ("_waiting", "free")

    def __init__(self, number: int) -> None:
        self.free: int = number
        self._waiting: deque[anyio.Event] | None = None

    async def acquire(self) -> None:
        """Wait for a slot; pair it with `release`.

        A task that is cancelled here takes none.
        """
        if self.free:
            self.free -= 1
            return
        handover = anyio.Event()
        waiting = self._waiting = self._waiting or deque()
        waiting.append(handover)
        try:
            await handover.wait()
        except BaseException:
            # The slot may have been handed over in the tick of the cancellation.
            if handover.is_set():
                self.release()
            else:
                waiting.remove(handover)
            raise

    def release(self) -> None:
        """Hand the slot to the task that has waited longest, or set it free."""
        if self._waiting:
            self._waiting.popleft().set()
        else:
            self.free += 1

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(self, *_: object) -> None:
        self.release()


class Concurrency:
    """The slots of one account.

    Attributes:
        reads: For requests that may be repeated.
        few_reads: The same, for a client that keeps few connections.
        creates: For requests that must not be repeated.
        downloads: For files.
    """

    __slots__ = ("creates", "downloads", "few_reads", "reads")

    def __init__(self) -> None:
        self.reads: Slots = Slots(READS)
        self.few_reads: Slots = Slots(FEW_READS)
        self.creates: Slots = Slots(CREATES)
        self.downloads: Slots = Slots(DOWNLOADS)

    def slots_for(self, call: Call, *, few: bool = False) -> Slots:
        """The slots that a call takes one of.

        Args:
            call: The call.
            few: Whether its client keeps few connections.
        """
        if not call.repeatable:
            return self.creates
        return self.few_reads if few else self.reads
