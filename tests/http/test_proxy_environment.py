"""Proxies of the environment: read as by curl and urllib; errors name the variable."""

from __future__ import annotations

import errno
import os
from typing import Any

import httpx
import pytest

from finetuning_async import AsyncClient, ClientClosedError, InvalidRequestError
from finetuning_async._http._connection_config import read_proxy
from finetuning_async._http._proxy_environment import Environment
from finetuning_async.cli._messages import describe_error
from tests._secret_canary import KEY as BIRD, assert_clean, everything_of

KEY = "ft_live_" + "0" * 32
SECRET = BIRD[8:]  # the part that the canary test looks for
SERVICE = "https://pub.finetuning.ai/v1/me"
NAMES = ("http", "https", "all", "no")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in NAMES:
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name.upper()}_PROXY", raising=False)
    monkeypatch.delenv("REQUEST_METHOD", raising=False)
    return monkeypatch


def proxy_for(url: str) -> tuple[str, str] | None:
    return Environment().proxy_for(httpx.URL(url))


@pytest.mark.parametrize(
    "entry",
    [
        "*",
        "finetuning.ai",
        ".finetuning.ai",
        "*.finetuning.ai",
        "pub.finetuning.ai",
        "PUB.finetuning.AI.",
        "pub.finetuning.ai:443",
        "https://finetuning.ai",
        "localhost, finetuning.ai",
        "localhost finetuning.ai",
        ",, ,finetuning.ai,",
        "fd00::/8,10.0.0.0/8,finetuning.ai",
    ],
)
@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
def test_no_proxy_matches(
    entry: str, name: str, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    environment.setenv(name, entry)
    assert proxy_for(SERVICE) is None


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "tuning.ai",
        "ub.finetuning.ai",
        "x.pub.finetuning.ai",
        "finetuning.ai:80",
        "http://finetuning.ai",
        "fd00::/200",
        "0.0.0.0/0",
        "[",
        "://",
        ":",
        ".",
        "%",
        "finetuning.ai:99999999999",
    ],
)
def test_no_proxy_does_not_match(entry: str, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    environment.setenv("NO_PROXY", entry)
    assert proxy_for(SERVICE) == ("HTTPS_PROXY", "http://proxy.example:3128")


@pytest.mark.parametrize(
    ("entry", "host", "matches"),
    [
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.1.2.3/8", "10.9.9.9", True),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1:8080", "127.0.0.1:8080", True),
        ("127.0.0.1:8080", "127.0.0.1:8081", False),
        ("fd00::/8", "[fd12::1]", True),
        ("fd00::/8", "[fe80::1]", False),
        ("::1", "[::1]", True),
        ("[::1]", "[::1]", True),
        ("[::1]:9000", "[::1]:9000", True),
        ("[::1]:9000", "[::1]:9001", False),
        ("0:0:0:0:0:0:0:1", "[::1]", True),
        ("1", "127.0.0.1", False),
        ("bücher.example", "xn--bcher-kva.example", True),
        ("xn--bcher-kva.example", "bücher.example", True),
    ],
)
def test_no_proxy_matches_addresses_networks_and_ports(
    entry: str, host: str, *, matches: bool, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("ALL_PROXY", "http://proxy.example:3128")
    environment.setenv("NO_PROXY", entry)
    assert (proxy_for(f"https://{host}/v1/me") is None) == matches


@pytest.mark.parametrize(
    ("variables", "url", "named"),
    [
        ({"HTTPS_PROXY": "http://a:1"}, SERVICE, ("HTTPS_PROXY", "http://a:1")),
        ({"https_proxy": "http://a:1"}, SERVICE, ("https_proxy", "http://a:1")),
        (
            {"https_proxy": "http://a:1", "HTTPS_PROXY": "http://b:2"},
            SERVICE,
            ("https_proxy", "http://a:1"),
        ),
        (
            {"HTTPS_PROXY": "localhost:3128"},
            SERVICE,
            ("HTTPS_PROXY", "http://localhost:3128"),
        ),
        ({"HTTPS_PROXY": " http://a:1\n"}, SERVICE, ("HTTPS_PROXY", "http://a:1")),
        ({"ALL_PROXY": "http://a:1"}, SERVICE, ("ALL_PROXY", "http://a:1")),
        ({"HTTP_PROXY": "http://a:1"}, SERVICE, None),
        ({"HTTPS_PROXY": ""}, SERVICE, None),
        ({"https_proxy": "", "HTTPS_PROXY": "http://b:2"}, SERVICE, None),
        (
            {"HTTP_PROXY": "http://a:1"},
            "http://localhost:1",
            ("HTTP_PROXY", "http://a:1"),
        ),
        (
            {"HTTP_PROXY": "http://a:1", "REQUEST_METHOD": "GET"},
            "http://localhost:1",
            None,
        ),
    ],
    ids=range(11),
)
def test_the_proxy_for_a_url(
    variables: dict[str, str],
    url: str,
    named: tuple[str, str] | None,
    environment: pytest.MonkeyPatch,
) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)
    assert proxy_for(url) == named


