"""``finetuning batch run``: input, client, signals, progress and exit code."""

from __future__ import annotations

import io
import sys
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio
import attrs

from finetuning_async import AsyncClient, RateLimit, RateLimits
from finetuning_async._secrets import ApiKey
from finetuning_async.batch import (
    ACCOUNT,
    Batch,
    BatchInputError,
    Existing,
    Folder,
    Format,
    Options,
    check_account,
    existing_error,
    read_rows,
)
from finetuning_async.cli._batch_summary import exit_code, show
from finetuning_async.cli._batch_view import BatchView, LiveView
from finetuning_async.cli._config import base_url, on_loopback
from finetuning_async.cli._error_exit import InvalidInputError
from finetuning_async.cli._event_loop import (
    BACKEND,
    Interrupted,
    background_task,
    stop_signals,
    unwrap_group,
)
from finetuning_async.cli._exit_codes import INVALID_INPUT
from finetuning_async.cli._keys import find_key
from finetuning_async.cli._log_output import log_to_stderr
from finetuning_async.cli._options import CommonOptions
from finetuning_async.cli._output import (
    duration_text,
    is_terminal,
    print_fields,
    print_json,
    say,
    yes_or_no,
)
from finetuning_async.journal import ItemFactory, SQLiteStore

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Iterator

    from finetuning_async.batch import Row, Summary
    from finetuning_async.journal import Item, NewItem

TRACK_SECONDS: Final = 60.0
"""Seconds that the last track is expected to take."""

RESUME_ADVICE: Final = {"max_credits": "To resume, raise --max-credits."}
"""How to resume, by the reason of a pause; for other reasons, waiting is enough."""


@attrs.frozen(kw_only=True)
class RunSettings:
    """The arguments of ``batch run``, resolved."""

    common: CommonOptions
    url: str
    key: ApiKey
    source: str | None
    out: Path
    format_: Format | None
    dry_run: bool
    as_json: bool
    speed: float
    options: Options

    @property
    def limits(self) -> RateLimits:
        """The rate limits of the service, or those of a faster emulator."""
        per = 60.0 / self.speed
        return RateLimits(creates=RateLimit(10, per=per), reads=RateLimit(60, per=per))

    def rows(self) -> Iterator[Row]:
        """The rows of the input.

        Raises:
            BatchInputError: Some rows are invalid; raised after the last row.
        """
        if self.source is None:
            return iter(())
        return read_rows(
            _stdin() if self.source == "-" else Path(self.source),
            format=self.format_,
            allow_http_webhook=on_loopback(self.url),
        )


def _stdin() -> Iterable[str]:
    return io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8", newline="")


def execute(
    common: CommonOptions,
    *,
    speed: float,
    max_credits: int | None,
    on_unknown: Any,
    tags: bool,
    existing: Any,
    **arguments: Any,
) -> int:
    """Run a batch, or only count its rows. Returns the exit code."""
    url = base_url(common).url
    if speed <= 0 or (speed != 1 and not on_loopback(url)):
        raise InvalidInputError(
            f"--speed {speed} requires an emulator on this machine: add its --base-url"
        )
    usual = Options()
    options = Options(
        max_credits=max_credits,
        on_unknown=on_unknown,
        tags=tags,
        existing=existing or usual.existing,
        settle=usual.settle / speed,
        look_every=usual.look_every / speed,
    )
    key = find_key(common, url).key
    settings = RunSettings(
        common=common, url=url, key=key, speed=speed, options=options, **arguments
    )
    if settings.source is None and not Folder(settings.out).is_batch:
        raise InvalidInputError(
            f"{settings.out} contains no batch. To start one, give an INPUT"
        )
    common.interrupt_hint = "Nothing is lost. To resume, run the same command."
    try:
        return anyio.run(_dry_run if settings.dry_run else _run, settings, **BACKEND)
    except Exception as error:
        cause = unwrap_group(error)
        if not isinstance(cause, BatchInputError):
            raise
        say(f"Error: {cause}\nNo rows were added, and nothing was sent.")
        return INVALID_INPUT


@asynccontextmanager
async def _connected(settings: RunSettings) -> AsyncGenerator[AsyncClient]:
    with log_to_stderr(settings.common):
        async with AsyncClient(
            settings.key.reveal(), base_url=settings.url, rate_limits=settings.limits
        ) as client:
            yield client


