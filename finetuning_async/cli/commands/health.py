"""``finetuning health``: ask whether the service is up."""

from __future__ import annotations

import click

from finetuning_async.cli._connect import NO_KEY, ask
from finetuning_async.cli._options import (
    Common,
    common_options,
    json_option,
    pass_common,
)
from finetuning_async.cli._output import print_json, shown


@click.command()
@json_option
@common_options
@pass_common
def command(common: Common, as_json: bool) -> None:
    """Ask whether the service is up; needs no key."""
    health = ask(common, lambda client: client.health(), key=NO_KEY)
    if as_json:
        print_json(health.raw)
    else:
        click.echo(shown(health.status or "ok"))
