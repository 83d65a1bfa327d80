"""The options of ``finetuning emulator``: every setting, and what it starts with.

An option that is not given is `None`, and the seed file or the emulator decides. So the
defaults stand in the help texts.
"""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from finetuning_async.cli._options import Number

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")

WINDOWS: Final = ("fixed", "first", "log", "counter", "rounded_counter", "bucket")


class Span(click.ParamType):  # type: ignore[type-arg]  # not generic before 8.5
    """A range of seconds, ``20-120``, or one number for both ends."""

    name = "seconds"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float]:
        """Parse it.

        Raises:
            click.BadParameter: It is not one or two numbers from 0 up.
        """
        low, _, high = str(value).partition("-")
        try:
            span = float(low), float(high or low)
        except ValueError:
            span = math.inf, -math.inf
        if not 0 <= span[0] <= span[1] < math.inf:
            self.fail(f"must be like 20-120 or 20, got {value!r}.", param, ctx)
        return span


class Moment(click.ParamType):  # type: ignore[type-arg]  # not generic before 8.5
    """A time; without a zone it is UTC."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Parse it.

        Raises:
            click.BadParameter: It is not in ISO 8601.
        """
        try:
            found = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"must be like 2026-03-02T18:04:09Z, got {value!r}.", param, ctx)
        return found if found.tzinfo else found.replace(tzinfo=UTC)


def _number(name: str, text: str, least: int = 0, metavar: str = "NUMBER") -> Any:
    return click.option(
        name, type=click.IntRange(min=least), metavar=metavar, help=text
    )


def _span(name: str, text: str) -> Any:
    return click.option(name, type=Span(), metavar="LOW-HIGH", help=text)


def _switch(name: str, text: str) -> Any:
    no = f"--no-{name.removeprefix('--')}"
    return click.option(f"{name}/{no}", default=None, help=text)


def _file(name: str, text: str) -> Any:
    kind = click.Path(exists=True, dir_okay=False, path_type=Path)
    return click.option(name, type=kind, metavar="FILE", help=text)


def _choice(name: str, allowed: tuple[str, ...], text: str) -> Any:
    return click.option(name, type=click.Choice(allowed), help=text)


_SETTINGS: Final = (
    click.option(
        "--speed",
        type=Number(above=0),
        help="How much faster tracks and rate limits are.  [default: 1]",
    ),
    click.option(
        "--seed",
        type=int,
        help="Seed of its ids and random choices.  [default: a new one each time]",
    ),
    click.option(
        "--api-key",
        metavar="KEY",
        help="Key of the first account: ft_live_ and 32 more characters.",
    ),
    _number("--credits", "Credits of the account, each month.  [default: 2000]"),
    _number("--pack-credits", "Bought credits, used after these.  [default: 0]"),
    click.option(
        "--tier",
        metavar="PLAN",
        help="Plan of the account: pro, lifetime, or one without the API, such as free."
        "  [default: pro]",
    ),
    _choice(
        "--window",
        WINDOWS,
        "How requests are counted for the rate limits.  [default: fixed]",
    ),
    click.option(
        "--window-phase",
        type=Number(),
        metavar="SECONDS",
        help="Where a fixed window begins, after the start.  [default: by the seed]",
    ),
    _number("--creates-per-minute", "Limit of creates.  [default: 10]", 1),
    _number("--reads-per-minute", "Limit of all other requests.  [default: 60]", 1),
    _switch("--count-rejected", "Whether a refused request counts.  [default: no]"),
    _switch(
        "--rate-limit-headers", "Whether X-RateLimit-* are sent.  [default: they are]"
    ),
    _choice(
        "--retry-after-in",
        ("both", "header", "body", "none"),
        "Where a 429 says how long to wait.  [default: both]",
    ),
    _choice(
        "--other-creates",
        ("creates", "reads"),
        "The limit of instrumentals and sound effects.  [default: reads]",
    ),
    _number("--queue-size", "Tracks in progress at a time.  [default: 5]", 1, "TRACKS"),
    _number(
        "--queue-full-retry-after",
        "Seconds that QUEUE_FULL names.  [default: it names none]",
        metavar="SECONDS",
    ),
    _span("--generation-time", "Seconds that a track takes.  [default: 20-120]"),
    _span("--effect-time", "Seconds that a sound effect takes.  [default: 3-8]"),
    _span(
        "--pending-time",
        "Seconds that a track is pending, before these."
        "  [default: a tenth of them, 1 at most, within them]",
    ),
    click.option(
        "--failure-rate",
        type=Number(minimum=0, maximum=1),
        help="Share of tracks that fail, 0 to 1.  [default: 0]",
    ),
    _switch("--refund-failed", "Whether failed tracks are refunded.  [default: no]"),
    _number("--daily-effects", "Sound effects per day.  [default: 100]"),
    click.option(
        "--daily-limit-status",
        type=click.Choice([402, 429]),
        help="Status of the response above that.  [default: 429]",
    ),
    _switch(
        "--clamp-out-of-range",
        "Clamp numbers to their range instead of refusing them.  [default: refuse]",
    ),
    _switch("--rewrite-prompts", "Echo another prompt than was sent.  [default: no]"),
    _switch("--ignore-seeds", "Use another seed than was sent.  [default: no]"),
    _switch(
        "--loopback-webhooks",
        "Whether a webhook may point to this machine.  [default: it may]",
    ),
    click.option(
        "--webhook-hosts",
        metavar="HOSTS",
        help="Further hosts for webhooks, such as app,*.internal; http too.",
    ),
    click.option(
        "--webhook-timeout",
        type=Number(above=0),
        metavar="SECONDS",
        help="The longest that a delivery may take.  [default: 10]",
    ),
    _span("--latency", "Seconds of network delay, each way.  [default: 0]"),
    click.option(
        "--start-time",
        type=Moment(),
        metavar="TIME",
        help="Its clock at the start, such as 2026-03-31T23:59:00Z.  [default: now]",
    ),
    _file("--audio", "Serve this MP3 as every track.  [default: they are rendered]"),
    click.option(
        "--state-dir",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="FOLDER",
        help="Keep accounts, tracks, playlists, faults and credits here.",
    ),
)

