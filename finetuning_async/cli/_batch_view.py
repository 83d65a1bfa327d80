"""Progress of a batch on stderr: lines, or lines above a table that stays in place."""

from __future__ import annotations

from math import isinf
from typing import TYPE_CHECKING, Final, Self

import anyio
from rich.console import Console
from rich.live import Live
from rich.text import Text

from finetuning_async._session import session_of
from finetuning_async.cli._output import (
    duration_text,
    printable,
    redirect_messages,
    say,
    shown,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

    from finetuning_async import AsyncClient
    from finetuning_async.batch import Batch, BatchItem, Summary

LINE_INTERVAL: Final = 60.0
"""Seconds between the lines that show the progress."""

LIVE_INTERVAL: Final = 0.25
"""Seconds between updates of the table."""


class BatchView:
    """Prints a line for each item that ends, and one a minute with the progress.

    Args:
        client: The client, whose rate limit and queue are shown.
        batch: The batch.
        quiet: Whether to print nothing.
        no_color: Whether to use no colours.
    """

    interval: float = LINE_INTERVAL

    def __init__(
        self, client: AsyncClient, batch: Batch, *, quiet: bool, no_color: bool
    ) -> None:
        self._client = client
        self._batch = batch
        self._quiet = quiet
        self._no_color = no_color

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
        """Print a message."""
        if not self._quiet:
            say(printable(text))

    def ended(self, item: BatchItem) -> None:
        """An item is downloaded, failed or held."""
        name = item.custom_id or item.key[:12]
        detail = item.file if item.state == "downloaded" else item.error
        self.note(f"{item.state} {shown(name)}: {shown(str(detail))}")

    async def refresh_regularly(self) -> None:
        """Show the progress at regular intervals."""
        while True:
            await anyio.sleep(self.interval)
            self.refresh()

    def refresh(self) -> None:
        """Show the progress."""
        parts = (f"{number} {name}" for name, number in self.counts().items())
        self.note(", ".join((*parts, *self.forecast())))

    def counts(self) -> dict[str, str]:
        """The progress: numbers by name."""
        summary = self._batch.summary
        states = summary.states
        counts = {
            "done": f"{states['downloaded']} of {summary.total}",
            "running": states["accepted"] + states["completed"],
            "queued": states["planned"],
            "failed": states["failed"],
            "in doubt": summary.in_doubt,
            "credits": summary.accepts,
        }
        return {name: str(n) for name, n in counts.items()}

    def forecast(self) -> list[str]:
        """When the next create goes out, and the end; empty if no create is left."""
        summary = self._batch.summary
        if not summary.states["planned"] or self._batch.paused is not None:
            return []
        left = duration_text(self._remaining_seconds(summary))
        return [f"next create {self._next_create()}", f"expected end in {left}"]

    def _next_create(self) -> str:
        creates = self._client.rate_limit_status().creates
        if creates.closed_for > 0:
            return f"in {duration_text(creates.closed_for)}, as the service asked"
        if session_of(self._client).account.queue_is_full:
            running = self._batch.summary.states["accepted"]
            return "when a track ends" if running else "when the queue has room"
        if isinf(creates.next_free_in):
            return "later"
        limit, per = creates.limit or 1, creates.per or 0.0
        # More than a burst go out evenly, though permits may be free.
        if creates.waiting > limit and creates.next_free_in < per / limit:
            return f"within {duration_text(per / limit)}"
        return f"in {duration_text(creates.next_free_in)}"

    def _remaining_seconds(self, summary: Summary) -> float:
        """When the last one is done, as the client estimates it."""
        # Those that wait for a permit already are in its line.
        waiting = self._client.rate_limit_status().creates.waiting
        creates = max(summary.states["planned"] - waiting, 1)
        return self._client.estimate(creates, priority="low").last_completed


class LiveView(BatchView):
    """On a terminal: lines for items that end, and a table below them."""

    interval = LIVE_INTERVAL

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
        # Entered by hand: this class is itself the context manager.
        self._redirect = redirect_messages(self._print)
        self._redirect.__enter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._redirect.__exit__(kind, error, traceback)
        self._live.stop()

    def _print(self, line: str) -> None:
        """Print a line above the table."""
        self._console.print(line, markup=False, soft_wrap=True)

    def refresh(self) -> None:
        """Draw the table."""
        width = self._console.width
        lines = [*table_lines(self.counts(), width), *flow(self.forecast(), width)]
        text = Text("\n".join(lines), no_wrap=True, overflow="ellipsis")
        self._live.update(text, refresh=True)


def table_lines(counts: Mapping[str, str], width: int) -> list[str]:
    """Names above their numbers; where that does not fit, one beside the other.

    >>> table_lines({"done": "3 of 60", "failed": "0"}, 20)
    ['done     failed', '3 of 60  0']
    >>> table_lines({"done": "3 of 60", "failed": "0"}, 14)
    ['3 of 60 done', '0 failed']

    Args:
        counts: The numbers by name.
        width: In cells.
    """
    widths = [max(len(name), len(count)) for name, count in counts.items()]
    if sum(widths) + 2 * (len(widths) - 1) > width:
        return flow([f"{count} {name}" for name, count in counts.items()], width)
    return [
        "  ".join(f"{cell:<{n}}" for cell, n in zip(row, widths, strict=True)).rstrip()
        for row in (counts, counts.values())
    ]


def flow(parts: Iterable[str], width: int) -> list[str]:
    """Parts in lines, as many in each as fit."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + 2 + len(part) <= width:
            lines[-1] += f", {part}"
        else:
            lines.append(part)
    return lines
