"""An emulator on a port for tests that do not await: it runs in a thread of its own."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from anyio.from_thread import start_blocking_portal

from finetuning_async.emulator import Emulator, serve

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def served(*playlists: str, **settings: Any) -> Iterator[tuple[Emulator, str]]:
    """Yield an emulator with quick tracks and these playlists, and its URL."""
    quick = {"speed": 100, "generation_time": (20, 30), "audio": bytes(100_000)}
    seed = {"playlists": [{"name": name} for name in playlists]}
    emulator = Emulator.from_seed(seed, **{**quick, **settings})
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(emulator),
        portal.wrap_async_context_manager(serve(emulator)) as url,
    ):
        yield emulator, url
