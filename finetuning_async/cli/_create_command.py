"""The commands that make something: their common options, and one run of them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import partial, wraps
from math import inf
from typing import TYPE_CHECKING, Any, Final

import click

from finetuning_async.cli._connect import PATIENT, ask, rehearse
from finetuning_async.cli._interruption import clearing
from finetuning_async.cli._options import (
    Number,
    json_option,
    output_option,
    timeout_option,
)
from finetuning_async.cli._output import say, shown
from finetuning_async.cli._output_path import Destination
from finetuning_async.cli._track_output import (
    conclude,
    note_resume,
    progress,
    save,
    wait,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from finetuning_async import AsyncClient
    from finetuning_async._events import Event
    from finetuning_async.cli._delay_notice import Delay
    from finetuning_async.cli._options import Common
    from finetuning_async.cli._progress import Silent
    from finetuning_async.cli._track_kinds import TrackKind

SPEED: Final = 20.0
"""A track of the emulator then takes 1 to 6 s."""

PATIENCE: Final = 5.0
"""Seconds without acceptance after which a person is told why."""

LOOK_EVERY: Final = 1.0
"""Seconds between looks whether that has changed."""

WAIT: Final = 300.0
"""Seconds from acceptance to the end of a track, unless told otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What shall be done with what is made; the fields are the options."""

    output: str | None
    as_json: bool
    no_wait: bool
    timeout: float | None
    webhook: str | None
    emulator: bool
    speed: float | None

    @property
    def waits(self) -> bool:
        """Whether to wait for its end."""
        return not self.no_wait and not (self.webhook and self.output is None)

    @property
    def destination(self) -> Destination | None:
        """Where to save it; `None` to save nothing."""
        saves = self.waits and (self.output is not None or not self.as_json)
        return Destination(self.output) if saves else None

    def check(self) -> None:
        """Refuse options that contradict each other.

        Raises:
            click.UsageError: They do.
        """
        if self.speed is not None and not self.emulator:
            raise click.UsageError("--speed belongs to --emulator.")
        if self.emulator and not self.waits:
            raise click.UsageError(
                "--emulator ends with this command, so there is nothing to leave to it;"
                " for one that stays, run `finetuning emulator`."
            )
        if self.output is not None and not self.waits:
            raise click.UsageError(
                "-o saves the track, --no-wait does not wait for it."
            )


_OPTIONS: Final = (
    output_option,
    json_option,
    click.option("--no-wait", is_flag=True, help="Print the id and leave."),
    timeout_option(
        None,
        "The longest until the end of the track, from the start of the command."
        f"  [default: {WAIT:g} from acceptance]",
    ),
    click.option(
        "--webhook",
        metavar="URL",
        help="Where the end is announced; without -o, this implies --no-wait.",
    ),
    click.option(
        "--emulator",
        is_flag=True,
        help="Ask an emulator in this process: no key, free.",
    ),
    click.option(
        "--speed",
        type=Number(above=0),
        metavar="FACTOR",
        help=f"How fast the emulator is.  [default: {SPEED:g}]",
    ),
)


def making_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that all such commands have; they arrive as one `plan`."""
    names = [field.name for field in fields(Plan)]

    @wraps(command)
    def with_plan(*words: Any, **given: Any) -> Any:
        plan = Plan(**{name: given.pop(name) for name in names})
        plan.check()
        return command(*words, plan=plan, **given)

    decorated: Callable[..., Any] = with_plan
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


class Maker(click.Command):
    """A command whose switches may be set the vendor's way: ``--enhance=false``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click's."""
        vendors = {"--enhance=false": "--no-enhance", "--enhance=true": "--enhance"}
        end = args.index("--") if "--" in args else len(args)
        head = [vendors.get(word.lower(), word) for word in args[:end]]
        return super().parse_args(ctx, [*head, *args[end:]])


enhance_option: Final = click.option(
    "--enhance/--no-enhance",
    default=True,
    help="Whether the service may expand the prompt.  [default: enhance]",
)


