"""FastAPI's tests run on asyncio: sse-starlette supports no other loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from finetuning_async.testing import jumping_backend

if TYPE_CHECKING:
    from collections.abc import Mapping


@pytest.fixture
def anyio_backend() -> tuple[str, Mapping[str, Any]]:
    return jumping_backend("asyncio")
