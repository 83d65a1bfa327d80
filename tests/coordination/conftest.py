"""The stores that the conformance suite runs over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import redis

from tests.coordination._store_setups import (
    OneProcess,
    Processes,
    Shop,
    file_shop,
    memory_shop,
    postgres_shop,
    redis_shop,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

STORES = ["memory", "file", "redis", "postgres"]
"""A new store is added here and to `shop_of`."""


@pytest.fixture(scope="session")
def redis_connection(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as connection:
        yield connection


def shop_of(request: pytest.FixtureRequest) -> Processes:
    if request.param == "redis":
        return redis_shop(request.getfixturevalue("redis_connection"))
    if request.param == "postgres":
        return postgres_shop(request.getfixturevalue("postgres_cluster"))
    if request.param == "file":
        return file_shop(request.getfixturevalue("tmp_path"))
    return memory_shop()


@pytest.fixture(params=["in-process", *STORES])
def shop(request: pytest.FixtureRequest) -> Shop:
    """All stores and the default limiter."""
    return OneProcess() if request.param == "in-process" else shop_of(request)


@pytest.fixture(params=STORES)
def processes(request: pytest.FixtureRequest) -> Processes:
    """All stores, for several processes."""
    return shop_of(request)
