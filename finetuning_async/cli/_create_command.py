"""The commands that create a track: the options they share, and one run of them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import partial, wraps
from math import inf
from typing import TYPE_CHECKING, Any, Final

import click

from finetuning_async.cli._connect import MANY_RETRIES, call_emulator, call_service
from finetuning_async.cli._options import (
    Number,
    budget_options,
    json_option,
    share_option,
    shared_option,
    timeout_option,
)
from finetuning_async.cli._output import say, shown
from finetuning_async.cli._output_options import output_options
from finetuning_async.cli._player import check_play, play
from finetuning_async.cli._signals import raise_on_signal
from finetuning_async.cli._track_output import (
    progress,
    report_result,
    save,
    set_resume_hint,
    wait,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from finetuning_async import AsyncClient
    from finetuning_async._events import Event
    from finetuning_async._types import Priority
    from finetuning_async.cli._delay_notice import DelayTracker
    from finetuning_async.cli._options import CommonOptions
    from finetuning_async.cli._output_path import Destination, Output
    from finetuning_async.cli._progress import SilentReporter
    from finetuning_async.cli._track_kinds import TrackKind

DEFAULT_SPEED: Final = 20.0
"""With it, a track of the emulator takes 1 to 6 s."""

CHECK_INTERVAL: Final = 1.0
"""Seconds from one look at what a create waits for to the next."""

DEFAULT_WAIT: Final = 300.0
"""Seconds to wait for a track from its acceptance on, by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateOptions:
    """What to do with the track; the fields are the options of the command."""

    to: Output
    as_json: bool
    no_wait: bool
    timeout: float | None
    webhook: str | None
    priority: Priority
    share: str | None
    max_wait: float | None
    shared: bool
    budget: int | None
    journal: str | None
    emulator: bool
    speed: float | None

    @property
    def waits(self) -> bool:
        """Whether to wait for the end of the track."""
        return not self.no_wait and not (self.webhook and self.to.output is None)

    @property
    def destination(self) -> Destination | None:
        """Where to save the track; `None` to save nothing."""
        # With --json stdout has what is needed, so that only -o saves a file.
        saves = self.waits and (self.to.output is not None or not self.as_json)
        if not saves:
            return None
        return self.to.destination

    def check(self) -> None:
        """Reject options that contradict each other.

        Raises:
            click.UsageError: They do.
        """
        if self.speed is not None and not self.emulator:
            raise click.UsageError("--speed requires --emulator.")
        if self.shared and self.emulator:
            raise click.UsageError(
                "--shared is for the service; --emulator is used by this command only."
            )
        if self.budget is not None and self.journal is None:
            raise click.UsageError(
                "--budget requires --journal, which remembers what earlier runs spent."
            )
        if self.journal is not None and self.emulator:
            raise click.UsageError(
                "--journal is for the service; --emulator costs nothing."
            )
        if self.emulator and not self.waits:
            raise click.UsageError(
                "--emulator stops with this command, so the command has to wait:"
                " leave out --no-wait, and use --webhook only with -o.\n"
                "To keep an emulator running: finetuning emulator"
            )
        if self.to.output == "-" and self.as_json:
            raise click.UsageError("--json and -o - both use stdout.")
        if not self.waits or self.as_json:
            _ = self.to.destination_if_given  # else its options would be ignored
        check_play(self.destination, play=self.to.play)
        if self.to.output is not None and not self.waits:
            raise click.UsageError(
                "-o cannot be combined with --no-wait: a track is saved when it ends."
            )


_OPTIONS: Final = (
    output_options,
    json_option,
    click.option("--no-wait", is_flag=True, help="Print the id and exit."),
    timeout_option(
        None,
        "The longest time that the whole command may take."
        f"  [default: {DEFAULT_WAIT:g} from acceptance on]",
    ),
    click.option(
        "--webhook",
        metavar="URL",
        help="Where the service reports the end; implies --no-wait without -o.",
    ),
    click.option(
        "--max-wait",
        type=Number(minimum=0),
        metavar="SECONDS",
        help="Fail at once if the rate limit or the queue would delay it longer.",
    ),
    shared_option,
    click.option(
        "--priority",
        type=click.Choice(["high", "normal", "low"]),
        default="normal",
        show_default=True,
        help="Who goes first, with --shared; a batch is low.",
    ),
    share_option,
    budget_options,
    click.option(
        "--emulator",
        is_flag=True,
        help="Use an emulator in this process: no key, no cost.",
    ),
    click.option(
        "--speed",
        type=Number(above=0),
        metavar="FACTOR",
        help=f"How much faster the emulator runs.  [default: {DEFAULT_SPEED:g}]",
    ),
)


