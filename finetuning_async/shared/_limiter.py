"""`SharedRateLimiter`: the turns of an account for all programs of one user."""

from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path
from typing import TYPE_CHECKING

from finetuning_async._coordination import TIMEOUT, StoreLimiter
from finetuning_async._errors import InvalidRequestError
from finetuning_async.shared._clock import SystemClock
from finetuning_async.shared._store import FileStore

if TYPE_CHECKING:
    from finetuning_async.shared._clock import Clock


class SharedRateLimiter(StoreLimiter):
    """The turns of an account for all programs of one user on one machine.

    Give it to every client of the account, or say ``rate_limiter="shared"``. When the
    file cannot be used, or another process hangs with its lock, this one goes on with
    its share of the limits, and the log says so. A damaged file is made anew.

    Example:
        from finetuning_async.shared import SharedRateLimiter

        limiter = SharedRateLimiter("turns", account="studio")
        async with AsyncClient(rate_limiter=limiter) as client:
            print(client.rate_limit_status().creates.available)

    Args:
        folder: Where the file is kept, on a disk of this machine; by default the user's
            folder of states (``XDG_STATE_HOME``, or ``~/.local/state``).
        account: What the file is named after, hashed; by default the base URL and the
            key of the first client. Two keys of one account share a budget by the same
            name.
        timeout: Seconds after which a request of a program that died is taken as over;
            longer than any request takes.
        clock: The clock of the machine.

    Raises:
        InvalidRequestError: No folder is given, and the user has none.
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
        place = _states() if folder is None else Path(folder)
        ticks = SystemClock() if clock is None else clock

        def connect(name: str) -> FileStore:
            return FileStore(place / f"{_hashed(name)}.db", ticks)

        super().__init__(connect, account=account, timeout=timeout, rng=rng)


def _hashed(account: str) -> str:
    return hashlib.sha256(account.encode()).hexdigest()[:32]


def _states() -> Path:
    """The user's own folder: programs that start in different folders share it.

    Raises:
        InvalidRequestError: Nobody says where it is, as in some containers.
    """
    for name in ("XDG_STATE_HOME", "LOCALAPPDATA"):
        given = Path(os.environ.get(name, ""))
        if given.is_absolute():  # the XDG specification: else it is to be ignored
            return given / "finetuning"
    try:
        return Path.home() / ".local" / "state" / "finetuning"
    except RuntimeError:
        pass
    allowed = "a folder, for there is no home: set XDG_STATE_HOME, or pass folder="
    raise InvalidRequestError("folder", None, allowed)
