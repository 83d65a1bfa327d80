"""``finetuning auth``: store the key, forget it, show whose it is."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from finetuning_async.cli import _key_store
from finetuning_async.cli._config import URL_VARIABLE, base_url
from finetuning_async.cli._connect import ask
from finetuning_async.cli._error_exit import Told
from finetuning_async.cli._keys import (
    KEY_VARIABLE,
    WHERE_KEYS_ARE_MADE,
    Found,
    check_key,
    read_key,
)
from finetuning_async.cli._options import (
    Common,
    common_options,
    json_option,
    pass_common,
)
from finetuning_async.cli._output import is_terminal, say, shown
from finetuning_async.cli.commands.me import show

if TYPE_CHECKING:
    from finetuning_async import Account
    from finetuning_async._secrets import ApiKey


@click.group()
def command() -> None:
    """Store the key, forget it, show whose it is."""


@command.command()
@click.option("--stdin", is_flag=True, help="Read the key from stdin, do not prompt.")
@common_options
@pass_common
def login(common: Common, stdin: bool) -> None:
    """Ask for a key, see that the service takes it, and store it.

    With the extra `keyring` installed it goes to the keyring of the system, else to a
    file that nobody else can read.
    """
    if is_terminal(sys.stdin) and not common.quiet and not stdin:
        say(WHERE_KEYS_ARE_MADE)
    place = base_url(common)
    key = read_key()
    check_key(Found(key, "as it was given"), place.url)
    account = _verified(common, key)
    stored = _key_store.save(common, key)
    if common.quiet:
        return
    whose = shown(account.email or account.id)
    say(f"Logged in as {whose}. The key is stored: {stored}")
    if place.origin == "--base-url":
        say(f"note: it goes to {place.url} only with --base-url or {URL_VARIABLE}")
    if os.environ.get(KEY_VARIABLE):
        say(f"note: {KEY_VARIABLE} is set, and goes before the stored key")


def _verified(common: Common, key: ApiKey) -> Account:
    """Whose key it is.

    Raises:
        click.ClickException: The service does not take it, or cannot be asked.
    """
    from finetuning_async import FinetuningError
    from finetuning_async.cli._messages import explain

    try:
        return ask(common, lambda client: client.me(), key=key)
    except (FinetuningError, OSError) as error:
        code, message = explain(error)
        raise Told(f"{message}\nThe key was not stored.", code) from None


@command.command()
@common_options
@pass_common
def logout(common: Common) -> None:
    """Forget the stored key. It stays valid; keys are revoked on finetuning.ai."""
    places = _key_store.clear(common)
    if not common.quiet:
        say(f"Removed: {', '.join(places)}" if places else "No key was stored.")
    if os.environ.get(KEY_VARIABLE) and not common.quiet:
        say(f"note: {KEY_VARIABLE} is set, and is still used")


@command.command()
@json_option
@common_options
@pass_common
def whoami(common: Common, as_json: bool) -> None:
    """Show whose key it is, and the credits. Costs nothing."""
    show(common, as_json=as_json)
