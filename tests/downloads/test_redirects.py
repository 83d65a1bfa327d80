"""Each redirect of a media host is checked like the first URL; no cookie is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import httpx2
import pytest

from finetuning_async import APIConnectionError, AsyncClient, InvalidRequestError
from tests._in_memory_network import Net

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Handler = Callable[[Any], Any]

KEY = "ft_live_" + "0" * 32
URL = "https://media.example/a.mp3?sig=s3cret"
HERE = "http://127.0.0.1:8000"

PRIVATE = [
    "http://127.0.0.1:8080/admin",
    "http://other.example/b",
    "https://127.0.0.1/",
    "https://127.0.0.1./",
    "https://127.9.9.9/",
    "https://127.1/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0.0.0.0/",
    "https://localhost/",
    "https://LOCALHOST./",
    "https://files.localhost/",
    "https://[::1]/",
    "https://[::]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:0a00:0001]/",
    "https://[2002:7f00:1::]/",
    "https://[fe80::1]/",
    "https://[fd00::1]/",
    "https://10.0.0.1/",
    "https://192.168.1.1/",
    "https://172.16.0.1/",
    "https://169.254.169.254/latest/meta-data",
    "https://100.64.0.1/",
    "https://224.0.0.1/",
    "https://me:pass@other.example/",
    "https://public.example@127.0.0.1/",
    "https://other.example:0/",
    "ftp://other.example/b",
    "file:///etc/passwd",
]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


LIBRARIES = pytest.mark.parametrize("library", [httpx, httpx2])


def following(handler: Handler, library: Any = httpx, **options: Any) -> Any:
    transport = library.MockTransport(handler)
    return library.AsyncClient(transport=transport, follow_redirects=True, **options)


def given(handler: Handler, library: Any = httpx, **options: Any) -> AsyncClient:
    return AsyncClient(KEY, http_client=following(handler, library), **options)


def leading(
    *places: str, seen: list[Any] | None = None, library: Any = httpx
) -> Handler:
    """A host that redirects from one location to the next; the last one is the file."""
    left = list(places)

    def host(request: Any) -> Any:
        if seen is not None:
            seen.append(request)
        if left:
            return library.Response(302, headers={"location": left.pop(0)})
        return library.Response(200, content=b"song")

    return host


async def test_a_redirect_to_an_invalid_url_raises(tmp_path: Path) -> None:
    seen: list[httpx.Request] = []
    client = given(leading("https://0177.0.0.1/", seen=seen), max_retries=0)
    with pytest.raises(APIConnectionError, match=r"from media\.example"):
        await client.download(URL, tmp_path / "a.mp3")
    assert len(seen) == 1


@LIBRARIES
async def test_no_redirect_leads_into_a_private_network(
    library: Any, tmp_path: Path
) -> None:
    for inside in (*PRIVATE, "//127.0.0.1/x"):
        seen: list[Any] = []
        host = leading("https://cdn.example/", inside, seen=seen, library=library)
        client = given(host, library)
        with pytest.raises(
            APIConnectionError, match=r"from media\.example was redirected to"
        ) as no:
            await client.download(URL, tmp_path / "a.mp3")
        hosts = [request.url.host for request in seen]
        assert hosts == ["media.example", "cdn.example"], inside
        assert not no.value.safe_to_retry
        assert "pass" not in str(no.value)
        assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    ("place", "shown"),
    [
        ("https://[::1]:8443/x?sig=s3cret", "https://[::1]:8443"),
        ("http://other.example/x", "http://other.example"),
    ],
)
async def test_a_refused_redirect_is_named_by_scheme_host_and_port(
    place: str, shown: str, tmp_path: Path
) -> None:
    with pytest.raises(APIConnectionError) as caught:
        await given(leading(place)).download(URL, tmp_path / "a.mp3")
    assert f"from media.example was redirected to {shown}; only" in str(caught.value)


@LIBRARIES
async def test_no_url_leads_into_a_private_network(
    library: Any, tmp_path: Path
) -> None:
    seen: list[Any] = []
    client = given(leading(seen=seen, library=library), library)
    for inside in PRIVATE:
        with pytest.raises(InvalidRequestError, match="https:// URL of a file"):
            await client.download(inside, tmp_path / "a.mp3")
        assert not seen, inside


@pytest.mark.parametrize(
    "place",
    ["https://10.0.0.1/", "https://localhost:8443/", "http://[::1]:1/", HERE],
)
async def test_with_a_local_service_files_may_be_local(
    place: str, tmp_path: Path
) -> None:
    client = given(leading(place), base_url=HERE)
    path = await client.download(f"{HERE}/a.mp3", tmp_path / "a.mp3")
    assert path.read_bytes() == b"song"


@pytest.mark.parametrize("place", ["http://10.0.0.1/", "http://other.example/"])
async def test_without_tls_only_loopback_is_allowed(place: str, tmp_path: Path) -> None:
    with pytest.raises(APIConnectionError, match="redirected to http://"):
        await given(leading(place), base_url=HERE).download(URL, tmp_path / "a.mp3")


async def test_files_may_be_on_the_host_of_the_service(tmp_path: Path) -> None:
    client = given(leading("https://10.1.1.1:8443/b"), base_url="https://10.1.1.1/api")
    await client.download("https://10.1.1.1/a", tmp_path / "a.mp3")
    with pytest.raises(InvalidRequestError):
        await client.download("https://10.1.1.2/a", tmp_path / "a.mp3")


@LIBRARIES
async def test_every_kind_of_location_is_followed(library: Any, tmp_path: Path) -> None:
    seen: list[Any] = []
    places = ("b.mp3?x=1", "/c/", "//cdn.example/d", "https://8.8.8.8/e")
    client = given(leading(*places, seen=seen, library=library), library)
    path = await client.download(URL, tmp_path / "a.mp3")
    assert path.read_bytes() == b"song"
    assert [str(request.url) for request in seen[1:]] == [
        "https://media.example/b.mp3?x=1",
        "https://media.example/c/",
        "https://cdn.example/d",
        "https://8.8.8.8/e",
    ]


async def test_endless_redirects_raise(tmp_path: Path) -> None:
    seen: list[httpx.Request] = []
    client = given(leading(*["/again"] * 1_000, seen=seen))
    with pytest.raises(APIConnectionError, match="more than 10 times"):
        await client.download(URL, tmp_path / "a.mp3")
    assert len(seen) == 11
    path = await given(leading(*["/again"] * 10)).download(URL, tmp_path / "a.mp3")
    assert path.read_bytes() == b"song"


@LIBRARIES
async def test_the_callers_login_stays_with_its_host(
    library: Any, tmp_path: Path
) -> None:
    seen: list[Any] = []
    host = leading("/b", "https://other.example/", seen=seen, library=library)
    http = following(host, library, auth=("me", "pass"))
    await AsyncClient(KEY, http_client=http).download(URL, tmp_path / "a.mp3")
    assert ["authorization" in request.headers for request in seen] == [
        True,
        True,
        False,
    ]


@LIBRARIES
async def test_only_the_callers_cookies_are_kept(library: Any, tmp_path: Path) -> None:
    seen: list[str | None] = []

    def host(request: Any) -> Any:
        seen.append(request.headers.get("cookie"))
        headers = [("set-cookie", "id=1; path=/"), ("set-cookie", "own=2; path=/")]
        if request.url.path == "/a.mp3":
            return library.Response(302, headers=[*headers, ("location", "/b")])
        body = {"status": "ok"} if "health" in request.url.path else None
        return library.Response(200, headers=headers, json=body)

    http = following(host, library)
    async with AsyncClient(
        KEY, base_url="https://media.example", http_client=http
    ) as client:
        for _ in range(2):
            with pytest.raises(Exception, match=r"application/json|empty"):
                await client.download(URL, tmp_path / "a.mp3")
            await client.health()
        assert seen == [None] * 6
        assert not list(http.cookies.jar)
        http.cookies.set("own", "mine", domain="media.example", path="/")
        await client.health()
        await client.health()
    assert seen[6:] == ["own=mine"] * 2


@pytest.fixture
def net(monkeypatch: pytest.MonkeyPatch) -> Net:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    made = Net()
    monkeypatch.setattr("httpcore._async.connection_pool.AutoBackend", made)
    return made


async def test_our_own_client_follows_no_private_redirect_and_keeps_no_cookie(
    net: Net, tmp_path: Path
) -> None:
    async with AsyncClient(KEY) as client:
        for place in ("http://127.0.0.1:8080/x", "https://[::1]/", "ftp://b.example/"):
            net.response = (
                b"HTTP/1.1 302 Found\r\nLocation: %b\r\nSet-Cookie: a=1\r\n"
                b"Content-Length: 0\r\n\r\n" % place.encode()
            )
            with pytest.raises(APIConnectionError, match="redirected to"):
                await client.download(URL, tmp_path / "a.mp3")
    assert net.sent().count(b"GET ") == 3
    assert b"GET /x" not in net.sent()
    assert b"cookie" not in net.sent().lower()
