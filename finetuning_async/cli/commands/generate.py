"""``finetuning generate``: make one track of music and save it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio
import click

from finetuning_async.cli._connect import emulated, service
from finetuning_async.cli._finish import conclude, note_resume, save, wait
from finetuning_async.cli._naming import Destination
from finetuning_async.cli._options import (
    Common,
    Number,
    common_options,
    json_option,
    output_option,
    pass_common,
    timeout_option,
)
from finetuning_async.cli._output import say
from finetuning_async.cli._progress import TYPICAL, Silent, progress
from finetuning_async.cli._run import alongside, run

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from finetuning_async import AsyncClient, Generation

SPEED: Final = 20.0
"""A track of the emulator then takes 1 to 6 s."""

PATIENCE: Final = 5.0
"""Seconds without acceptance after which a person is told why."""


@click.command()
@click.argument("tags", nargs=-1, required=True)
@click.option("--duration", type=Number(), metavar="SECONDS", help="5 to 210.")
@click.option("--bpm", type=Number(), metavar="NUMBER", help="60 to 200.")
@click.option("--key", metavar="NOTE", help="C, C#, ... B; or a flat.")
@click.option("--scale", metavar="WORD", help="major or minor.")
@click.option("--time-sig", "timesignature", metavar="BEATS", help="2 to 7 per bar.")
@click.option("--language", metavar="CODE", help="Of the vocals: en, ja, de, ...")
@click.option("--lyrics", metavar="TEXT", help="What is sung.")
@click.option("--seed", type=int, metavar="NUMBER", help="0 to 2147483647.")
@output_option
@json_option
@click.option("--no-wait", is_flag=True, help="Print the id and leave.")
@timeout_option
@click.option(
    "--webhook",
    metavar="URL",
    help="Where the end is announced; without -o, this implies --no-wait.",
)
@click.option(
    "--on-unknown",
    type=click.Choice(["raise", "resubmit"]),
    default="raise",
    show_default=True,
    help="When it cannot be learned whether a create arrived.",
)
@click.option(
    "--emulator", is_flag=True, help="Ask an emulator in this process: no key, free."
)
@click.option(
    "--speed",
    type=Number(),
    metavar="FACTOR",
    help=f"How fast the emulator is.  [default: {SPEED:g}]",
)
@common_options
@pass_common
def command(
    common: Common,
    /,
    tags: tuple[str, ...],
    output: str | None,
    as_json: bool,
    no_wait: bool,
    timeout: float,
    emulator: bool,
    speed: float | None,
    **parameters: Any,
) -> None:
    """Make one track of music and save it. Costs one credit.

    TAGS is what it shall sound like; several words are joined. What is not set is left
    to the service. Without -o the file is named after the track; with --json the track
    is printed, and saved only with -o.
    """
    waits = not no_wait and not (parameters["webhook"] and output is None)
    _check_combination(emulator=emulator, speed=speed, waits=waits, output=output)
    saves = waits and (output is not None or not as_json)
    job = Job(
        common,
        destination=Destination(output) if saves else None,
        as_json=as_json,
        timeout=timeout if waits else None,
        speed=(speed or SPEED) if emulator else None,
    )
    parameters["tags"] = " ".join(tags)
    run(partial(job.run, parameters))


def _check_combination(
    *, emulator: bool, speed: float | None, waits: bool, output: str | None
) -> None:
    if speed is not None and not emulator:
        raise click.UsageError("--speed belongs to --emulator.")
    if emulator and not waits:
        raise click.UsageError(
            "--emulator ends with this command, so there is nothing to leave to it; for"
            " one that stays, run `finetuning emulator`."
        )
    if output is not None and not waits:
        raise click.UsageError("-o saves the track, --no-wait does not wait for it.")


class Job:
    """One run of the command.

    Args:
        common: Options that hold for all commands.
        destination: Where to save; `None` to save nothing.
        as_json: Whether to print the track.
        timeout: Seconds to wait for its end; `None` not to wait.
        speed: The emulator's speed; `None` for the service.
    """

    def __init__(
        self,
        common: Common,
        *,
        destination: Destination | None,
        as_json: bool,
        timeout: float | None,
        speed: float | None,
    ) -> None:
        self._common = common
        self._destination = destination
        self._as_json = as_json
        self._timeout = timeout
        self._speed = speed

    async def run(self, parameters: dict[str, Any]) -> None:
        """Create, wait, save, print."""
        async with self._client() as client:
            if self._destination is not None:
                self._destination.check()
            expected = TYPICAL / (self._speed or 1)
            with progress(self._common, doing="sending", expected=expected) as report:
                track = await self._create(client, report, parameters)
                if self._timeout is not None:
                    track = await wait(client, track, report, self._timeout)
                if self._destination is not None and track.status == "completed":
                    path = self._destination.path_for(track)
                    await save(client, track, path, report)
        if self._timeout is None and not self._as_json:
            click.echo(track.id)
        conclude(self._common, track, as_json=self._as_json)

    def _client(self) -> AbstractAsyncContextManager[AsyncClient]:
        if self._speed is None:
            return service(self._common)
        if not self._common.quiet:
            say(
                "emulator: no key, no cost; the track is a synthesised placeholder"
                f" (speed {self._speed:g})"
            )
        return emulated(self._common, self._speed)

    async def _create(
        self, client: AsyncClient, report: Silent, parameters: dict[str, Any]
    ) -> Generation:
        if self._speed is None:
            self._common.if_interrupted = (
                "Nothing was accepted so far; `finetuning list` shows what there is."
            )

        def accepted(track: Generation) -> None:
            self._note_accepted(track.id)
            report.accepted(track)

        async with alongside(partial(_explain_delay, client, report)):
            return await client.generations.create(**parameters, on_submitted=accepted)
        raise AssertionError  # alongside swallows nothing

    def _note_accepted(self, track_id: str) -> None:
        if self._speed is None:
            note_resume(self._common, track_id, self._destination)
        else:
            self._common.if_interrupted = "The emulator has ended, and its track."


async def _explain_delay(client: AsyncClient, report: Silent) -> None:
    """Say what it waits for if the service takes its time to accept."""
    await anyio.sleep(PATIENCE)
    creates = client.rate_limit_status().creates
    if creates.closed_for > 0:
        why = f"the service asks to wait {creates.closed_for:.0f} s more (rate limit)"
    else:
        why = "the service does not answer, or has no free place in its queue"
    report.note(f"not accepted yet: {why}; waiting")
