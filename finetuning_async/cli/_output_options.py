"""The options that say where and how a track is saved."""

from __future__ import annotations

from dataclasses import fields
from functools import wraps
from typing import TYPE_CHECKING, Any, Final

import click

from finetuning_async.cli._output_path import Output

if TYPE_CHECKING:
    from collections.abc import Callable

_OPTIONS: Final = (
    click.option(
        "-o",
        "--output",
        metavar="PATH",
        help="File or folder to save to, - for stdout; an existing file is replaced.",
    ),
    click.option("--no-clobber", is_flag=True, help="Do not replace an existing file."),
    click.option(
        "--metadata",
        is_flag=True,
        help="Write title, prompt, tempo, key, lyrics, seed and id into the file.",
    ),
    click.option(
        "--check",
        is_flag=True,
        help="Check that it is whole, as long as asked for, and not silent.",
    ),
    click.option(
        "--sidecar", is_flag=True, help="Save what is known of it beside it, as JSON."
    ),
    click.option("--play", is_flag=True, help="Play it then, where a player is."),
)


def output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add these options; they arrive as one `to`."""
    names = [field.name for field in fields(Output)]

    @wraps(command)
    def with_output(*args: Any, **given: Any) -> Any:
        to = Output(**{name: given.pop(name) for name in names})
        return command(*args, to=to, **given)

    decorated: Callable[..., Any] = with_output
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated
