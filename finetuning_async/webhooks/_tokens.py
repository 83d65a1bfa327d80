"""Tokens that any worker process can check without a store. No I/O.

The service does not sign deliveries. So the webhook URL of each create carries a token
that only a holder of the secret can make: 16 random bytes (the nonce) and their
HMAC-SHA256, both in URL-safe base64, with a dot between: 66 characters that no URL
escapes. To check it, a worker computes the HMAC of the nonce again.

The HMAC is computed over the base64 text, not over the bytes: several texts decode to
the same bytes, and only one of them must be valid.
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
"""Characters; a key of HMAC-SHA256 should have 256 bits (RFC 2104, section 3)."""

LONGEST_URL: Final = 2048
"""Characters, by the service's page "Webhooks"."""

LONGEST_QUERY: Final = 4096
"""Bytes; a longer query cannot be one of ours."""

_PURPOSE: Final = b"finetuning_async webhook token 1\0"
"""Signed before the nonce, so that with a secret that is also used elsewhere a token is
not a valid signature there."""


class Tokens:
    """Makes tokens with the first secret and accepts those made with any of them.

    Args:
        hmacs: Of `new_hmacs`.

    Raises:
        InvalidRequestError: There is none.
    """

    __slots__ = ("_hmacs",)

    def __init__(self, hmacs: Sequence[hmac.HMAC]) -> None:
        self._hmacs = hmacs
        if not hmacs:
            raise InvalidRequestError.hidden(
                "secrets",
                f"a list of secrets, each of at least {SHORTEST_SECRET} characters;"
                " to make one: python -c 'import secrets;"
                " print(secrets.token_urlsafe(32))'",
            )

    def __repr__(self) -> str:
        return f"<Tokens secrets={len(self._hmacs)}>"

    def new(self) -> str:
        """A new token."""
        nonce = _base64(random_source.token_bytes(NONCE_BYTES))
        return (nonce + b"." + _signature(self._hmacs[0], nonce)).decode()

    def is_valid(self, token: bytes) -> bool:
        """Whether a token is one of ours.

        It takes the same time for every wrong token: no secret is skipped, and the
        comparison does not stop at the first wrong byte. Else its duration would show
        how much of a guess is right.
        """
        nonce = nonce_of(token)
        found = False
        for keyed in self._hmacs:
            expected = nonce + b"." + _signature(keyed, nonce)
            found |= hmac.compare_digest(expected, token)
        return found and len(nonce) == _NONCE_LENGTH


_NONCE_LENGTH: Final = len(urlsafe_b64encode(bytes(NONCE_BYTES)).rstrip(b"="))


def new_hmacs(secrets: Iterable[str | bytes]) -> list[hmac.HMAC]:
    """HMAC objects, which keep their secrets out of every `repr` and traceback.

    It does not raise, because a traceback may show the locals of each frame, and here
    the secrets are among them.

    Args:
        secrets: At least one, each of at least 32 characters or bytes; else the list
            is empty.
    """
    listed = [] if isinstance(secrets, str | bytes) else list(secrets)
    raw = [s.encode() if isinstance(s, str) else bytes(s) for s in listed]
    enough = bool(raw) and all(len(secret) >= SHORTEST_SECRET for secret in raw)
    return [hmac.new(s, _PURPOSE, hashlib.sha256) for s in raw] if enough else []


def _signature(keyed: hmac.HMAC, nonce: bytes) -> bytes:
    signature = keyed.copy()  # `keyed` is used for every token and must not change
    signature.update(nonce)
    return _base64(signature.digest())


def _base64(raw: bytes) -> bytes:
    return urlsafe_b64encode(raw).rstrip(b"=")


def nonce_of(token: bytes) -> bytes:
    """The part of a token that identifies it; by itself it is not a secret."""
    return token.partition(b".")[0]


def add_token(url: str, token: str) -> str:
    """Add a token to the query of a URL.

    Raises:
        InvalidRequestError: The URL already has one, or would become too long.
    """
    parts = urlsplit(url)
    if token_parameters(parts.query.encode()) or parts.fragment:
        raise InvalidRequestError.hidden(
            "url", f"a URL without a parameter {PARAMETER!r} or a fragment"
        )
    query = f"{parts.query}&" if parts.query else ""
    full = urlunsplit(parts._replace(query=f"{query}{PARAMETER}={token}"))
    if len(full) > LONGEST_URL:
        most = LONGEST_URL - len(token) - len(PARAMETER) - 2
        raise InvalidRequestError.hidden("url", f"at most {most} characters long")
    return full


def extract_token(query: bytes) -> bytes:
    """The token in a raw query string.

    Raises:
        WebhookVerificationError: There is not exactly one parameter ``token``.
    """
    named = token_parameters(query) if len(query) <= LONGEST_QUERY else []
    # Two tokens are refused: frameworks and proxies differ on which of them counts.
    if len(named) != 1:
        raise WebhookVerificationError(
            f"the URL must have exactly one parameter {PARAMETER!r}, got {len(named)}"
        )
    return unquote_to_bytes(named[0].partition(b"=")[2])


def token_parameters(query: bytes) -> list[bytes]:
    """The parameters of a query named ``token``, percent-encoded or not."""
    name = PARAMETER.encode()
    parameters = query.split(b"&")
    return [p for p in parameters if unquote_to_bytes(p.partition(b"=")[0]) == name]
