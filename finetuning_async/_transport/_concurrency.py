"""How many requests of an account are on the wire at a time.

More of them would not be faster. Creates have places of their own, which no read that
hangs can take, and so have downloads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import anyio

if TYPE_CHECKING:
    from finetuning_async._wire import Call

READS: Final = 100
CREATES: Final = 10
DOWNLOADS: Final = 8
"""Each holds up to 2 MiB; more at once would not make them faster."""


class Concurrency:
    """The places on the wire of one account.

    Attributes:
        reads: For what may be repeated.
        creates: For what may not.
        downloads: For files.
    """

    def __init__(self) -> None:
        self.reads = anyio.Semaphore(READS, fast_acquire=True)
        self.creates = anyio.Semaphore(CREATES, fast_acquire=True)
        self.downloads = anyio.Semaphore(DOWNLOADS)

    def of(self, call: Call) -> anyio.Semaphore:
        """Where a call waits for one."""
        return self.reads if call.repeatable else self.creates
