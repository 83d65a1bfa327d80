"""The file of the shared limits is a cache: a damaged one is replaced, once."""

from __future__ import annotations

import gc
import logging
import os
import random
import shutil
import sqlite3
from math import inf
from typing import TYPE_CHECKING

import anyio
import pytest

from finetuning_async import RateLimitError, RateLimits, ResponseFacts
from finetuning_async._coordination._exchange import apply_exchange
from finetuning_async._coordination._exchange_messages import ExchangeRequest
from finetuning_async.shared import SharedRateLimiter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.sampled(2)

OK = ResponseFacts(status=200)
LIMITS = RateLimits()


class Standing:
    name = "a boot"

    def now(self) -> float:
        return 1000.0 + anyio.current_time()


def limiter_of(folder: Path) -> SharedRateLimiter:
    limiter = SharedRateLimiter(folder, account="a", clock=Standing())
    limiter.bind("a", LIMITS, lambda: 0)
    return limiter


async def take_permit(limiter: SharedRateLimiter) -> None:
    (await limiter.acquire("creates")).answered(OK)
    await limiter.flush()


def file_in(folder: Path) -> Path:
    (path,) = folder.glob("*.db")
    return path


def bad_header(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"not a database of any kind")


def truncated(path: Path) -> None:
    os.truncate(path, 1000)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garbage(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(20_000))


def holes_in_it(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[100:] = bytes(len(content) - 100)
    path.write_bytes(content)


def another_table(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.executescript("DROP TABLE states; CREATE TABLE states (id INTEGER)")
    db.close()


def stricter_table(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.executescript(
            "DROP TABLE states; CREATE TABLE states (boot TEXT, name TEXT, state TEXT,"
            " era TEXT NOT NULL, PRIMARY KEY (boot, name)) STRICT"
        )
    db.close()


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def with_an_old_log(path: Path) -> None:
    path.write_bytes(b"garbage" * 1000)
    path.with_name(path.name + "-wal").write_bytes(b"more garbage" * 1000)


DAMAGES: list[Callable[[Path], None]] = [
    bad_header,
    truncated,
    garbage,
    holes_in_it,
    another_table,
    stricter_table,
    folder,
    with_an_old_log,
]


def no_log(path: Path) -> None:
    """As when the last process has closed it."""
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA journal_mode = DELETE")
    db.close()


def logged(caplog: pytest.LogCaptureFixture, part: str) -> int:
    return sum(part in record.getMessage() for record in caplog.records)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
async def test_a_later_process_replaces_a_damaged_file_with_one_warning(
    tmp_path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    first = limiter_of(tmp_path)
    await take_permit(first)
    del first
    gc.collect()
    no_log(file_in(tmp_path))
    damage(file_in(tmp_path))
    for _ in range(3):
        later = limiter_of(tmp_path)
        await take_permit(later)
        assert later.status().creates.limit == LIMITS.creates.limit
    assert logged(caplog, "it was deleted") == 1
    assert logged(caplog, "is unavailable") == 0


@pytest.mark.parametrize("damage", [garbage, empty, None])
async def test_processes_that_had_the_file_open_use_the_new_one(
    tmp_path: Path, damage: Callable[[Path], None] | None
) -> None:
    old = limiter_of(tmp_path)
    await take_permit(old)
    path = file_in(tmp_path)
    path.unlink()  # by a user, or by a process that found it damaged
    if damage is not None:
        damage(path)
    young = limiter_of(tmp_path)
    for _ in range(4):
        await take_permit(young)
        await take_permit(old)
    waited = anyio.current_time()
    for _ in range(2):
        await take_permit(young)
    assert anyio.current_time() - waited > 30  # ten have been sent, by both together


async def test_a_file_that_is_only_locked_is_not_deleted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    await take_permit(limiter_of(tmp_path))
    path = file_in(tmp_path)
    number = path.stat().st_ino
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        await take_permit(limiter_of(tmp_path))
    finally:
        holder.close()
    assert logged(caplog, "it was deleted") == 0
    assert logged(caplog, "is unavailable (OperationalError: database is locked)") == 1
    assert path.stat().st_ino == number


async def test_a_folder_that_is_not_empty_is_not_deleted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await take_permit(limiter_of(tmp_path))
    path = file_in(tmp_path)
    folder(path)
    (path / "theirs").touch()
    await take_permit(limiter_of(tmp_path))
    assert (path / "theirs").exists()
    assert logged(caplog, "is unavailable") == 1
    shutil.rmtree(path)


REQUEST = ExchangeRequest(process="p", number=1, limits=LIMITS, timeout=60.0)


def exchanged(text: str | None, now: float) -> str:
    return apply_exchange(text, REQUEST, now=now, rng=random.Random(1))[0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[" * 100_000,
        '{"version": 3}',
        exchanged(None, 5.0).replace('"held_until":-Infinity', '"held_until":1e12'),
        exchanged(None, 5.0).replace('"opens_at":-Infinity', '"opens_at":NaN'),
        exchanged(None, 5.0).replace('"opens_at":-Infinity', '"opens_at":"soon"'),
        exchanged(None, 5.0).replace(
            '"members":{', '"members":{"q":{"seen_at":"never"},'
        ),
    ],
    ids=range(8),
)
def test_an_unreadable_ledger_is_replaced_with_one_warning(
    text: str, caplog: pytest.LogCaptureFixture
) -> None:
    after = exchanged(text, 6.0)
    assert logged(caplog, "starting with an empty ledger") == 1
    exchanged(after, 7.0)
    assert logged(caplog, "starting with an empty ledger") == 1


async def test_a_gate_of_an_hour_holds_for_all_processes(tmp_path: Path) -> None:
    limiter = limiter_of(tmp_path)
    refused = await limiter.acquire("reads")
    refused.answered(ResponseFacts(status=429, code="RATE_LIMITED", retry_after=inf))
    await limiter.flush()
    with pytest.raises(RateLimitError) as caught:
        await limiter_of(tmp_path).acquire("reads", max_pause=3000)
    assert caught.value.retry_after == pytest.approx(3600, abs=1)
