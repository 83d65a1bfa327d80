"""``finetuning batch run``: input, client, signals, view and exit code."""

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
from finetuning_async.cli._batch_view import LiveView, View
from finetuning_async.cli._config import base_url, on_loopback
from finetuning_async.cli._error_exit import Refused
from finetuning_async.cli._event_loop import (
    BACKEND,
    Interrupted,
    alongside,
    single,
    stop_signals,
)
from finetuning_async.cli._exit_codes import WRONG
from finetuning_async.cli._keys import find_key
from finetuning_async.cli._log_output import library_notes
from finetuning_async.cli._options import Common
from finetuning_async.cli._output import (
    duration_text,
    is_terminal,
    print_fields,
    print_json,
    say,
)
from finetuning_async.journal import ItemFactory, SQLiteStore

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Iterator

    from finetuning_async.batch import Row, Summary
    from finetuning_async.journal import Item, NewItem

TRACK: Final = 60.0
"""Seconds that the last track is expected to take."""

GO_ON: Final = {"max_credits": "A higher --max-credits goes on."}
"""What helps where the same command at another time does not, by why it paused."""


@attrs.frozen(kw_only=True)
class Plan:
    """What ``batch run`` was told."""

    common: Common
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
        """The service's limits, or those of a faster emulator."""
        per = 60.0 / self.speed
        return RateLimits(creates=RateLimit(10, per=per), reads=RateLimit(60, per=per))

    def rows(self) -> Iterator[Row]:
        """The rows of the input.

        Raises:
            BatchInputError: Some are wrong; raised at the end.
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
    common: Common,
    *,
    speed: float,
    max_credits: int | None,
    on_unknown: Any,
    tags: bool,
    existing: Any,
    **told: Any,
) -> int:
    """Run a batch, or count it. Returns the exit code."""
    url = base_url(common).url
    if speed <= 0 or (speed != 1 and not on_loopback(url)):
        raise Refused("--speed is for an emulator: give its --base-url")
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
    plan = Plan(common=common, url=url, key=key, speed=speed, options=options, **told)
    if plan.source is None and not Folder(plan.out).is_batch:
        raise Refused(f"{plan.out} holds no batch yet: give an INPUT")
    common.if_interrupted = "Nothing is lost: run the same command to go on."
    try:
        return anyio.run(_dry_run if plan.dry_run else _run, plan, **BACKEND)
    except Exception as error:
        cause = single(error)
        if not isinstance(cause, BatchInputError):
            raise
        say(f"Error: {cause}\nNothing was taken in, and nothing was sent.")
        return WRONG


@asynccontextmanager
async def _connected(plan: Plan) -> AsyncGenerator[AsyncClient]:
    with library_notes(plan.common):
        async with AsyncClient(
            plan.key.reveal(), base_url=plan.url, rate_limits=plan.limits
        ) as client:
            yield client


async def _run(plan: Plan) -> int:
    stopped: list[int] = []
    ends: list[Summary] = []
    with anyio.CancelScope() as scope:
        async with (
            _connected(plan) as client,
            Batch(client, plan.out, options=plan.options) as batch,
        ):
            async with alongside(partial(_watch, batch, scope, stopped)):
                await _make(plan, client, batch)
            ends.append(batch.summary)
    for summary in ends:
        show(summary, as_json=plan.as_json)
    if stopped:
        raise Interrupted(stopped[0])
    return exit_code(ends[0])


async def _make(plan: Plan, client: AsyncClient, batch: Batch) -> None:
    added = await batch.add_rows(plan.rows())
    view = _view(plan, client, batch)
    if plan.source is not None:
        view.note(f"{added.new} new rows, {added.known} known")
    async with view, alongside(view.keep_up):
        async for item in batch.run():
            view.ended(item)
    if batch.paused is not None and batch.paused[0] != "stopped":
        word, why = batch.paused
        say(f"Paused: {why}. {GO_ON.get(word, 'The same command goes on later.')}")


def _view(plan: Plan, client: AsyncClient, batch: Batch) -> View:
    common = plan.common
    is_live = is_terminal(sys.stderr) and not common.quiet
    kind = LiveView if is_live else View
    return kind(client, batch, quiet=common.quiet, no_color=common.no_color)


async def _watch(batch: Batch, scope: anyio.CancelScope, stopped: list[int]) -> None:
    """The first signal lets what runs be finished, the second leaves at once."""
    with stop_signals(2) as next_signal:
        while True:
            stopped.append(await next_signal())
            if len(stopped) > 1 or not batch.is_running:
                break
            batch.stop()
            say("Stopping: what is under way is finished. Again to leave at once.")
    scope.cancel()


async def _dry_run(plan: Plan) -> int:
    account_note, known = _looked_at(plan.out)
    factory = ItemFactory()
    items = [factory.item(row) for row in plan.rows()]
    done = {item.key for item in known if item.entry.state != "planned"}
    done |= _adopted(plan, items, known)
    rows = [item.key for item in items]
    new = sum(key not in done for key in rows)
    async with _connected(plan) as client:
        account = await client.me()
    check_account(account_note, account, plan.url, str(plan.out))
    limit = plan.limits.creates
    seconds = max(new - limit.limit, 0) / limit.limit * limit.per + TRACK / plan.speed
    left = account.total_remaining
    facts = {
        "rows": len(rows),
        "known": len(rows) - new,
        "credits_needed": new,
        "credits_left": left,
        "enough": None if left is None else left >= new,
        "seconds": round(seconds, 1),
    }
    if plan.as_json:
        print_json(facts)
    else:
        word = None if left is None else "yes" if left >= new else "no"
        print_fields(
            {"rows": len(rows), "known": facts["known"], "credits needed": new}
            | {"credits left": left, "enough": word}
            | {"takes about": duration_text(seconds)}
        )
    return 0


def _looked_at(path: Path) -> tuple[str | None, list[Item]]:
    """Whose a batch is, and its items; nothing if there is none."""
    folder = Folder(path)
    if not folder.is_batch:
        return None, []
    store = SQLiteStore(folder.journal, read_only=True)
    try:
        return store.read_note(ACCOUNT), list(store.rows())
    finally:
        store.close()


def _adopted(plan: Plan, items: list[NewItem], known: list[Item]) -> set[str]:
    """The keys of items that a run would take for done.

    Raises:
        BatchError: A run would be refused.
    """
    if not plan.out.is_dir():
        return set()
    told = Existing.read(Folder(plan.out)).without(known).outcomes(items)
    if told and plan.options.existing == "refuse":
        raise existing_error(plan.out, told)
    return {item.key for item, _ in told} if plan.options.existing == "adopt" else set()