_START: Final = (
    _file(
        "--seed-file",
        "JSON or YAML with accounts, tracks, playlists, faults and settings.",
    ),
    click.option(
        "--playlist",
        "playlists",
        multiple=True,
        metavar="NAME",
        help="Start with an empty playlist; may be repeated.",
    ),
    click.option(
        "--admin-token",
        metavar="TOKEN",
        envvar="FINETUNING_EMULATOR_ADMIN_TOKEN",
        show_envvar=True,
        help="Lets other machines use /_emulator/; without it only this one may.",
    ),
    click.option(
        "--json",
        "as_json",
        is_flag=True,
        help="Print only the URL and the key, as JSON, once it listens.",
    ),
    click.option(
        "--ready-file",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Write the same to this file, once it listens.",
    ),
)


def emulator_options(command: F) -> F:
    """Add the settings, and what is there at the start."""
    for option in reversed((*_SETTINGS, *_START)):
        command = option(command)
    return command


def given(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that were given, as the emulator takes them.

    Raises:
        click.ClickException: A file cannot be read.
    """
    found = {name: value for name, value in settings.items() if value is not None}
    if "audio" in found:
        found["audio"] = _read(found["audio"])
    return found


def read_seed(file: Path | None) -> dict[str, Any]:
    """What a seed file holds; nothing without one.

    Raises:
        click.ClickException: It cannot be read, is neither JSON nor YAML, or YAML needs
            a package that is not there.
    """
    if file is None:
        return {}
    raw = _read(file)
    try:
        found = json.loads(raw) if file.suffix == ".json" else _from_yaml(raw)
    except ValueError as error:
        raise click.ClickException(f"{file} cannot be read: {error}") from None
    if found is not None and not isinstance(found, dict):
        raise click.ClickException(
            f"{file} must be an object with accounts, tracks, playlists, faults or"
            f" settings, got {type(found).__name__}"
        )
    return found or {}


def with_playlists(seed: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """A seed with further, empty playlists, which a reset brings again as well."""
    if not names:
        return seed
    more = [{"name": name} for name in names]
    return {**seed, "playlists": [*(seed.get("playlists") or []), *more]}


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        message = f"{file} cannot be read: {error.strerror or error}"
        raise click.ClickException(message) from None


def _from_yaml(raw: bytes) -> Any:
    import yaml  # slow to import

    try:
        return yaml.safe_load(raw)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