async def first_call(**options: Any) -> None:
    async with AsyncClient(KEY, max_retries=0, **options) as client:
        await client.me(timeout=1)


LOOPBACK = "http://127.0.0.1:1"


async def test_no_proxy_without_a_proxy_is_harmless(
    environment: pytest.MonkeyPatch,
) -> None:
    environment.setenv("NO_PROXY", "localhost,fd00::/8")
    with pytest.raises(Exception, match="ConnectError"):
        await first_call(base_url=LOOPBACK)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize(
    ("value", "shown", "why"),
    [
        (f"socks4://me:{SECRET}@h:1080", "socks4://****@h:1080", "the URL of a proxy"),
        (f"socks5://me:{SECRET}@h:1080", "socks5://****@h:1080", "socksio"),
        (f"http://me:{SECRET}@h:99999", "http://****@h:99999", "port"),
        (f"http://me:{SECRET}@h:x", "http://****@h:x", "the URL of a proxy"),
        (f"me:{SECRET}@h:0", "http://****@h:0", "port"),
        ("ftp://h", "ftp://h", "the URL of a proxy"),
        ("http://", "http://", "the URL of a proxy"),
    ],
    ids=range(7),
)
async def test_an_error_names_the_variable_and_its_value_without_the_login(
    name: str, value: str, shown: str, why: str, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv(name, value)
    with pytest.raises(InvalidRequestError, match=why) as caught:
        await first_call(base_url=LOOPBACK)
    error = caught.value
    assert error.field == name
    assert str(error).startswith(f"{name} must be ")
    assert f", got '{shown}'; " in str(error)
    assert "unset it" in str(error)
    assert_clean("the error", *everything_of(error))
    assert describe_error(error) == (2, str(error))


@pytest.mark.parametrize(("port", "fits"), [(1, True), (65_535, True), (65_536, False)])
def test_a_proxy_has_any_port_there_is(port: int, fits: bool) -> None:
    proxy, problem = read_proxy(f"http://proxy.example:{port}")
    assert (proxy is not None) == fits
    assert ("a port from 1 to 65535" in problem) != fits


async def test_an_invalid_variable_that_is_not_used_is_harmless(
    environment: pytest.MonkeyPatch,
) -> None:
    environment.setenv("ALL_PROXY", "socks://127.0.0.1:1080/")
    environment.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    environment.setenv("HTTPS_PROXY", "nonsense://")
    with pytest.raises(Exception, match="ConnectError"):
        await first_call(base_url=LOOPBACK)


async def test_an_invalid_variable_is_harmless_where_no_connection_is_made_by_us(
    environment: pytest.MonkeyPatch,
) -> None:
    environment.setenv("ALL_PROXY", "nonsense://")
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json={}))
    async with httpx.AsyncClient(transport=transport, trust_env=False) as http:
        await AsyncClient(KEY, http_client=http).health()
    client = AsyncClient(KEY)
    await client.aclose()
    with pytest.raises(ClientClosedError):
        await client.health()


async def test_missing_certificates_are_reported_with_their_variable(
    environment: pytest.MonkeyPatch,
) -> None:
    environment.setenv("SSL_CERT_FILE", "/no/such/file.pem")
    with pytest.raises(InvalidRequestError) as caught:
        await first_call()
    error = caught.value
    assert error.field == "SSL_CERT_FILE"
    assert "'/no/such/file.pem'" in str(error)
    assert f"({os.strerror(errno.ENOENT)})" in str(error)
    assert describe_error(error)[1] == str(error)
