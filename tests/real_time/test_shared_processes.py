"""Real processes that share one account through a file."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import TYPE_CHECKING

import anyio
import pytest

from benchmarks.shared._race import race
from finetuning_async import RateLimit, RateLimits, ResponseFacts
from finetuning_async.shared import SharedRateLimiter

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("warm_programs")

LIMITS = RateLimits(creates=RateLimit(10, per=2.0), reads=RateLimit(60, per=2.0))

HOLD = """
import sys, time, filelock
lock = filelock.FileLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
time.sleep(60)
"""


def test_the_server_never_counts_more_than_the_limit(tmp_path: Path) -> None:
    found = race(f"file:{tmp_path}", processes=2, creates=8)
    assert found.worst_window <= 10
    assert found.refused == 0


def test_processes_that_find_a_damaged_file_together_replace_it(
    tmp_path: Path,
) -> None:
    race(f"file:{tmp_path}", processes=1, creates=1)
    (path,) = tmp_path.glob("*.db")
    path.write_bytes(b"not a database of any kind" * 100)
    found = race(f"file:{tmp_path}", processes=2, creates=8)
    assert found.worst_window <= 10
    assert found.refused == 0


def holder_of_the_lock(folder: Path) -> subprocess.Popen[bytes]:
    """Start a process that holds the lock and does nothing else."""
    (lock,) = folder.glob("*.lock")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    return holder


async def take_permit(limiter: SharedRateLimiter) -> float:
    """Return how long a permit takes."""
    begun = anyio.current_time()
    (await limiter.acquire("reads")).answered(ResponseFacts(status=200))
    await limiter.flush()
    return anyio.current_time() - begun


async def test_a_process_that_hangs_with_the_lock_stops_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="finetuning_async")
    limiter = SharedRateLimiter(tmp_path, account="one")
    limiter.bind("one", LIMITS, lambda: 0)
    assert await take_permit(limiter) < 1
    with holder_of_the_lock(tmp_path) as holder:
        assert await take_permit(limiter) < 2
        assert await take_permit(limiter) < 0.5, "the store is not tried again at once"
        holder.kill()
    await anyio.sleep(1.0)
    assert await take_permit(limiter) < 1
    assert [r.message.partition(" (")[0].partition(";")[0] for r in caplog.records] == [
        "the store of the rate limits is unavailable",
        "the store of the rate limits is available again",
    ]


def test_the_files_are_private_to_the_user_and_contain_no_key(tmp_path: Path) -> None:
    async def use() -> None:
        limiter = SharedRateLimiter(tmp_path / "new", account="ft_live_secret")
        limiter.bind("", LIMITS, lambda: 0)
        await take_permit(limiter)

    anyio.run(use)
    files = list((tmp_path / "new").iterdir())
    assert files
    for file in files:
        assert file.stat().st_mode & 0o077 == 0
        assert b"secret" not in file.read_bytes() + file.name.encode()
