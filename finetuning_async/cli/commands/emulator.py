"""``finetuning emulator``: run an emulator of the service on this machine."""

from __future__ import annotations

import json
import os
import secrets
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from finetuning_async.cli._connect import new_emulator
from finetuning_async.cli._emulator_options import (
    emulator_options,
    given,
    read_seed,
    with_playlists,
)
from finetuning_async.cli._emulator_output import (
    print_start,
    request_log,
    url_from_here,
)
from finetuning_async.cli._error_exit import InvalidInputError
from finetuning_async.cli._keys import read_key
from finetuning_async.cli._options import (
    CommonOptions,
    local_options,
    pass_common,
)
from finetuning_async.cli._output import say
from finetuning_async.cli._signals import Interrupted, newline_after_ctrl_c

if TYPE_CHECKING:
    from pathlib import Path

    from finetuning_async.emulator import Emulator


@click.command()
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="The address to listen on."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8787,
    show_default=True,
    help="0 picks a free one.",
)
@emulator_options
@local_options("config", "api_key_stdin")
@pass_common
def command(
    common: CommonOptions,
    /,
    host: str,
    port: int,
    seed_file: Path | None,
    playlists: tuple[str, ...],
    admin_token: str | None,
    as_json: bool,
    ready_file: Path | None,
    **options: Any,
) -> None:
    """Run an emulator of the service on this machine, until Ctrl-C.

    It has the service's limits and errors, makes real MP3s, and costs nothing. All of
    it can be changed while it runs: http://127.0.0.1:8787/_emulator/openapi.json says
    how.
    """
    seed, settings = with_playlists(read_seed(seed_file), playlists), given(options)
    if settings.get("seed") is None and "seed" not in (seed.get("settings") or {}):
        # Ids that repeat from run to run would match those that a client remembers.
        settings["seed"] = secrets.randbits(31)
    if common.api_key_stdin:
        settings["api_key"] = read_key().reveal()
    start = _Start(common, host, port, admin_token, as_json, ready_file)
    with ExitStack() as stack:
        if not common.quiet and not as_json:
            settings["on_request"] = stack.enter_context(request_log())
        _run(start, new_emulator(seed, **settings))


@dataclass(frozen=True, slots=True)
class _Start:
    """How to start: where, with what beside the settings, and what to say."""

    common: CommonOptions
    host: str
    port: int
    admin_token: str | None
    as_json: bool
    ready_file: Path | None


def _run(start: _Start, emulator: Emulator) -> None:
    from finetuning_async.cli._event_loop import run  # slow to import

    try:
        run(partial(_serve, start, emulator))
    except Interrupted as stop:
        if not start.common.quiet:
            lost = "" if emulator.state_dir else "; its tracks are lost"
            say(f"{newline_after_ctrl_c(stop.number)}The emulator has stopped{lost}.")


async def _serve(start: _Start, emulator: Emulator) -> None:
    import anyio  # slow to import

    from finetuning_async.cli._event_loop import unwrap_group  # slow to import
    from finetuning_async.cli._messages import cannot_listen  # slow to import
    from finetuning_async.emulator import serve  # needs an extra

    try:
        async with AsyncExitStack() as stack:
            await _enter(stack, emulator)
            token = start.admin_token or None
            server = serve(
                emulator, host=start.host, port=start.port, admin_token=token
            )
            url = await stack.enter_async_context(server)
            _announce(start, emulator, url)
            await anyio.sleep_forever()
    except* OSError as errors:
        raise click.ClickException(
            cannot_listen(start.host, start.port, unwrap_group(errors))
        ) from None


async def _enter(stack: AsyncExitStack, emulator: Emulator) -> None:
    """Start the emulator; an error in its seed or its folder is reported."""
    try:
        await stack.enter_async_context(emulator)
    except ValueError as wrong:
        raise InvalidInputError(f"it cannot start with this: {wrong}") from None
    except OSError as error:
        raise click.ClickException(str(error)) from None


def _announce(start: _Start, emulator: Emulator, url: str) -> None:
    """Say that it listens, to a person or to a program."""
    ready = {
        "url": url_from_here(url),
        "api_key": emulator.api_key,
        "pid": os.getpid(),
    }
    if start.ready_file is not None:
        written = start.ready_file.with_name(f"{start.ready_file.name}.part")
        try:
            written.write_text(json.dumps(ready) + "\n", encoding="utf-8")
            written.replace(start.ready_file)  # who waits for it never sees half of it
        except OSError as error:
            message = f"{start.ready_file} cannot be written: {error.strerror}"
            raise click.ClickException(message) from None
    if start.as_json:
        click.echo(json.dumps(ready))
    else:
        print_start(start.common, emulator, url)
