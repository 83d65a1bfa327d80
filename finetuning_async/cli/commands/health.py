"""``finetuning health``: check whether the service is up."""

from __future__ import annotations

import click

from finetuning_async.cli._connect import PLACEHOLDER_KEY, call_service
from finetuning_async.cli._options import (
    CommonOptions,
    json_option,
    local_options,
    pass_common,
)
from finetuning_async.cli._output import print_json, shown


@click.command()
@json_option
@local_options("base_url", "config", "verbose", "no_color")
@pass_common
def command(common: CommonOptions, as_json: bool) -> None:
    """Check whether the service is up; needs no key."""
    health = call_service(common, lambda client: client.health(), key=PLACEHOLDER_KEY)
    if as_json:
        print_json(health.raw)
    else:
        click.echo(shown(health.status or "ok"))
