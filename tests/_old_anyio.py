"""What the suite needs with the oldest anyio that the package allows.

Before 4.14 `anyio.run` drops its `backend_options` on trio, and the clock is one.
"""

from __future__ import annotations

from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

import pytest
import trio
from anyio._backends._trio import TrioBackend

if TYPE_CHECKING:
    from collections.abc import Callable


ANYIO: Final = tuple(map(int, version("anyio").split(".")[:2]))

closes_cancelled_connects = pytest.mark.skipif(
    ANYIO < (4, 16),
    reason="anyio left their sockets to the garbage collector before 4.16",
)


def hand_options_to_trio() -> None:
    """Make `anyio.run` on trio do what it does from 4.14 on."""
    if ANYIO < (4, 14):
        TrioBackend.run = classmethod(_run)  # type: ignore[method-assign, assignment]  # an older one is replaced


def _run(
    cls: type[TrioBackend],
    func: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    options: dict[str, Any],
) -> Any:
    del cls
    return trio.run(partial(func, *args, **kwargs), **options)
