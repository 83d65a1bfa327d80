"""``finetuning health``: ask whether the service is up."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from finetuning_async.cli._connect import QUICK, service
from finetuning_async.cli._options import (
    Common,
    common_options,
    json_option,
    pass_common,
)
from finetuning_async.cli._output import one_line, print_json
from finetuning_async.cli._run import run

if TYPE_CHECKING:
    from finetuning_async import Health


@click.command()
@json_option
@common_options
@pass_common
def command(common: Common, as_json: bool) -> None:
    """Ask whether the service is up; needs no key."""
    health = run(partial(_health, common))
    if as_json:
        print_json(health.raw)
    else:
        click.echo(one_line(health.status or "ok"))


async def _health(common: Common) -> Health:
    async with service(common, needs_key=False, retries=QUICK) as client:
        return await client.health()