class Making:
    """One run of such a command.

    Args:
        common: Options that hold for all commands.
        kind: What is made.
        plan: What shall be done with it.
    """

    def __init__(self, common: Common, kind: TrackKind, plan: Plan) -> None:
        self._common = common
        self._kind = kind
        self._plan = plan
        self._destination = plan.destination

    def run(self, create: Callable[..., Awaitable[Any]]) -> None:
        """Create, wait, save, print.

        Args:
            create: Called with the client, `webhook` and `on_submitted`.

        Raises:
            click.ClickException: The track failed.
            FinetuningError: It was not made, or could not be saved.
        """
        if self._destination is not None:
            with clearing():  # it tries to make a file
                self._destination.check()
        main = partial(self._main, create)
        if self._plan.emulator:
            track = rehearse(self._common, self._introduced_speed(), main)
        else:
            track = ask(self._common, main, retries=PATIENT)
        if not self._plan.waits and not self._plan.as_json:
            click.echo(shown(track.id))
        conclude(self._common, track, as_json=self._plan.as_json)

    def _introduced_speed(self) -> float:
        speed = SPEED if self._plan.speed is None else self._plan.speed
        if not self._common.quiet:
            say(
                "emulator: no key, no cost; the audio is a synthesised placeholder"
                f" (speed {speed:g})"
            )
        return speed

    async def _main(
        self, create: Callable[..., Awaitable[Any]], client: AsyncClient
    ) -> Any:
        import anyio  # slow to import

        timeout = self._plan.timeout
        deadline = inf if timeout is None else anyio.current_time() + timeout
        speed = (self._plan.speed or SPEED) if self._plan.emulator else 1
        expected = self._kind.typical / speed
        with progress(self._common, doing="sending", expected=expected) as report:
            track = await self._create(create, client, report)
            if self._plan.waits:
                left = WAIT if timeout is None else deadline - anyio.current_time()
                track = await wait(client, track, report, max(round(left, 1), 0))
            if self._destination is not None and track.status == "completed":
                path = self._destination.path_for(track)
                await save(client, track, path, report)
        return track

    async def _create(
        self,
        create: Callable[..., Awaitable[Any]],
        client: AsyncClient,
        report: Silent,
    ) -> Any:
        from finetuning_async.cli._delay_notice import Delay  # slow to import
        from finetuning_async.cli._event_loop import alongside  # slow to import

        delay = Delay()
        is_accepted = False

        def heard(event: Event) -> None:
            delay(event)
            if not is_accepted:  # events of it come after `accepted`
                self._note_unaccepted(may_be=delay.may_be_accepted)

        def accepted(track: Any) -> None:
            nonlocal is_accepted
            is_accepted = True
            self._note_accepted(track.id)
            report.accepted(track)

        self._note_unaccepted(may_be=False)
        view = client.with_options(on_event=heard)
        async with alongside(partial(_explain_delay, client, delay, report)):
            return await create(
                view,
                webhook=self._plan.webhook,
                on_submitted=accepted,
                timeout=self._plan.timeout,
            )
        raise AssertionError  # alongside swallows nothing

    def _note_unaccepted(self, *, may_be: bool) -> None:
        if not self._plan.emulator:
            where = f"`{self._kind.command('list')}` shows"
            self._common.if_interrupted = "Nothing was accepted so far" + (
                f", but a create was sent: {where} whether it was, after all."
                if may_be
                else f"; {where} what there is."
            )

    def _note_accepted(self, track_id: str) -> None:
        if self._plan.emulator:
            self._common.if_interrupted = "The emulator has ended, and its track."
        else:
            note_resume(self._common, self._kind, track_id, self._destination)


async def _explain_delay(client: AsyncClient, delay: Delay, report: Silent) -> None:
    """Say what it waits for if it takes its time, and again when that has changed."""
    import anyio  # slow to import

    told = ""
    await anyio.sleep(PATIENCE)
    while True:
        closed_for = client.rate_limit_status().creates.closed_for
        cause, number = delay.cause(anyio.current_time(), closed_for)
        if cause != told:
            report.note(f"not accepted yet: {cause.format(number)}; waiting")
            told = cause
        await anyio.sleep(LOOK_EVERY)