async def _run(settings: RunSettings) -> int:
    stopped: list[int] = []
    ends: list[Summary] = []  # stays empty if the second signal cancels the scope
    with anyio.CancelScope() as scope:
        async with (
            _connected(settings) as client,
            Batch(client, settings.out, options=settings.options) as batch,
        ):
            async with background_task(partial(_stop_on_signal, batch, scope, stopped)):
                await _process(settings, client, batch)
            ends.append(batch.summary)
    for summary in ends:
        show(summary, as_json=settings.as_json)
    if stopped:
        raise Interrupted(stopped[0])
    return exit_code(ends[0])


async def _process(settings: RunSettings, client: AsyncClient, batch: Batch) -> None:
    added = await batch.add_rows(settings.rows())
    view = _view(settings, client, batch)
    if settings.source is not None:
        view.note(f"{added.new} new rows, {added.known} known")
    async with view, background_task(view.refresh_regularly):
        async for item in batch.run():
            view.ended(item)
    if batch.paused is not None and batch.paused[0] != "stopped":
        reason, why = batch.paused
        advice = RESUME_ADVICE.get(reason, "To resume later, run the same command.")
        say(f"Paused: {why}. {advice}")


def _view(settings: RunSettings, client: AsyncClient, batch: Batch) -> BatchView:
    common = settings.common
    is_live = is_terminal(sys.stderr) and not common.quiet
    kind = LiveView if is_live else BatchView
    return kind(client, batch, quiet=common.quiet, no_color=common.no_color)


async def _stop_on_signal(
    batch: Batch, scope: anyio.CancelScope, stopped: list[int]
) -> None:
    """Let the first signal finish the items in progress, and the second quit now."""
    with stop_signals(2) as next_signal:
        while True:
            stopped.append(await next_signal())
            # Before the run, while rows are read, nothing is in progress.
            if len(stopped) > 1 or not batch.is_running:
                break
            batch.stop()
            say("Stopping after the items in progress. Press Ctrl-C again to quit now.")
    scope.cancel()


async def _dry_run(settings: RunSettings) -> int:
    account_note, known = _read_existing_batch(settings.out)
    factory = ItemFactory()
    items = [factory.item(row) for row in settings.rows()]
    done = {item.key for item in known if item.entry.state != "planned"}
    done |= _adoptable_keys(settings, items, known)
    rows = [item.key for item in items]
    new = sum(key not in done for key in rows)
    async with _connected(settings) as client:
        account = await client.me()
    check_account(account_note, account, settings.url, str(settings.out))
    # A full burst goes out at once, the rest at the rate limit. The last one sent then
    # has to be completed.
    limit = settings.limits.creates
    seconds = (
        max(new - limit.limit, 0) / limit.limit * limit.per
        + TRACK_SECONDS / settings.speed
    )
    left = account.total_remaining
    enough = None if left is None else left >= new
    facts = {
        "rows": len(rows),
        "known": len(rows) - new,
        "credits_needed": new,
        "credits_left": left,
        "enough": enough,
        "seconds": round(seconds, 1),
    }
    if settings.as_json:
        print_json(facts)
    else:
        print_fields(
            {"rows": len(rows), "known": facts["known"], "credits needed": new}
            | {"credits left": left, "enough": yes_or_no(enough) or None}
            | {"takes about": duration_text(seconds)}
        )
    return 0


def _read_existing_batch(path: Path) -> tuple[str | None, list[Item]]:
    """The account of an existing batch, and its items; nothing if there is none."""
    folder = Folder(path)
    if not folder.is_batch:
        return None, []
    store = SQLiteStore(folder.journal, read_only=True)
    try:
        return store.read_note(ACCOUNT), list(store.rows())
    finally:
        store.close()


def _adoptable_keys(
    settings: RunSettings, items: list[NewItem], known: list[Item]
) -> set[str]:
    """The keys of the items that a run would count as done.

    Raises:
        BatchError: A run would be rejected.
    """
    if not settings.out.is_dir():
        return set()
    found = Existing.read(Folder(settings.out)).without(known).outcomes(items)
    if found and settings.options.existing == "refuse":
        raise existing_error(settings.out, found)
    return (
        {item.key for item, _ in found}
        if settings.options.existing == "adopt"
        else set()
    )
