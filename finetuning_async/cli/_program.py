"""The commands by name. ``--help`` imports neither the commands nor a client."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import click

from finetuning_async._version import __version__
from finetuning_async.cli._error_exit import (
    broken_pipe_as_stdout_closed,
    run_to_exit_code,
)
from finetuning_async.cli._help import Context, fit_help
from finetuning_async.cli._options import CommonOptions, common_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from click.shell_completion import CompletionItem

COMMANDS: Final = {
    "generate": "Create one track of music and save it.",
    "instrumental": "Create one track without vocals and save it (short: inst).",
    "sfx": "Create, list, show and save sound effects.",
    "wait": "Wait for a track to end.",
    "download": "Save a completed track.",
    "open": "Open the audio of a completed track in the browser.",
    "list": "List tracks, newest first.",
    "get": "Show one track.",
    "delete": "Delete tracks permanently.",
    "playlists": "List your playlists.",
    "playlist": "Show or change a playlist, given by its id or name.",
    "me": "Show the account and its credits.",
    "auth": "Store or remove the API key, or show its account.",
    "health": "Check whether the service is up; needs no key.",
    "doctor": "Check settings, key, service and account.",
    "batch": "Create thousands of tracks; survives any crash.",
    "emulator": "Run an emulator of the service on this machine.",
    "listen": "Forward the end of every track to a URL, until Ctrl-C.",
    "demo": "Serve a web page to make and play music, until Ctrl-C.",
    "completion": "Print the shell completion script.",
    "guide": "Read a guide.",
    "help": "Show the help of a command.",
}
"""Each name is a module in `commands`, whose docstring begins with the same line."""

SHORT: Final = {"inst": "instrumental"}

EPILOG: Final = """\b
Exit codes:
  0    success; also if a reader such as head closes stdout
  1    nothing succeeded: service or network error, failed track, timeout
  2    invalid input: usage, a value, the form of the key; nothing was charged
  3    partial success: of several, some succeeded and some did not
  130  Ctrl-C (143: SIGTERM); emulator, listen and demo then exit with 0

\b
Environment:
  FINETUNING_API_KEY      the API key, from Profile > API on finetuning.ai
  FINETUNING_BASE_URL     the URL of another service, such as an emulator
  FINETUNING_CONFIG_HOME  the folder of config.json and of the stored key
  FINETUNING_LOG          debug or info: log what the library does, on stderr
  HTTPS_PROXY, NO_PROXY   the proxy to use, as in other programs
  SSL_CERT_FILE           the certificates to trust, as in other programs
  NO_COLOR                print no colours

\b
The key comes from --api-key-stdin, else from FINETUNING_API_KEY, else from
where `finetuning auth login` stored it.
"""


class Program(click.Group):
    """A group that imports a command when it is called, and returns an exit code."""

    context_class: type[click.Context] = Context

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
        return fit_help(command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve as click does; for a typo, suggest the closest command."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from finetuning_async.cli._usage_errors import suggestion

            hint = suggestion(args[0], COMMANDS)
            what = f"No such command {args[0]!r}. {hint}"
            raise click.UsageError(what, error.ctx) from None

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """List the commands in the help, without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def shell_complete(
        self, ctx: click.Context, incomplete: str
    ) -> list[CompletionItem]:
        """Complete commands, without importing them, and options."""
        from click.shell_completion import CompletionItem  # only needed here

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
        """As click does. ``--help`` is printed here, so a pipe may break here."""
        with broken_pipe_as_stdout_closed():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """As click does. The commands print here, so a pipe may break here."""
        with broken_pipe_as_stdout_closed():
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
        """As click does, but turn every exception into a message and an exit code."""
        common: CommonOptions = extra.pop("obj", None) or CommonOptions()

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

        code = run_to_exit_code(common, work)
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
    """Create music with finetuning.ai, or with an emulator of it on this machine."""
