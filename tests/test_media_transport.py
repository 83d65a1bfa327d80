"""Files come in larger pieces, over connections of which none is lost."""

from __future__ import annotations

import functools
from functools import partial
from typing import TYPE_CHECKING, Any

import httpcore
import httpx
import pytest
from finetuning_async._transport._connections import AT_MOST, Connections
from finetuning_async._transport._media_transport import AT_ONCE, MediaTransport

from finetuning_async import APIConnectionError, AsyncClient
from finetuning_async._transport import Pool, Transport, as_timeout
from tests._cancelling import STEPS, StepMeans, strike
from tests._wire_net import Net, Stream

if TYPE_CHECKING:
    from pathlib import Path

KEY = "ft_live_" + "d" * 32
URL = "https://media.example/a.mp3?sig=1"
SONG = bytes(range(256)) * 4_000
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(SONG), SONG)


@pytest.fixture
def net(monkeypatch: pytest.MonkeyPatch) -> Net:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    made = Net(answer=WHOLE)
    monkeypatch.setattr(httpcore, "AnyIOBackend", made)
    return made


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How much each read of the network asks for; it gets that at once."""
    sizes: list[int] = []

    async def read(
        stream: Stream, max_bytes: int, timeout: float | None = None
    ) -> bytes:
        sizes.append(max_bytes)
        part, stream.to_come = stream.to_come[:max_bytes], stream.to_come[max_bytes:]
        return part

    monkeypatch.setattr(Stream, "read", read)
    return sizes


async def test_a_file_comes_whole_in_large_pieces(
    net: Net, asked: list[int], tmp_path: Path
) -> None:
    told: list[int] = []
    async with AsyncClient(KEY) as client:
        path = await client.download(
            URL, tmp_path / "a.mp3", on_progress=lambda done, _: told.append(done)
        )
    assert path.read_bytes() == SONG
    assert set(asked) == {AT_ONCE}
    assert len(told) == -(-len(WHOLE) // AT_ONCE)
    assert b"GET /a.mp3?sig=1 HTTP/1.1" in net.sent()
    assert not net.open()


async def test_files_of_one_host_share_a_connection(
    net: Net, asked: list[int], tmp_path: Path
) -> None:
    async with AsyncClient(KEY) as client:
        for number in range(3):
            await client.download(URL, tmp_path / f"{number}.mp3")
        assert len(net.opened) == 1


async def test_a_stream_that_breaks_is_told_as_the_connection_s_fault(
    net: Net, asked: list[int], tmp_path: Path
) -> None:
    net.answer = WHOLE[:-1]
    async with AsyncClient(KEY, max_retries=0) as client:
        with pytest.raises(
            APIConnectionError, match="RemoteProtocolError: peer closed"
        ):
            await client.download(URL, tmp_path / "a.mp3")


async def test_a_host_that_is_not_there_is_told(
    net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise httpcore.ConnectError("nobody listens")

    monkeypatch.setattr(Net, "connect_tcp", refuse)
    async with AsyncClient(KEY, max_retries=0) as client:
        with pytest.raises(APIConnectionError, match="ConnectError: nobody listens"):
            await client.download(URL, tmp_path / "a.mp3")


async def test_one_warning_does_for_calls_and_files(
    net: Net, asked: list[int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with AsyncClient(KEY, verify=False) as client:
        await client.download(URL, tmp_path / "a.mp3")
        net.answer = b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{"status":"ok"}'
        await client.health()
    assert caplog.text.count("verify=False") == 1


def _transport() -> Transport:
    return Transport(
        pool=Pool(None),
        base_url="https://service.example",
        key=None,
        timeout=as_timeout(30.0),
    )


async def _fetch(transport: Transport, url: str = URL) -> None:
    async with transport.stream(url) as media:
        while await media.next_chunk() is not None:
            pass


def _hosts_of(transport: Transport) -> list[Connections]:
    media = transport.pool.media_client()._transport
    assert isinstance(media, MediaTransport)
    return list(media._hosts.values())


@pytest.mark.parametrize("means", STEPS)
@pytest.mark.parametrize("warm", [False, True], ids=["new", "used before"])
def test_cancelled_at_every_step_a_download_loses_no_connection(
    net: Net, means: StepMeans, *, warm: bool
) -> None:
    net.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n" + bytes(40)

    async def main(struck: Any) -> None:
        net.opened.clear()
        transport = _transport()
        if warm:
            await _fetch(transport)
        await struck(partial(_fetch, transport))
        for connections in _hosts_of(transport):
            assert connections._places.value == AT_MOST
            assert len(connections._idle) == len(net.open())
        await _fetch(transport)
        assert len(net.open()) == 1
        await transport.pool.aclose()
        assert not net.open()

    step = 1
    while strike(means, step, main):
        step += 1
    assert step > 5


async def test_hosts_that_are_not_used_any_more_are_forgotten(net: Net) -> None:
    net.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nsong"
    transport = _transport()
    for number in range(4):
        await _fetch(transport, f"https://media-{number}.example/a.mp3")
    assert len(_hosts_of(transport)) == len(net.open()) == 4
    net.hung_up = True
    await _fetch(transport)
    assert len(_hosts_of(transport)) == len(net.open()) == 1


async def test_a_file_is_fetched_where_it_has_moved_to(
    net: Net, asked: list[int]
) -> None:
    net.answer = (
        b"HTTP/1.1 302 Found\r\nLocation: https://other.example/b.mp3\r\n"
        b"Content-Length: 0\r\n\r\n"
    )
    transport = _transport()

    async def connect(*_: object, **__: object) -> Stream:
        net.opened.append(Stream(net))
        if len(net.opened) == 2:
            net.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nsong"
        return net.opened[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Net, "connect_tcp", connect)
        async with transport.stream(URL) as media:
            assert await media.next_chunk() == b"song"
            assert media.host == "other.example"
    assert b"GET /b.mp3 HTTP/1.1\r\nHost: other.example" in net.opened[1].sent


@pytest.mark.parametrize("location", ["ftp://other.example/b", "https://[", "/a.mp3"])
async def test_a_file_that_moves_to_nowhere_is_told(net: Net, location: str) -> None:
    net.answer = b"HTTP/1.1 302 Found\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % (
        location.encode()
    )
    with pytest.raises(APIConnectionError, match=r"download from media\.example"):
        await _fetch(_transport())


@pytest.mark.parametrize("why", ["given", "proxy", "watched"])
async def test_where_others_stand_in_between_httpx_fetches_files(
    why: str, net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = httpx.AsyncClient() if why == "given" else None
    pool = Pool(given)
    if why == "proxy":
        monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    if why == "watched":
        whole = httpx.AsyncHTTPTransport.handle_async_request

        @functools.wraps(whole)
        async def tracer(*args: Any) -> Any:
            return await whole(*args)

        monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", tracer)
    assert pool.media_client() is pool.client()
