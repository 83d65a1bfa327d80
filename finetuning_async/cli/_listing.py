"""The commands that list tracks or sound effects: a page of them, or all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from finetuning_async.cli._connect import call_service
from finetuning_async.cli._output import (
    note_more,
    print_json,
    print_json_line,
    say_empty,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from finetuning_async import AsyncClient, Page
    from finetuning_async.cli._options import CommonOptions
    from finetuning_async.cli._tables import Table
    from finetuning_async.cli._track_kinds import TrackKind

USUAL_LIMIT: Final = 20
LONGEST_PAGE: Final = 99


def show_list(
    common: CommonOptions,
    kind: TrackKind,
    table: Table,
    row: Callable[[Any], tuple[str, ...]],
    *,
    everything: bool,
    as_json: bool,
    as_jsonl: bool,
    limit: int | None,
    **query: Any,
) -> None:
    """Print a page of a list, or all of it.

    Args:
        common: Options that all commands share.
        kind: What is listed.
        table: How it is shown.
        row: The cells of one.
        everything: Whether to show all pages.
        as_json: Whether to print one JSON object.
        as_jsonl: Whether to print a JSON object for each, as its page arrives.
        limit: Rows of a page, if given.
        query: The filters, and the offset.

    Raises:
        click.UsageError: Options contradict each other.
        FinetuningError: A page could not be read.
    """
    if as_json and as_jsonl:
        raise click.UsageError("--json and --jsonl are two forms: choose one.")
    query["limit"] = limit or (LONGEST_PAGE if everything else USUAL_LIMIT)

    async def main(client: AsyncClient) -> list[Page[Any]]:
        page = await kind.list(client, **query)
        pages = []
        while page is not None:
            pages.append(page)
            if as_jsonl:
                for track in page.items:
                    print_json_line(track.raw)
            page = await page.next_page() if everything else None
        return pages

    pages = call_service(common, main)
    rows = [track for page in pages for track in page.items]
    if as_json:
        print_json(_merged(pages))
        return
    if not rows:
        say_empty(common, *kind.in_words, query)
    elif not as_jsonl:
        table.show(map(row, rows))
    note_more(common, pages[-1])


def _merged(pages: list[Page[Any]]) -> dict[str, Any]:
    """The last page in the service's form, with the rows of all."""
    data = dict(pages[-1].raw)
    if len(pages) > 1:
        name = next(name for name, value in data.items() if isinstance(value, list))
        data[name] = [row for page in pages for row in page.raw[name]]
    return data
