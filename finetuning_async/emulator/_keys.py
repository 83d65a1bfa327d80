"""API keys that the emulator accepts: what can be one, and whose it is.

The sources differ on what follows the prefix: hexadecimal digits or any characters. The
vendor's program tests prefix and length alone (quirk Q25), and so does the emulator,
where a key is given to it. A key that no request could carry is refused there, at once,
instead of a 401 much later.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import attrs

    from finetuning_async.emulator._records import Account

API_KEY = "ft_live_facadefacadefacadefacadefacadefa"
"""The first account's key where none is given. It is no secret."""

_SHAPE = re.compile(r"ft_live_[!-~]{32}")  # visible ASCII: what a header can carry


def check_key(key: str, name: str = "api_key") -> None:
    """Refuse a key that cannot work.

    Args:
        key: The key. The message does not repeat it: it may be a real one.
        name: What the message calls it.

    Raises:
        ValueError: It is not ``ft_live_`` and 32 visible ASCII characters.
    """
    if _SHAPE.fullmatch(key) is None:
        raise ValueError(
            f"{name} must be ft_live_ and 32 more characters, 40 in all, in visible"
            f" ASCII without spaces, got {_described(key)}"
        )


def is_key(_: object, attribute: attrs.Attribute[Any], value: str) -> None:
    """`check_key` as a validator of attrs."""
    check_key(value, attribute.name)


def check_free(key: str, account: Account | None, owner: Account | None) -> None:
    """Refuse a key that would no longer work for the account that has it.

    Args:
        key: The key.
        account: The account that is to have it; ``None`` is a new one.
        owner: The account that has it, if there is one.

    Raises:
        ValueError: It cannot work, or is another account's.
    """
    check_key(key)
    if owner is not None and owner is not account:
        raise ValueError("api_key must be a new one, got the key of another account")


def _described(key: str) -> str:
    if not key.startswith("ft_live_"):
        return "one with another beginning"
    if len(key) != 40:
        return f"{len(key)} characters"
    return "one with a space or a character that is not visible ASCII"
