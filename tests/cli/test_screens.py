"""Every screen at every width, over a real terminal; `_screens` shows them."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from rich.cells import cell_len

pytest.importorskip("pty", reason="no terminals on this system")

from tests.cli import _screens
from tests.cli._screens import SCREENS, WIDTHS

Screens = dict[tuple[int, str], list[str]]


TABLES = ("list", "sfx list", "playlists")
PROSE = ("get, unknown", "playlist, unknown", "generate, out of range")
"""A message has commands to copy, and a URL is whole: the terminal wraps them."""


@pytest.fixture(scope="module")
def screens() -> Screens:
    return _screens.capture()


def test_the_screens_are_those_that_were_looked_at(screens: Screens) -> None:
    """Look at ``git diff`` after ``python -m tests.cli._screens``."""
    assert _screens.written(screens) == _screens.FILE.read_text("utf-8")


@pytest.mark.parametrize("width", WIDTHS)
def test_a_table_has_one_line_a_row_and_whole_heads(
    screens: Screens, width: int
) -> None:
    for name in TABLES:
        heads, *rows = screens[width, name]
        assert "…" not in heads
        assert len(rows) == {"list": 4}.get(name, 1)
        assert max(map(cell_len, rows)) <= width
        # What it is about gets more than two characters of it.
        text = max(rows, key=cell_len).split("  ")
        assert max(map(cell_len, text)) >= 16


@pytest.mark.parametrize("width", WIDTHS)
def test_a_bar_never_wraps_and_says_what_it_waits_for(
    screens: Screens, width: int
) -> None:
    bars = {name: lines for (w, name), lines in screens.items() if w == width}
    bars = {name: lines for name, lines in bars.items() if name.startswith("bar,")}
    assert len(bars) == 5
    assert all(len(lines) == 1 for lines in bars.values())
    assert "next in 0:42" in bars["bar, rate limit"][0]
    assert "rate limit" in bars["bar, rate limit"][0]
    assert "queue is full" in bars["bar, queue"][0]
    assert "downloading" in bars["bar, downloading"][0]


@pytest.mark.parametrize("width", WIDTHS)
def test_the_table_of_a_batch_fits(screens: Screens, width: int) -> None:
    lines = screens[width, "bar of a batch"]
    assert max(map(len, lines)) <= width
    assert not any("…" in line for line in lines)
    whole = " ".join(lines)
    names = ("done", "running", "queued", "failed", "in doubt", "credits")
    assert all(name in whole for name in (*names, "next create", "expected end"))
    assert ("done           running" in lines[0]) == (width >= 60)


def test_help_has_no_line_that_the_terminal_wraps(screens: Screens) -> None:
    for (width, name), lines in screens.items():
        if name.startswith("help"):
            # A wrapped line fills the width, and the next one begins at the margin.
            for line, after in pairwise(lines):
                assert len(line) < width or not re.match(r"[a-z,;]", after), line


def test_times_on_a_terminal_are_local(screens: Screens) -> None:
    """The terminal's zone is nine hours ahead of the service's UTC."""
    assert "2026-03-04 04:01" in screens[80, "list"][1]
    assert any("created    2026-03-04 04:04" in line for line in screens[80, "get"])


def test_every_screen_is_shown_at_every_width(screens: Screens) -> None:
    assert {name for _, name in screens} >= set(SCREENS)
    assert len(screens) == (len(SCREENS) + 6) * len(WIDTHS)
