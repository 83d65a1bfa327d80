"""``finetuning batch run``: input, client, signals, progress and exit code."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio

from finetuning_async import AsyncClient
from finetuning_async.batch import Batch, BatchInputError, Options
from finetuning_async.cli._batch_dry_run import plan_run
from finetuning_async.cli._batch_settings import RunSettings
from finetuning_async.cli._batch_summary import exit_code, show
from finetuning_async.cli._batch_view import BatchView, LiveView
from finetuning_async.cli._config import base_url, on_loopback
from finetuning_async.cli._connect import (
    PLACEHOLDER_KEY,
    budget_of,
    limiter_options,
)
from finetuning_async.cli._error_exit import InvalidInputError
from finetuning_async.cli._event_loop import (
    BACKEND,
    Interrupted,
    background_task,
    stop_signals,
    unwrap_group,
)
from finetuning_async.cli._exit_codes import INVALID_INPUT
from finetuning_async.cli._keys import find_key, find_key_if_any
from finetuning_async.cli._log_output import log_to_stderr
from finetuning_async.cli._output import is_terminal, say

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from finetuning_async.batch import Summary
    from finetuning_async.cli._options import CommonOptions

RESUME_ADVICE: Final = {
    "max_credits": "To resume, raise --max-credits.",
    "budget": "To resume, raise --budget.",
}
"""How to resume, by the reason of a pause; for other reasons, waiting is enough."""


def execute(
    common: CommonOptions,
    *,
    speed: float,
    max_credits: int | None,
    on_unknown: Any,
    metadata: bool,
    tags: bool,
    check: bool,
    existing: Any,
    dry_run: bool,
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
        metadata=metadata or tags,
        check=check,
        existing=existing or usual.existing,
        settle=usual.settle / speed,
        look_every=usual.look_every / speed,
    )
    found = find_key_if_any(common, url) if dry_run else find_key(common, url)
    settings = RunSettings(
        common=common,
        url=url,
        key=None if found is None else found.key,
        speed=speed,
        options=options,
        **arguments,
    )
    if settings.source is None and not settings.folder().is_batch:
        raise InvalidInputError(
            f"{settings.out} contains no batch. To start one, give an INPUT"
        )
    common.interrupt_hint = "Nothing is lost. To resume, run the same command."
    try:
        if dry_run:
            return anyio.run(plan_run, settings, _connected, **BACKEND)
        return anyio.run(_run, settings, **BACKEND)
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
            (settings.key or PLACEHOLDER_KEY).reveal(),
            base_url=settings.url,
            rate_limits=settings.limits,
            share=settings.share,
            **limiter_options(shared=settings.shared),
            **budget_of(settings.budget, settings.account_journal),
        ) as client:
            yield client


async def _run(settings: RunSettings) -> int:
    stopped: list[int] = []
    ends: list[Summary] = []  # stays empty if the second signal cancels the scope
    with anyio.CancelScope() as scope:
        async with (
            _connected(settings) as client,
            Batch(
                client,
                settings.out,
                journal=settings.journal,
                options=settings.options,
            ) as batch,
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
        empty = "" if added.new or added.known else ": the input is empty"
        view.note(f"{added.new} new rows, {added.known} known{empty}")
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
