"""Tokens that any worker can check without a store. No I/O.

A token is 16 random bytes and the HMAC-SHA256 of them, both in URL-safe base64, with a
dot between: 66 characters that no URL escapes. The HMAC is over the text as it stands,
so that no second spelling of a token holds.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets as random_source
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes, urlsplit, urlunsplit

from finetuning_async._errors import InvalidRequestError, WebhookVerificationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PARAMETER: Final = "token"
NONCE_BYTES: Final = 16
SHORTEST_SECRET: Final = 32
"""Characters; what HMAC-SHA256 can use of 256 bits (RFC 2104, section 3)."""

LONGEST_URL: Final = 2048
"""Characters, by the service's "Webhooks" page."""

LONGEST_QUERY: Final = 4096
"""Bytes; what is longer is no URL of ours."""

_PURPOSE: Final = b"finetuning_async webhook token 1\0"
"""So that a secret which also serves elsewhere signs nothing that holds there."""


class Tokens:
    """Makes tokens with the first secret and knows those of all.

    Args:
        keyed: Of `keyed_by`.

    Raises:
        InvalidRequestError: There is none.
    """

    __slots__ = ("_keyed",)

    def __init__(self, keyed: Sequence[hmac.HMAC]) -> None:
        self._keyed = keyed
        if not keyed:
            raise InvalidRequestError.hidden(
                "secrets",
                f"a list of secrets, each of at least {SHORTEST_SECRET} characters;"
                " python -c 'import secrets; print(secrets.token_urlsafe(32))' makes"
                " one",
            )

    def __repr__(self) -> str:
        return f"<Tokens secrets={len(self._keyed)}>"

    def new(self) -> str:
        """A fresh token."""
        nonce = _text(random_source.token_bytes(NONCE_BYTES))
        return (nonce + b"." + _signed(self._keyed[0], nonce)).decode()

    def holds(self, token: bytes) -> bool:
        """Whether a token is one of ours; takes the same time for every wrong one."""
        nonce = nonce_of(token)
        found = False
        for keyed in self._keyed:
            expected = nonce + b"." + _signed(keyed, nonce)
            found |= hmac.compare_digest(expected, token)
        return found and len(nonce) == _NONCE_LENGTH


_NONCE_LENGTH: Final = len(urlsafe_b64encode(bytes(NONCE_BYTES)).rstrip(b"="))


def keyed_by(secrets: Iterable[str | bytes]) -> list[hmac.HMAC]:
    """HMACs that hold their secrets where no `repr` and no traceback shows them.

    Args:
        secrets: At least one, each of at least 32 characters or bytes; else there is
            nothing in the list.
    """
    listed = [] if isinstance(secrets, str | bytes) else list(secrets)
    raw = [s.encode() if isinstance(s, str) else bytes(s) for s in listed]
    enough = bool(raw) and all(len(secret) >= SHORTEST_SECRET for secret in raw)
    return [hmac.new(s, _PURPOSE, hashlib.sha256) for s in raw] if enough else []


def _signed(keyed: hmac.HMAC, nonce: bytes) -> bytes:
    signature = keyed.copy()
    signature.update(nonce)
    return _text(signature.digest())


def _text(raw: bytes) -> bytes:
    return urlsafe_b64encode(raw).rstrip(b"=")


def nonce_of(token: bytes) -> bytes:
    """The part of a token that tells it apart; alone it is no secret."""
    return token.partition(b".")[0]


def with_token(url: str, token: str) -> str:
    """Add a token to the query of a URL.

    Raises:
        InvalidRequestError: The URL has one already, or would become too long.
    """
    parts = urlsplit(url)
    if token_names(parts.query.encode()) or parts.fragment:
        raise InvalidRequestError.hidden("url", "a URL without token and fragment")
    query = f"{parts.query}&" if parts.query else ""
    full = urlunsplit(parts._replace(query=f"{query}{PARAMETER}={token}"))
    if len(full) > LONGEST_URL:
        most = LONGEST_URL - len(token) - len(PARAMETER) - 2
        raise InvalidRequestError.hidden("url", f"at most {most} characters")
    return full


def token_of(query: bytes) -> bytes:
    """The token in a raw query string.

    Raises:
        WebhookVerificationError: There is not exactly one parameter ``token``.
    """
    named = token_names(query) if len(query) <= LONGEST_QUERY else []
    if len(named) != 1:
        raise WebhookVerificationError("not exactly one parameter `token`")
    return unquote_to_bytes(named[0].partition(b"=")[2])


def token_names(query: bytes) -> list[bytes]:
    """The pieces of a query whose name is ``token``, however it is spelled."""
    name = PARAMETER.encode()
    pieces = query.split(b"&")
    return [p for p in pieces if unquote_to_bytes(p.partition(b"=")[0]) == name]
