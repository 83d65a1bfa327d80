"""The commands by name. ``--help`` imports none of them, and no client."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import click

from finetuning_async._version import __version__
from finetuning_async.cli._error_exit import guarded, leaving_reader
from finetuning_async.cli._options import Common, common_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from click.shell_completion import CompletionItem

COMMANDS: Final = {
    "generate": "Make one track of music and save it.",
    "instrumental": "Make one track without vocals and save it (short: inst).",
    "sfx": "Sound effects: make, list, show, save.",
    "wait": "Wait for the end of a track.",
    "download": "Save a completed track.",
    "list": "List tracks, newest first.",
    "get": "Show one track.",
    "delete": "Delete tracks for good.",
    "playlists": "List the playlists.",
    "playlist": "One playlist, by its id or name: show, add, remove, move.",
    "me": "Show the account and its credits.",
    "auth": "Store the key, forget it, show whose it is.",
    "health": "Ask whether the service is up; needs no key.",
    "doctor": "Check settings, key, service and account.",
    "batch": "Make thousands of tracks; any crash is survived.",
    "emulator": "Serve a stand-in for the service on this machine.",
    "demo": "Serve a page to make and hear music on, until Ctrl-C.",
    "completion": "Print the script that completes commands and options.",
    "help": "Show the help of a command.",
}
"""Each has a module of its name in `commands`; a test compares these lines with it."""

SHORT: Final = {"inst": "instrumental"}

EPILOG: Final = """\b
Exit codes:
  0    done; also when a reader such as head has had enough
  1    nothing worked: the service said no, network, failed track, time over
  2    the request was wrong: usage, a value, the key's form; nothing was paid
  3    in part: of several, some worked and some did not
  130  Ctrl-C (143: SIGTERM); the emulator and the demo end with 0

\b
Environment:
  FINETUNING_API_KEY      the key, made under Profile > API on finetuning.ai
  FINETUNING_BASE_URL     another service, such as an emulator's
  FINETUNING_CONFIG_HOME  the folder of config.json and of the stored key
  FINETUNING_LOG          debug or info: what the library does, on stderr
  HTTPS_PROXY, NO_PROXY   the way to the service, as for other programs
  SSL_CERT_FILE           whose certificates count, as for other programs
  NO_COLOR                no colours

\b
The key is taken from --api-key-stdin, else FINETUNING_API_KEY, else from
where `finetuning auth login` stored it.
"""


class Program(click.Group):
    """A group that imports a command when it is called, and ends with an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the help."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        del ctx
        name = SHORT.get(cmd_name, cmd_name)
        if name not in COMMANDS:
            return None
        module: Any = import_module(f"finetuning_async.cli.commands.{name}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's; for a slip of the pen it names what may have been meant."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches  # of use here only

            close = get_close_matches(args[0], COMMANDS, 1)
            if not close:
                raise
            hint = f"{error.message} Did you mean {close[0]!r}?"
            raise click.UsageError(hint, error.ctx) from None

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """The commands in the help, without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def shell_complete(
        self, ctx: click.Context, incomplete: str
    ) -> list[CompletionItem]:
        """The commands that begin so, without importing them; and the options."""
        from click.shell_completion import CompletionItem  # of use here only

        found = [
            CompletionItem(name, help=line)
            for name, line in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return found + super(click.Group, self).shell_complete(ctx, incomplete)

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """As click's; ``--help`` is printed here."""
        with leaving_reader():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """As click's; the commands print here."""
        with leaving_reader():
            return super().invoke(ctx)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """As click's, but every exception becomes a message and an exit code."""
        common: Common = extra.pop("obj", None) or Common()

        def work() -> object:
            return super(Program, self).main(
                args,
                prog_name,
                complete_var,
                standalone_mode=False,
                windows_expand_args=windows_expand_args,
                obj=common,
                **extra,
            )

        code = guarded(common, work)
        if standalone_mode:
            sys.exit(code)
        return code


@click.group(
    cls=Program,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, message="finetuning %(version)s")
@common_options
def program() -> None:
    """Music from finetuning.ai, or from an emulator of it on this machine."""
