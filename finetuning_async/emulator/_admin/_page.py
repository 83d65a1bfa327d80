"""The page at ``/_emulator/``: one file that asks the control API every second.

It holds nothing secret, so everyone may load it; what it asks for needs access, and it
asks a person for the token where one is needed.
"""

from __future__ import annotations

import secrets
from functools import cache
from importlib.resources import files

from starlette.responses import HTMLResponse, Response


def page() -> Response:
    """The page, with a policy that lets nothing else run in it."""
    nonce = secrets.token_urlsafe(18)
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}';"
        " img-src data:; connect-src 'self'; base-uri 'none';"
        " form-action 'none'; frame-ancestors 'none'"
    )
    headers = {
        "Cache-Control": "no-store",
        "Content-Security-Policy": policy,
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Emulator": "1",
    }
    return HTMLResponse(_source().replace("NONCE", nonce), headers=headers)


@cache
def _source() -> str:
    return files(__package__).joinpath("page.html").read_text(encoding="utf-8")
