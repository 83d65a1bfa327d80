"""How many requests of an account are on the wire at a time.

More of them would not be faster. Creates have places of their own, which no read that
hangs can take, and so have downloads.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

import anyio

if TYPE_CHECKING:
    from finetuning_async._api import Call

READS: Final = 80
"""With the others no more than the 100 connections that a caller's client has by
default, or reads that hang would keep creates out of its pool."""
FEW_READS: Final = 20
"""By a caller's client of httpx: with more than 20 connections it closes each after its
request, by default."""
CREATES: Final = 10
DOWNLOADS: Final = 8
"""Each holds up to 2 MiB; more at once would not make them faster."""


class Slots:
    """So many at a time; the rest wait in their order.

    A semaphore that weighs nothing while nobody waits: a process may have thousands of
    accounts.

    Args:
        number: How many there are.
    """

    __slots__ = ("_waiting", "free")

    def __init__(self, number: int) -> None:
        self.free: int = number
        self._waiting: deque[anyio.Event] | None = None

    async def take(self) -> None:
        """Wait for a place; end it with `give_back`.

        Cancelled, it takes none.
        """
        if self.free:
            self.free -= 1
            return
        turn = anyio.Event()
        waiting = self._waiting = self._waiting or deque()
        waiting.append(turn)
        try:
            await turn.wait()
        except BaseException:
            if turn.is_set():
                self.give_back()
            else:
                waiting.remove(turn)
            raise

    def give_back(self) -> None:
        """Let the next one go."""
        if self._waiting:
            self._waiting.popleft().set()
        else:
            self.free += 1

    async def __aenter__(self) -> None:
        await self.take()

    async def __aexit__(self, *_: object) -> None:
        self.give_back()


class Concurrency:
    """The places on the wire of one account.

    Attributes:
        reads: For what may be repeated.
        few_reads: For the same, by a client that keeps few connections.
        creates: For what may not.
        downloads: For files.
    """

    __slots__ = ("creates", "downloads", "few_reads", "reads")

    def __init__(self) -> None:
        self.reads: Slots = Slots(READS)
        self.few_reads: Slots = Slots(FEW_READS)
        self.creates: Slots = Slots(CREATES)
        self.downloads: Slots = Slots(DOWNLOADS)

    def of(self, call: Call, *, few: bool = False) -> Slots:
        """Where a call waits for one.

        Args:
            call: What waits.
            few: Whether its client keeps few connections.
        """
        if not call.repeatable:
            return self.creates
        return self.few_reads if few else self.reads
