"""What a failure of the HTTP library means for a retry, by its kind and its causes."""

from __future__ import annotations

import ssl
from contextlib import suppress

import httpx
import httpx2
import pytest

from finetuning_async._http._exception_map import (
    clear_tracebacks,
    permanent_failure_advice,
)
from finetuning_async._http._http_library import HTTPX, Library

CERTIFICATE = ssl.SSLCertVerificationError(1, "self-signed certificate")
NOT_TLS = ssl.SSLError(1, "WRONG_VERSION_NUMBER")
BROKEN = [
    ssl.SSLEOFError(8, "EOF occurred"),
    ssl.SSLZeroReturnError(6, "closed"),
    ssl.SSLSyscallError(5, "reset"),
]


def caused(error: Exception, cause: Exception) -> Exception:
    """An error as the library raises it: with its own in between."""
    error.__cause__ = OSError("the library's own")
    error.__cause__.__context__ = cause
    return error


@pytest.mark.parametrize("library", [HTTPX, Library(httpx2)], ids=["httpx", "httpx2"])
def test_what_tls_refuses_is_permanent_unless_the_connection_merely_broke(
    library: Library,
) -> None:
    (connect_error,) = library.connect_errors

    def advice(cause: Exception) -> str:
        error = caused(connect_error("TLS"), cause)
        return permanent_failure_advice(error, library) or "none"

    assert "pass its certificates with verify=" in advice(CERTIFICATE)
    assert "an https server with a current TLS version" in advice(NOT_TLS)
    assert [advice(cause) for cause in (*BROKEN, OSError("refused"))] == ["none"] * 4


@pytest.mark.parametrize("cause", [CERTIFICATE, NOT_TLS, *BROKEN], ids=type)
def test_on_an_open_connection_a_tls_error_is_a_broken_connection(
    cause: Exception,
) -> None:
    error = caused(httpx.ReadError("TLS"), cause)
    assert permanent_failure_advice(error, HTTPX) is None


@pytest.mark.parametrize("status", [400, 403, 407, 408, 425, 429, 500, 502])
def test_only_a_proxy_that_refuses_for_good_is_permanent(status: int) -> None:
    refusal = httpx.ProxyError(f"{status} as the proxy says")
    is_permanent = permanent_failure_advice(refusal, HTTPX) is not None
    assert is_permanent == (status in {400, 403, 407})
    # The same words of another error are no refusal.
    other = httpx.ReadError(f"{status} as the proxy says")
    assert permanent_failure_advice(other, HTTPX) is None


def test_a_url_that_cannot_be_used_is_permanent() -> None:
    for error in (httpx.UnsupportedProtocol("ftp"), httpx.InvalidURL("no host")):
        assert permanent_failure_advice(error, HTTPX) == "check the URL"


def _raised(error: OSError) -> OSError:
    with suppress(OSError):
        raise error
    return error


def test_no_exception_in_a_circle_of_causes_keeps_its_frames() -> None:
    first, second, third = (_raised(OSError(number)) for number in range(3))
    first.__cause__, first.__context__, third.__cause__ = second, third, first
    assert all(error.__traceback__ for error in (first, second, third))
    clear_tracebacks(first)
    assert not any(error.__traceback__ for error in (first, second, third))
