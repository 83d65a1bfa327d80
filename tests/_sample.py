"""Which tests the suite runs, and which with ``--long`` only.

The suite takes a fixed sample of what is alike: of a test marked ``sampled(n)``, one
case in `n`, spread evenly over its parameters, and of those one in `SHARE` on trio; of
the other runs on trio that are not about the event loop, one in `SHARE`.
"""

from __future__ import annotations

import functools
import re
import zlib
from collections import defaultdict
from math import ceil
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

SHARE: Final = 6
"""One in so many of the sampled tests runs on trio."""

GOLDEN: Final = 0.618033988749895
"""Multiples of it are spread evenly within 0 and 1, and repeat with no period, so that
a sample prefers no value of a parameter."""

LOOP: Final = re.compile(r"\b(asyncio|trio)\b")
"""The event loop in the name of a test."""

OF_THE_LOOP: Final = re.compile(
    r"""cancel|scope|\block|locked|event\(|semaphore
    |thread|socket|move_on|fail_after|shield|signal|fork|interrupt|aclose
    |\bbreak\b|exceptiongroup|loop|trio|asyncio|sniffio|backend|generator|anext|stream
    |gather""",
    re.VERBOSE,
)
"""Words of a test that is about the event loop, or may be, in lower case."""


def of_long_runs_only(items: Iterable[pytest.Item]) -> set[pytest.Item]:
    """Return the tests that run with ``--long`` only."""
    left_out: set[pytest.Item] = set()
    sampled: defaultdict[tuple[Path, str], list[pytest.Item]] = defaultdict(list)
    for item in items:
        if item.get_closest_marker("long"):
            left_out.add(item)
        elif item.get_closest_marker("sampled"):
            sampled[item.path, getattr(item, "originalname", "")].append(item)
        elif runs_on_asyncio_only(item):
            left_out.add(item)
    for (_, name), cases in sampled.items():
        left_out.update(_left_out(name, cases))
    return left_out


def _left_out(name: str, cases: list[pytest.Item]) -> list[pytest.Item]:
    """Return all cases of a test but one in so many, and at least one."""
    (share,) = {case.get_closest_marker("sampled").args[0] for case in cases}  # type: ignore[union-attr]  # has one
    first = zlib.crc32(name.encode())
    places = {case: (first + place) * GOLDEN % 1 for place, case in enumerate(cases)}
    # Each case runs on one event loop before any runs on both.
    numbers: dict[str, int] = {}
    turns: dict[pytest.Item, bool] = {}
    for case in cases:
        number = numbers.setdefault(LOOP.sub("", case.name), len(numbers))
        preferred = "trio" if (first + number) % SHARE == 0 else "asyncio"
        loops = LOOP.findall(case.name)
        turns[case] = bool(loops) and preferred not in loops
    ordered = sorted(cases, key=lambda case: (turns[case], places[case]))
    return ordered[ceil(len(cases) / share) :]


def runs_on_asyncio_only(item: pytest.Item) -> bool:
    """Whether this is a test's run on trio that is not in the sample."""
    if not isinstance(item, pytest.Function) or not hasattr(item, "callspec"):
        return False
    if item.callspec.params.get("anyio_backend") != "trio":
        return False
    if zlib.crc32(item.nodeid.encode()) % SHARE == 0:
        return False
    return not _is_of_the_loop(item.path, item.function.__name__)


@functools.cache
def _is_of_the_loop(path: Path, name: str) -> bool:
    return OF_THE_LOOP.search(_functions(path)[name].lower()) is not None


@functools.cache
def _functions(path: Path) -> dict[str, str]:
    """The source of a file's functions; `inspect` takes seconds for them all."""
    text = path.read_text("utf-8")
    return {
        found[1]: block
        for block in re.split(r"\n\n\n+", text)
        if (found := re.search(r"^(?:async )?def (\w+)", block, re.MULTILINE))
    }