def create_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that these commands share; they arrive as one `options`."""
    names = [field.name for field in fields(CreateOptions)]

    @wraps(command)
    def with_options(*args: Any, **given: Any) -> Any:
        options = CreateOptions(**{name: given.pop(name) for name in names})
        options.check()
        if options.emulator and click.get_current_context().obj.base_url:
            raise click.UsageError(
                "--emulator is the service of this command; leave out --base-url."
            )
        return command(*args, options=options, **given)

    decorated: Callable[..., Any] = with_options
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


class CreateCommand(click.Command):
    """A command that also takes the vendor's spelling ``--enhance=false``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Translate the vendor's spelling, then parse as click does."""
        vendors = {"--enhance=false": "--no-enhance", "--enhance=true": "--enhance"}
        end = args.index("--") if "--" in args else len(args)
        head = [vendors.get(word.lower(), word) for word in args[:end]]
        return super().parse_args(ctx, [*head, *args[end:]])


enhance_option: Final = click.option(
    "--enhance/--no-enhance",
    default=True,
    help="Let the service expand the prompt.  [default: enhance]",
)


class CreateRun:
    """One run of such a command.

    Args:
        common: Options that all commands share.
        kind: A track or a sound effect.
        options: What to do with it.
        lyrics: What is sung, for the metadata.
    """

    def __init__(
        self,
        common: CommonOptions,
        kind: TrackKind,
        options: CreateOptions,
        lyrics: str | None = None,
    ) -> None:
        self._lyrics = lyrics
        self._common = common
        self._kind = kind
        self._options = options
        self._destination = options.destination
        self._saved: Path | None = None

    def run(self, create: Callable[..., Awaitable[Any]]) -> None:
        """Create the track, wait for it, save it, print it.

        Args:
            create: Is called with the client, `webhook`, `on_submitted` and `timeout`.

        Raises:
            click.ClickException: The track failed.
            FinetuningError: It was not created, or could not be saved.
        """
        if self._destination is not None:
            with raise_on_signal():  # `check` creates a file, and must remove it
                self._destination.check()
        main = partial(self._main, create)
        if self._options.emulator:
            track = call_emulator(self._common, self._speed, main)
        else:
            given = self._options
            track = call_service(
                self._common,
                main,
                retries=MANY_RETRIES,
                shared=given.shared,
                budget=given.budget,
                journal=given.journal,
            )
        if not self._options.waits and not self._options.as_json:
            click.echo(shown(track.id))
        report_result(self._common, track, as_json=self._options.as_json)
        if self._options.to.play and self._saved is not None:
            play(self._saved)

    @property
    def _speed(self) -> float:
        """How much faster than the service it goes."""
        if not self._options.emulator:
            return 1.0
        return DEFAULT_SPEED if self._options.speed is None else self._options.speed

    def _announce_emulator(self) -> None:
        if self._options.emulator and not self._common.quiet:
            say(
                f"An emulator creates it (speed {self._speed:g}): no key, no cost,"
                " a placeholder as audio"
            )

    async def _main(
        self, create: Callable[..., Awaitable[Any]], client: AsyncClient
    ) -> Any:
        import anyio  # slow to import

        timeout = self._options.timeout
        deadline = inf if timeout is None else anyio.current_time() + timeout
        expected = self._kind.typical_seconds / self._speed
        with progress(self._common, doing="sending", expected=expected) as reporter:
            track = await self._create(create, client, reporter)
            if self._options.waits:
                left = (
                    DEFAULT_WAIT if timeout is None else deadline - anyio.current_time()
                )
                track = await wait(client, track, reporter, max(round(left, 1), 0))
            if self._destination is not None and track.status == "completed":
                self._saved = await save(
                    client, track, self._destination, reporter, lyrics=self._lyrics
                )
        return track

    async def _create(
        self,
        create: Callable[..., Awaitable[Any]],
        client: AsyncClient,
        reporter: SilentReporter,
    ) -> Any:
        from finetuning_async.cli._delay_notice import DelayTracker  # slow to import
        from finetuning_async.cli._event_loop import background_task  # slow to import

        delay = DelayTracker()
        is_accepted = is_announced = False

        def on_event(event: Event) -> None:
            nonlocal is_announced
            if not is_announced:  # not before: the create may be refused as invalid
                is_announced = True
                self._announce_emulator()
            delay(event)
            # Some events of the create come after its acceptance; they must not
            # replace the hint set there.
            if not is_accepted:
                self._set_pending_hint(may_be=delay.may_be_accepted)

        def on_submitted(track: Any) -> None:
            nonlocal is_accepted
            is_accepted = True
            self._set_resume_hint(track.id)
            reporter.accepted(track)

        self._set_pending_hint(may_be=False)
        # A view of the client, so that only this create's events arrive here.
        view = client.with_options(
            on_event=on_event,
            priority=self._options.priority,
            share=self._options.share,
            max_wait=self._options.max_wait,
        )
        async with background_task(partial(_explain_delay, client, delay, reporter)):
            return await create(
                view,
                webhook=self._options.webhook,
                on_submitted=on_submitted,
                timeout=self._options.timeout,
            )
        raise AssertionError  # unreachable: the block suppresses no exception

    def _set_pending_hint(self, *, may_be: bool) -> None:
        if not self._options.emulator:
            self._common.interrupt_hint = (
                "A request was sent, but no response came: it may have been accepted."
                if may_be
                else "No track was accepted."
            ) + f"\nTo check: {self._kind.command('list')}"

    def _set_resume_hint(self, track_id: str) -> None:
        if self._options.emulator:
            self._common.interrupt_hint = (
                "The emulator has stopped, and its track is lost."
            )
        else:
            set_resume_hint(self._common, self._kind, track_id, self._destination)


async def _explain_delay(
    client: AsyncClient, delay: DelayTracker, reporter: SilentReporter
) -> None:
    """Show why a create is not accepted yet, until it is."""
    import anyio  # slow to import

    while True:
        await anyio.sleep(CHECK_INTERVAL)
        closed_for = client.rate_limit_status().creates.closed_for
        now = anyio.current_time()
        reporter.delayed(delay.delay(now, closed_for), now)
