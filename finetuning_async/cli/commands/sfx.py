"""``finetuning sfx``: create, list, show and save sound effects."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Final

import click

from finetuning_async.cli._connect import call_service
from finetuning_async.cli._create_command import (
    CreateCommand,
    CreateOptions,
    CreateRun,
    create_options,
    enhance_option,
)
from finetuning_async.cli._find import find
from finetuning_async.cli._listing import show_list
from finetuning_async.cli._options import (
    CommonOptions,
    Number,
    common_options,
    json_option,
    list_options,
    pass_common,
    timeout_option,
)
from finetuning_async.cli._output import (
    print_json,
    seconds_text,
)
from finetuning_async.cli._output_options import output_options
from finetuning_async.cli._tables import Table, print_fields, time_text
from finetuning_async.cli._track_fields import track_fields, track_seconds
from finetuning_async.cli._track_kinds import EFFECT
from finetuning_async.cli._track_output import download, wait_for

if TYPE_CHECKING:
    from finetuning_async import SoundEffect
    from finetuning_async.cli._output_path import Output

TABLE: Final = Table("ID", "STATUS", "SECONDS", "PROMPT", "CREATED", text="PROMPT")


@click.group()
def command() -> None:
    """Create, list, show and save sound effects."""


@command.command("generate", cls=CreateCommand)
@click.argument("prompt", nargs=-1, required=True)
@click.option(
    "--duration",
    type=Number(),
    metavar="SECONDS",
    help="1 to 8; the service rounds it to steps of 0.5.",
)
@enhance_option
@create_options
@common_options
@pass_common
def generate(
    common: CommonOptions,
    /,
    prompt: tuple[str, ...],
    options: CreateOptions,
    **parameters: Any,
) -> None:
    """Create one sound effect and save it (short: gen). Up to 100 a day (UTC).

    PROMPT describes the sound; several words are joined. Without -o the file is named
    after the sound effect. With --json it is printed, and saved only if -o is given.
    """
    words = " ".join(prompt)
    CreateRun(common, EFFECT, options).run(
        lambda client, **more: client.sound_effects.create(words, **parameters, **more)
    )


_short = copy.copy(generate)
_short.hidden = True
command.add_command(_short, "gen")


@command.command("list")
@list_options
@json_option
@common_options
@pass_common
def list_(common: CommonOptions, /, **options: Any) -> None:
    """List sound effects, newest first."""
    show_list(common, EFFECT, TABLE, _row, **options)


@command.command("get")
@click.argument("effect_id", metavar="ID")
@json_option
@common_options
@pass_common
def get(common: CommonOptions, effect_id: str, as_json: bool) -> None:
    """Show one sound effect."""
    effect = call_service(common, lambda client: find(client, effect_id, (EFFECT,)))
    if as_json:
        print_json(effect.raw)
    else:
        print_fields(track_fields(effect))


@command.command("wait")
@click.argument("effect_id", metavar="ID")
@output_options
@json_option
@timeout_option()
@common_options
@pass_common
def wait(
    common: CommonOptions,
    effect_id: str,
    to: Output,
    as_json: bool,
    timeout: float,
) -> None:
    """Wait for a sound effect to end. Add -o to save it."""
    destination = to.destination_if_given
    wait_for(
        common, (EFFECT,), effect_id, destination, timeout=timeout, as_json=as_json
    )


@command.command("download")
@click.argument("effect_id", metavar="ID")
@output_options
@common_options
@pass_common
def download_(
    common: CommonOptions,
    effect_id: str,
    to: Output,
) -> None:
    """Save a completed sound effect. Without -o the file is named after it."""
    download(common, (EFFECT,), effect_id, to.destination)


def _row(effect: SoundEffect) -> tuple[str, ...]:
    return (
        effect.id,
        effect.status,
        seconds_text(track_seconds(effect), digits=2),
        effect.prompt,
        time_text(effect.created_at),
    )
