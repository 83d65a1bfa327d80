"""``finetuning auth``: store the API key, remove it, show its account."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from finetuning_async.cli import _key_store
from finetuning_async.cli._config import URL_VARIABLE, base_url
from finetuning_async.cli._connect import call_service
from finetuning_async.cli._error_exit import CommandError
from finetuning_async.cli._keys import (
    CREATE_KEY_HINT,
    KEY_VARIABLE,
    ResolvedKey,
    check_key,
    read_key,
)
from finetuning_async.cli._options import (
    CommonOptions,
    common_options,
    json_option,
    local_options,
    pass_common,
)
from finetuning_async.cli._output import is_terminal, say, shown
from finetuning_async.cli.commands.me import show

if TYPE_CHECKING:
    from finetuning_async import Account
    from finetuning_async._secrets import ApiKey


@click.group()
def command() -> None:
    """Store or remove the API key, or show its account."""


@command.command()
@click.option("--stdin", is_flag=True, help="Read the key from stdin without a prompt.")
@local_options("base_url", "config", "verbose", "no_color")
@pass_common
def login(common: CommonOptions, stdin: bool) -> None:
    """Ask for the API key, check it with the service, and store it.

    It is stored in the keyring of the system if the extra `keyring` is installed, else
    in a file that only you can read.
    """
    if is_terminal(sys.stdin) and not common.quiet and not stdin:
        say(CREATE_KEY_HINT)
    service = base_url(common)
    key = read_key()
    check_key(ResolvedKey(key, "stdin"), service.url)
    account = _verify(common, key)
    stored = _key_store.save(common, key)
    if common.quiet:
        return
    whose = shown(account.email or account.id)
    say(f"Logged in as {whose}. Key stored in: {stored}")
    if service.origin == "--base-url":
        say(f"note: {service.url} is used only with --base-url or {URL_VARIABLE}")
    if os.environ.get(KEY_VARIABLE):
        say(f"note: {KEY_VARIABLE} is set and takes precedence over the stored key")


def _verify(common: CommonOptions, key: ApiKey) -> Account:
    """The account of a key.

    Raises:
        click.ClickException: The service rejects the key, or cannot be reached.
    """
    from finetuning_async import FinetuningError
    from finetuning_async.cli._messages import describe_error

    try:
        return call_service(common, lambda client: client.me(), key=key)
    except (FinetuningError, OSError) as error:
        code, message = describe_error(error)
        raise CommandError(f"{message}\nThe key was not stored.", code) from None


@command.command()
@local_options()
@pass_common
def logout(common: CommonOptions) -> None:
    """Remove the stored key. It stays valid: revoke keys on finetuning.ai."""
    places = _key_store.clear(common)
    if not common.quiet:
        say(f"Removed: {', '.join(places)}" if places else "No key was stored.")
    if os.environ.get(KEY_VARIABLE) and not common.quiet:
        say(f"note: {KEY_VARIABLE} is set and is still used")


@command.command()
@json_option
@common_options
@pass_common
def whoami(common: CommonOptions, as_json: bool) -> None:
    """Show the account of the key, and its credits. Costs nothing."""
    show(common, as_json=as_json)
