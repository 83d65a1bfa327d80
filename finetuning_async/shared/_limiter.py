"""`SharedRateLimiter`: the permits of an account for all programs of one user."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path
from typing import TYPE_CHECKING

from finetuning_async._coordination import TIMEOUT, StoreLimiter
from finetuning_async._runtime import state_folder
from finetuning_async.shared._clock import SystemClock
from finetuning_async.shared._store import FileStore

if TYPE_CHECKING:
    import os

    from finetuning_async.shared._clock import Clock


class SharedRateLimiter(StoreLimiter):
    """The permits of an account for all programs of one user on one machine.

    Pass it to every client of the account, or pass ``rate_limiter="shared"``. If the
    file cannot be used, or another process hangs while it holds the lock, this process
    continues with its share of the limits and logs a warning. A damaged file is deleted
    and replaced.

    Example:
        from finetuning_async.shared import SharedRateLimiter

        limiter = SharedRateLimiter("limits", account="studio")
        async with AsyncClient(rate_limiter=limiter) as client:
            print(client.rate_limit_status().creates.available)

    Args:
        folder: Where the file is kept, on a disk of this machine; by default the user's
            state directory (``XDG_STATE_HOME``, or ``~/.local/state``).
        account: The name whose hash names the file; by default the base URL and the key
            of the first client. Two keys of one account share its limits if they pass
            the same name.
        timeout: Seconds after which a request of a process that died counts as ended;
            longer than any request takes.
        clock: The clock of the machine.

    Raises:
        InvalidRequestError: No folder is given, and the user has no home folder.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None = None,
        *,
        account: str | None = None,
        timeout: float = TIMEOUT,
        clock: Clock | None = None,
    ) -> None:
        rng = random.SystemRandom()
        directory = state_folder("folder") if folder is None else Path(folder)
        machine_clock = SystemClock() if clock is None else clock

        def connect(name: str) -> FileStore:
            return FileStore(directory / f"{_hashed(name)}.db", machine_clock)

        super().__init__(connect, account=account, timeout=timeout, rng=rng)


def _hashed(account: str) -> str:
    return hashlib.sha256(account.encode()).hexdigest()[:32]
