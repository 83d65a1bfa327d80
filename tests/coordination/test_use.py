"""The stores of permits as a client uses them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from procrastinate import App, PsycopgConnector
from sniffio import current_async_library

from finetuning_async import (
    APITimeoutError,
    AsyncClient,
    FinetuningError,
    InvalidRequestError,
    RateLimits,
)
from finetuning_async._runtime import state_folder
from finetuning_async.emulator import Emulator, Fault
from finetuning_async.postgres import PostgresRateLimiter
from finetuning_async.procrastinate import Batches
from finetuning_async.redis import RedisRateLimiter
from finetuning_async.shared import SharedRateLimiter
from tests._emulated_client import emulated
from tests.coordination._store_setups import LoopClock

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.sampled(2)


async def test_two_clients_of_one_account_keep_its_limits(tmp_path: Path) -> None:
    limiters = [
        SharedRateLimiter(tmp_path, account="one", clock=LoopClock()) for _ in range(2)
    ]
    second = "ft_live_" + 32 * "b"
    async with emulated(Emulator(), rate_limiter=limiters[0]) as (emulator, client):
        emulator.add_key(second)
        other = client.with_options(api_key=second, rate_limiter=limiters[1])
        async with anyio.create_task_group() as group:
            for each in (client, other):
                for _ in range(8):
                    group.start_soon(each.generations.create, "song")
        assert emulator.count(code="GENERATION_RATE_LIMITED") == 0
        assert anyio.current_time() > 60
        assert client.rate_limit_status().creates.limit == 10


async def test_the_word_shared_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    async with emulated(rate_limiter="shared") as (emulator, client):
        await client.me()
    names = [file.name for file in (tmp_path / "finetuning").iterdir()]
    assert names
    assert not any(emulator.api_key in name for name in names)


def test_the_file_is_where_all_programs_of_the_user_look(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", "states")  # relative, so ignored
    monkeypatch.setenv("HOME", str(tmp_path))
    assert state_folder("folder") == tmp_path / ".local/state/finetuning"

    def homeless() -> Path:
        raise RuntimeError

    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(InvalidRequestError, match="set XDG_STATE_HOME, or pass folder"):
        AsyncClient("ft_live_" + 32 * "0", rate_limiter="shared")


def test_another_word_is_rejected() -> None:
    word: Any = "nonsense"
    with pytest.raises(InvalidRequestError, match="rate_limiter"):
        AsyncClient("ft_live_" + 32 * "0", rate_limiter=word)


async def test_redis_under_trio_raises_an_error() -> None:
    if current_async_library() == "asyncio":
        return
    async with emulated(rate_limiter=RedisRateLimiter("redis://x")) as (_, client):
        for _ in range(2):  # the second time as well
            with pytest.raises(FinetuningError, match="runs on asyncio only"):
                await client.me()


def _batches(conninfo: str) -> Batches:
    return Batches(App(connector=PsycopgConnector()), conninfo, client=AsyncClient)


@pytest.mark.parametrize(
    ("limiter", "wrong"),
    [
        (RedisRateLimiter, "http://:s3cr3t@cache.internal"),
        (RedisRateLimiter, "redis://:s3cr3t@cache.internal:99999999"),
        (RedisRateLimiter, None),
        (PostgresRateLimiter, "http://u:s3cr3t@database.internal/x"),
        (PostgresRateLimiter, None),
        (_batches, "http://u:s3cr3t@database.internal/x"),
    ],
)
def test_an_invalid_address_is_rejected_and_not_shown(
    limiter: Callable[[Any], object], wrong: str | None
) -> None:
    with pytest.raises(InvalidRequestError, match="must be a") as caught:
        limiter(wrong)
    assert "s3cr3t" not in repr(caught.value)
    assert caught.value.__context__ is None


async def test_a_read_that_times_out_returns_its_token(tmp_path: Path) -> None:
    limiter = SharedRateLimiter(tmp_path, account="one", clock=LoopClock())
    other = SharedRateLimiter(tmp_path, account="one", clock=LoopClock())
    emulator = Emulator(reads_per_minute=1)
    async with emulated(emulator, rate_limiter=limiter) as (_, client):
        emulator.add_fault(Fault("delay", seconds=9))
        with pytest.raises(APITimeoutError):
            await client.me(timeout=5)
        other.bind("", RateLimits.of(emulator.rate_limits), lambda: 0)
        begun = anyio.current_time()
        (await other.acquire("reads")).unsent()
        assert 60 < anyio.current_time() - begun < 70, "a period, and a little longer"
