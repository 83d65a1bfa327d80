"""Options that several commands have."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from finetuning_async._secrets import ApiKey

F = TypeVar("F", bound="Callable[..., Any]")


@dataclass(slots=True)
class Common:
    """What holds for the whole run of the program.

    Attributes:
        base_url: The service, if told on the command line.
        config: The file of the settings, if told on the command line.
        api_key_stdin: The key is on stdin.
        key_read: That key, once it is read.
        quiet: Nothing on stderr but errors.
        verbose: Requests and decisions on stderr.
        debug: Tracebacks.
        no_color: No colours, as with ``NO_COLOR``.
        if_interrupted: What to tell who interrupts it at this moment.
        resume: The command that goes on where this one ends too early, if there is one.
    """

    base_url: str | None = None
    config: str | None = None
    api_key_stdin: bool = False
    key_read: ApiKey | None = field(default=None, repr=False)
    quiet: bool = False
    verbose: bool = False
    debug: bool = False
    no_color: bool = False
    if_interrupted: str = ""
    resume: str = ""


def _keep(ctx: click.Context, parameter: click.Parameter, value: object) -> None:
    """Note an option wherever it stands, before the command's name or behind it."""
    common = ctx.ensure_object(Common)
    if value and parameter.name is not None:
        setattr(common, parameter.name, value)


def _common(*names: str, **more: Any) -> Callable[[F], F]:
    return click.option(*names, expose_value=False, callback=_keep, **more)


_COMMON: Final = (
    _common("--base-url", metavar="URL", help="The service to ask."),
    _common("--config", metavar="FILE", help="Settings, instead of config.json."),
    _common("--api-key-stdin", is_flag=True, help="Read the key from stdin."),
    _common("-q", "--quiet", is_flag=True, help="Nothing on stderr but errors."),
    _common("-v", "--verbose", is_flag=True, help="Requests on stderr."),
    _common("--no-color", is_flag=True, help="No colours."),
    _common("--debug", is_flag=True, help="Tracebacks of errors."),
)

pass_common = click.make_pass_decorator(Common, ensure=True)


def common_options(command: F) -> F:
    """Add the options that every command has."""
    for option in reversed(_COMMON):
        command = option(command)
    return command


def json_option(command: F) -> F:
    """Add ``--json``."""
    return click.option(
        "--json", "as_json", is_flag=True, help='Print {"data": ...} on stdout.'
    )(command)


def output_option(command: F) -> F:
    """Add ``-o``."""
    return click.option(
        "-o",
        "--output",
        metavar="PATH",
        help="File or folder to save to; an older file is replaced.",
    )(command)


def on_unknown_option(command: F) -> F:
    """Add ``--on-unknown``."""
    return click.option(
        "--on-unknown",
        type=click.Choice(["raise", "resubmit"]),
        default="raise",
        show_default=True,
        help="When a create is not found; resubmit sends it again only if it is proved"
        " that it made no track, which a lone one never is.",
    )(command)


def list_options(command: F) -> F:
    """Add ``--limit``, ``--offset`` and ``--status``."""
    for option in (
        click.option("--status", metavar="WORD", help="Only pending, processing, ..."),
        click.option("--offset", type=int, default=0, help="How many to pass over."),
        click.option(
            "--limit", type=int, default=20, show_default=True, help="1 to 99 rows."
        ),
    ):
        command = option(command)
    return command


def timeout_option(
    default: float | None = 300, words: str = "The longest wait for the end of it."
) -> Callable[[F], F]:
    """Make ``--timeout``."""
    return click.option(
        "--timeout",
        type=Number(least=0),
        default=default,
        show_default=default is not None,
        metavar="SECONDS",
        help=words,
    )


class Number(click.ParamType):  # type: ignore[type-arg]  # not generic before 8.5
    """A number; a whole one stays an `int`, so that messages repeat it as typed.

    Ranges of the service are not for here: the library has them.

    Args:
        least: The smallest allowed.
        most: The largest allowed.
        above: What it must be larger than, and finite.
    """

    name = "number"

    def __init__(
        self,
        least: float | None = None,
        most: float = math.inf,
        above: float | None = None,
    ) -> None:
        self._least = least
        self._most = most
        self._above = above

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read it.

        Raises:
            click.BadParameter: It is no number.
        """
        try:
            number = float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number.", param, ctx)
        allowed = self._problem(number)
        if allowed:
            self.fail(f"{value} is not a number {allowed}.", param, ctx)
        return int(number) if number.is_integer() else number

    def _problem(self, number: float) -> str:
        """What it must be and is not; empty if it is fine. NaN never is."""
        if self._above is not None and not self._above < number < math.inf:
            return f"above {self._above:g}"
        if self._least is None or self._least <= number <= self._most:
            return ""
        until = "on" if self._most == math.inf else f"to {self._most:g}"
        return f"from {self._least:g} {until}"
