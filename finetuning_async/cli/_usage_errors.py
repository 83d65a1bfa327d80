"""What was typed wrong, in one line that ends with what to type instead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from collections.abc import Iterable

ALIKE: Final = 0.75
"""How alike two names are, from 0 to 1, for one to be meant by the other.

click's 0.6 takes ``--quiet`` for ``--out``, and ``--timeout`` for ``--count``.
"""

MOST_LISTED: Final = 8
"""Commands that a message lists; of more it only says where to find them."""


def describe_usage(error: click.UsageError) -> str:
    """The message of a usage error, and what to type or to read instead."""
    context = error.ctx
    parts = [_what_happened(error)]
    if context is not None:
        parts.append(_instead(error, context))
        parts.append(_where_to_look(error, context))
    return " ".join(part for part in parts if part)


def _what_happened(error: click.UsageError) -> str:
    if isinstance(error, click.NoSuchOption):
        return f"No such option {error.option_name!r}."
    message = " ".join(error.format_message().split())
    return message if message.endswith((".", "?")) else f"{message}."


def _instead(error: click.UsageError, context: click.Context) -> str:
    """The names that there are, or what is missing."""
    command = context.command
    if isinstance(error, click.NoSuchOption):
        options = (name for param in command.params for name in param.opts)
        return suggestion(error.option_name, options)
    if isinstance(error, click.MissingParameter):
        return getattr(error.param, "help", None) or ""
    if not isinstance(error, click.BadParameter) and isinstance(command, click.Group):
        # A group's own errors are about its commands.
        found = ((n, command.get_command(context, n)) for n in _names(command, context))
        names = [name for name, inner in found if inner and not inner.hidden]
        return f"Commands: {', '.join(names)}." if names else ""
    return ""


def _names(group: click.Group, context: click.Context) -> list[str]:
    names = group.list_commands(context)
    return names if len(names) <= MOST_LISTED else []


def _where_to_look(error: click.UsageError, context: click.Context) -> str:
    value_is_wrong = isinstance(error, click.BadParameter) and not isinstance(
        error, click.MissingParameter
    )
    if value_is_wrong or isinstance(context.command, click.Group):
        return f"Try '{context.command_path} --help'."
    usage = " ".join(context.get_usage().split())
    return f"{usage} (--help says more)"


def suggestion(typed: str, names: Iterable[str], alike: float = ALIKE) -> str:
    """``Did you mean ...?``, or nothing if no name is like what was typed."""
    from difflib import get_close_matches  # only needed here

    known = list(names)
    close = [name for name in known if len(typed) > 1 and name.startswith(typed)]
    close = close or get_close_matches(typed, known, 1, alike)
    return f"Did you mean {close[0]!r}?" if close else ""
