"""Options that several commands share."""

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
class CommonOptions:
    """The options that every command has, and what to say if the run ends early.

    Attributes:
        base_url: The service, if given on the command line.
        config: The settings file, if given on the command line.
        api_key_stdin: Whether the key is on stdin.
        key_read: That key, once it is read.
        quiet: Whether to print only errors on stderr.
        verbose: Whether to print requests and decisions on stderr.
        debug: Whether to print tracebacks.
        no_color: Whether to use no colours, as with ``NO_COLOR``.
        interrupt_hint: What to print if a signal ends the program at this moment.
        resume: The command that continues if this one ends early, if there is one.
    """

    base_url: str | None = None
    config: str | None = None
    api_key_stdin: bool = False
    key_read: ApiKey | None = field(default=None, repr=False)
    quiet: bool = False
    verbose: bool = False
    debug: bool = False
    no_color: bool = False
    interrupt_hint: str = ""
    resume: str = ""


def _store_on_common(
    ctx: click.Context, parameter: click.Parameter, value: object
) -> None:
    """Store an option, whether it comes before the name of the command or after it."""
    common = ctx.ensure_object(CommonOptions)
    if value and parameter.name is not None:
        setattr(common, parameter.name, value)


def _common_option(*names: str, **more: Any) -> Callable[[F], F]:
    return click.option(*names, expose_value=False, callback=_store_on_common, **more)


_COMMON: Final = {
    "base_url": _common_option("--base-url", metavar="URL", help="The service to use."),
    "config": _common_option(
        "--config", metavar="FILE", help="Settings file, instead of config.json."
    ),
    "api_key_stdin": _common_option(
        "--api-key-stdin", is_flag=True, help="Read the key from stdin."
    ),
    "quiet": _common_option(
        "-q", "--quiet", is_flag=True, help="Print only errors on stderr."
    ),
    "verbose": _common_option(
        "-v", "--verbose", is_flag=True, help="Print requests on stderr."
    ),
    "no_color": _common_option("--no-color", is_flag=True, help="Print no colours."),
    "debug": _common_option(
        "--debug", is_flag=True, help="Print tracebacks of errors."
    ),
}

pass_common = click.make_pass_decorator(CommonOptions, ensure=True)


def common_options(command: F) -> F:
    """Add the options that every command has."""
    for option in reversed(_COMMON.values()):
        command = option(command)
    return command


def local_options(*more: str) -> Callable[[F], F]:
    """Add those of these options that a command uses which asks no service.

    Args:
        more: Names of options beside ``--quiet`` and ``--debug``.
    """

    def add(command: F) -> F:
        for name, option in reversed(_COMMON.items()):
            if name in ("quiet", "debug", *more):
                command = option(command)
        return command

    return add


def json_option(command: F) -> F:
    """Add ``--json``."""
    return click.option(
        "--json", "as_json", is_flag=True, help='Print {"data": ...} on stdout.'
    )(command)


class TextOrFile(click.ParamType):  # type: ignore[type-arg]  # not generic before 8.5
    """A text. ``@FILE`` reads it from a file, ``@-`` from stdin; ``@@`` is an @."""

    name = "text"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """Read it.

        Raises:
            click.BadParameter: The file cannot be read, or is not text in UTF-8.
        """
        text = str(value)
        if not text.startswith("@"):
            return text
        name = text[1:]
        if name.startswith("@"):
            return name
        try:
            with click.open_file(name, encoding="utf-8-sig") as file:
                return str(file.read()).strip()
        except (OSError, UnicodeDecodeError) as problem:
            reason = getattr(problem, "strerror", None) or "it is not text in UTF-8"
            self.fail(f"cannot read {name}: {reason}.", param, ctx)


def on_unknown_option(command: F) -> F:
    """Add ``--on-unknown``."""
    return click.option(
        "--on-unknown",
        type=click.Choice(["raise", "resubmit"]),
        default="raise",
        show_default=True,
        help="What to do if the response to a create is lost and no track is found;"
        " resubmit sends it again only if it certainly made no track, which a single"
        " create cannot prove.",
    )(command)


