"""Who may use the control API; pure.

A program on this machine may, and so may the page that it served. A page of another
site must not: not by its ``Origin``, and not by a name of its own that leads to this
machine (DNS rebinding), which the ``Host`` gives away. Others need the token.
"""

from __future__ import annotations

import hmac
from urllib.parse import urlsplit

import attrs

from finetuning_async.emulator._validation import is_loopback


@attrs.frozen
class Caller:
    """What a request says about where it comes from.

    Attributes:
        address: The client's address; ``None`` is a caller in this process.
        host: The ``Host`` header.
        origin: The ``Origin`` header, which browsers send.
        token: The bearer token, without ``Bearer``.
        bound_to: The host that the server listens on.
    """

    address: str | None
    host: str
    origin: str | None = None
    token: str | None = attrs.field(default=None, repr=False)
    bound_to: str | None = None


@attrs.frozen
class Refusal:
    """Why a caller is refused: the status of the response and its words."""

    status: int
    code: str
    message: str


def check(caller: Caller, admin_token: str | None) -> Refusal | None:
    """Decide about a caller; ``None`` lets it in."""
    if caller.origin is not None and not _is_own(caller):
        message = f"the Origin {caller.origin} is not this emulator"
        return Refusal(403, "FOREIGN_ORIGIN", message)
    if caller.token is not None and admin_token is not None:
        # A wrong token is an error even where none is needed: it would be elsewhere.
        if hmac.compare_digest(caller.token.encode(), admin_token.encode()):
            return None
        return Refusal(401, "INVALID_ADMIN_TOKEN", "this admin token is not accepted")
    if caller.address is None or _is_local(caller):
        return None
    if admin_token is not None:
        message = "from here the admin token is needed: Authorization: Bearer TOKEN"
        return Refusal(401, "MISSING_ADMIN_TOKEN", message)
    message = (
        f"only programs on this machine may control the emulator, by http://127.0.0.1"
        f" or localhost, got {caller.address} and Host {caller.host}; start it with"
        " --admin-token to allow others"
    )
    return Refusal(403, "NOT_LOCAL", message)


def _is_own(caller: Caller) -> bool:
    """Whether a browser's page is one that this emulator served."""
    netloc = _netloc(caller.origin or "")
    return bool(netloc) and netloc == caller.host.lower()


def _is_local(caller: Caller) -> bool:
    if caller.address is None or not is_loopback(caller.address):
        return False
    name = _hostname(caller.host)
    return is_loopback(name) or (bool(name) and name == caller.bound_to)


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()  # empty for "null", which no host is
    except ValueError:
        return ""
