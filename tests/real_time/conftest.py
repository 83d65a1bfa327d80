"""Tests on real sockets and processes run on the real clock."""

from __future__ import annotations

import pytest

from tests._warm_programs import warm_parent, warm_programs

__all__ = ["warm_parent", "warm_programs"]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)
