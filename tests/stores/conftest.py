"""The stores that the conformance suite runs over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.stores._shops import OneProcess, Processes, Shop, file_shop, page_shop

if TYPE_CHECKING:
    from pathlib import Path

STORES = ["page", "file"]
"""A new store is added here and to `shop_of`."""


def shop_of(name: str, folder: Path) -> Processes:
    return file_shop(folder) if name == "file" else page_shop()


@pytest.fixture(params=["in-process", *STORES])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Shop:
    """Every store, the default among them."""
    if request.param == "in-process":
        return OneProcess()
    return shop_of(request.param, tmp_path)


@pytest.fixture(params=STORES)
def processes(request: pytest.FixtureRequest, tmp_path: Path) -> Processes:
    """The stores for several processes."""
    return shop_of(request.param, tmp_path)
