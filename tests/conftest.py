"""Every async test runs twice, on asyncio and on trio, under a clock that jumps."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING, Any

import pytest

from finetuning_async.testing import jumping_backend

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSIONS_THAT_MATTER = ("httpx", "httpcore", "anyio", "trio", "tenacity", "attrs")


def pytest_report_header() -> str:
    versions = (f"{n} {importlib.metadata.version(n)}" for n in VERSIONS_THAT_MATTER)
    return ", ".join(versions)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, Mapping[str, Any]]:
    return jumping_backend(request.param)
