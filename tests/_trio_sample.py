"""Which tests run on asyncio only, and on trio with ``--long``.

What a client does with tasks, locks, scopes, threads and sockets, and how it is
cancelled, is tested on both event loops, always. So is one in four of the other tests,
which see on both the same lines of ours: which ones follows from their names.
"""

from __future__ import annotations

import functools
import re
import zlib
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from pathlib import Path

SHARE: Final = 4
"""One in so many of the sampled tests runs on trio."""

FOLDERS: Final = frozenset(
    {"batch", "downloads", "emulator", "resources", "session", "submission", "webhooks"}
)
"""Folders of tests that are written in terms of the client, not of the event loop."""

FILES: Final = frozenset(
    {"test_independent_service.py", "test_quirks.py", "test_secrets_canary.py"}
)

OF_THE_LOOP: Final = re.compile(
    r"""cancel|scope|task_?group|start_soon|create_task|\block|locked|Event\(|semaphore
    |thread|socket|move_on|fail_after|timeout|deadline|\bbreak\b|leav|clos|shield
    |signal|fork|kill|exit|interrupt|ExceptionGroup|loop|trio|asyncio|sniffio|backend
    |generator|anext|stream|clock|current_time|gather|concurrent|together|at_once""",
    re.IGNORECASE | re.VERBOSE,
)
"""Words of a test that is about the event loop, or may be."""


def runs_on_asyncio_only(item: pytest.Item) -> bool:
    """Whether this is a test's run on trio that is not in the sample."""
    if not isinstance(item, pytest.Function) or not hasattr(item, "callspec"):
        return False
    if item.callspec.params.get("anyio_backend") != "trio":
        return False
    if FOLDERS.isdisjoint(item.path.parts) and item.path.name not in FILES:
        return False
    if OF_THE_LOOP.search(_functions(item.path)[item.function.__name__]):
        return False
    return zlib.crc32(item.nodeid.encode()) % SHARE != 0


@functools.cache
def _functions(path: Path) -> dict[str, str]:
    """The source of a file's functions; `inspect` takes seconds for them all."""
    text = path.read_text("utf-8")
    return {
        found[1]: block
        for block in re.split(r"\n\n\n+", text)
        if (found := re.search(r"^(?:async )?def (\w+)", block, re.MULTILINE))
    }