def list_options(command: F) -> F:
    """Add what a list has: which rows, and in which form."""
    for option in (
        click.option(
            "--jsonl", "as_jsonl", is_flag=True, help="Print a JSON object a line."
        ),
        click.option(
            "--status",
            metavar="WORD",
            help="Only with this status: pending, processing, ...",
        ),
        click.option("--offset", type=int, default=0, help="Rows to skip."),
        click.option("--limit", type=int, help="Rows to show, 1 to 99.  [default: 20]"),
        click.option(
            "--all", "everything", is_flag=True, help="Show all rows, page by page."
        ),
    ):
        command = option(command)
    return command


def timeout_option(
    default: float | None = 300, text: str = "The longest time to wait for its end."
) -> Callable[[F], F]:
    """Make ``--timeout``."""
    return click.option(
        "--timeout",
        type=Number(minimum=0),
        default=default,
        show_default=default is not None,
        metavar="SECONDS",
        help=text,
    )


def shared_option(command: F) -> F:
    """Add ``--shared``."""
    return click.option(
        "--shared",
        is_flag=True,
        help="Share the rate limits with your other programs on this machine that have"
        ' --shared, or rate_limiter="shared".',
    )(command)


def share_option(command: F) -> F:
    """Add ``--share``."""
    return click.option(
        "--share",
        metavar="NAME",
        help="For whom it is: with --shared, those of one priority take turns.",
    )(command)


def budget_options(command: F) -> F:
    """Add ``--budget`` and ``--journal``."""
    journal = click.option(
        "--journal",
        metavar="FILE",
        help="Record each create in FILE; --budget then counts all that it knows of the"
        " account.",
    )
    text = "The most credits that may be spent; nothing is sent above it."
    return _budget_option(text)(journal(command))


def account_budget_options(command: F) -> F:
    """Add ``--budget`` and ``--account-journal``, for what has a journal of its own."""
    journal = click.option(
        "--account-journal",
        metavar="FILE",
        help="Note the credits in FILE too, as generate --journal does; --budget then"
        " counts all that it knows of the account.",
    )
    text = "The most credits that this run may spend; nothing is sent above it."
    return _budget_option(text)(journal(command))


def _budget_option(text: str) -> Callable[[F], F]:
    return click.option("--budget", type=click.IntRange(min=1), metavar="N", help=text)


class Number(click.ParamType):  # type: ignore[type-arg]  # not generic before 8.5
    """A number; a whole one becomes an `int`, so that messages repeat it as typed.

    The library checks the ranges of the service's parameters, not this class.

    Args:
        minimum: The smallest value allowed.
        maximum: The largest value allowed.
        above: The value must be larger than this, and finite.
    """

    name = "number"

    def __init__(
        self,
        minimum: float | None = None,
        maximum: float = math.inf,
        above: float | None = None,
    ) -> None:
        self._minimum = minimum
        self._maximum = maximum
        self._above = above

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Parse it.

        Raises:
            click.BadParameter: It is not a number, or out of range.
        """
        try:
            number = float(value)
        except ValueError:
            self.fail(f"must be a number, got {value!r}.", param, ctx)
        if not self._is_allowed(number):
            self.fail(f"must be a number {self._range()}, got {value}.", param, ctx)
        return int(number) if number.is_integer() else number

    def _is_allowed(self, number: float) -> bool:
        """Whether it is in range. NaN is in none, except where there is no range."""
        if self._above is not None:
            return self._above < number < math.inf
        return self._minimum is None or self._minimum <= number <= self._maximum

    def _range(self) -> str:
        if self._above is not None:
            return f"above {self._above:g}"
        if self._maximum == math.inf:
            return f"of at least {self._minimum:g}"
        return f"from {self._minimum:g} to {self._maximum:g}"
