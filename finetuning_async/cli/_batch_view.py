"""What is told on stderr while a batch runs: lines, or a table that stays in place."""

from __future__ import annotations

import time
from math import isinf
from typing import TYPE_CHECKING, Final, Self

import anyio
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from finetuning_async._session import session_of
from finetuning_async.cli._output import duration_text, printable, say, screen, shown

if TYPE_CHECKING:
    from types import TracebackType

    from finetuning_async import AsyncClient
    from finetuning_async.batch import Batch, BatchItem, Summary

LINE_EVERY: Final = 60.0
"""Seconds between lines that say how far it is."""

LIVE_EVERY: Final = 0.25
TRACK: Final = 60.0
"""Seconds that the last track is expected to take."""

ENOUGH: Final = 10
"""Accepted tracks after which the pace seen says more than the limit."""


class View:
    """Lines: one for each item that ends, and one a minute.

    Args:
        client: Whose turns are shown.
        batch: What runs.
        quiet: Whether to say nothing.
        no_color: No colours.
    """

    every: float = LINE_EVERY

    def __init__(
        self, client: AsyncClient, batch: Batch, *, quiet: bool, no_color: bool
    ) -> None:
        self._client = client
        self._batch = batch
        self._quiet = quiet
        self._no_color = no_color
        self._began = time.monotonic()
        self._first = batch.summary.accepts

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass

    def note(self, text: str) -> None:
        """Something to know."""
        if not self._quiet:
            say(printable(text))

    def ended(self, item: BatchItem) -> None:
        """An item is downloaded, failed or held."""
        name = item.custom_id or item.key[:12]
        word = item.path.name if item.path is not None else item.error
        self.note(f"{item.state} {shown(name)}: {shown(str(word))}")

    async def keep_up(self) -> None:
        """Tell how far it is, now and then."""
        while True:
            await anyio.sleep(self.every)
            self.tell()

    def tell(self) -> None:
        """Tell how far it is."""
        parts = (f"{number} {name}" for name, number in self.facts().items())
        self.note(", ".join((*parts, *self.outlook())))

    def facts(self) -> dict[str, str]:
        """How far it is, by name."""
        summary = self._batch.summary
        states = summary.states
        facts = {
            "done": f"{states['downloaded']} of {summary.total}",
            "running": states["accepted"] + states["completed"],
            "queued": states["planned"],
            "failed": states["failed"],
            "in doubt": summary.in_doubt,
            "credits": summary.accepts,
        }
        return {name: str(n) for name, n in facts.items()}

    def outlook(self) -> list[str]:
        """What is to come; empty if nothing more is created."""
        summary = self._batch.summary
        if not summary.states["planned"] or self._batch.paused is not None:
            return []
        left = duration_text(self._left(summary))
        return [f"next create {self._next_create()}", f"expected end in {left}"]

    def _next_create(self) -> str:
        if session_of(self._client).account.queue_is_full:
            running = self._batch.summary.states["accepted"]
            return "when a track ends" if running else "when the queue has a place"
        turn = self._client.rate_limit_status().creates.next_free_in
        return "later" if isinf(turn) else f"in {duration_text(turn)}"

    def _left(self, summary: Summary) -> float:
        limits = self._client.rate_limit_status().creates
        pace = (limits.per or 0.0) / (limits.limit or 1)
        done = summary.accepts - self._first
        if done >= ENOUGH:
            pace = max(pace, (time.monotonic() - self._began) / done)
        return summary.states["planned"] * pace + TRACK


class LiveView(View):
    """The same on a terminal: lines for ends, below them a table that stays."""

    every = LIVE_EVERY

    async def __aenter__(self) -> Self:
        self._console = Console(
            stderr=True, no_color=self._no_color or None, emoji=False, highlight=False
        )
        self._live = Live(
            console=self._console,
            transient=True,
            auto_refresh=False,
            redirect_stdout=False,
        )
        self._live.start()
        self._screen = screen(self._print)
        self._screen.__enter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._screen.__exit__(kind, error, traceback)
        self._live.stop()

    def _print(self, line: str) -> None:
        """Show a line above the table, and at once."""
        self._console.print(line, markup=False, soft_wrap=True)

    def tell(self) -> None:
        """Draw the table."""
        table = Table(box=None, show_header=True, pad_edge=False)
        facts = self.facts()
        for name in facts:
            table.add_column(name, no_wrap=True)
        table.add_row(*facts.values())
        outlook = Text("; ".join(self.outlook()))
        self._live.update(Group(table, outlook), refresh=True)
