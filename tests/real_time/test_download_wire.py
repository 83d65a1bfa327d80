"""Downloads over real sockets, from a media host that sends prepared bytes."""

from __future__ import annotations

import importlib
import tracemalloc
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest
from anyio.abc import SocketAttribute
from anyio.lowlevel import checkpoint

from finetuning_async import APIConnectionError, APIResponseError, AsyncClient

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from anyio.abc import SocketStream

pytestmark = pytest.mark.sampled(2)

KEY = "ft_live_" + "0" * 32
OLD, NEW = b"old!" * 50_000, b"new!" * 50_000
SIZE, CUT = len(OLD), 120_000


class Host:
    """Sends the next of its responses to each request, and closes the connection.

    Attributes:
        asked: The heads of the requests, in lower case.
    """

    def __init__(self, *responses: bytes) -> None:
        self.asked: list[str] = []
        self._responses = list(responses)

    async def __call__(self, stream: SocketStream) -> None:
        async with stream:
            head = b""
            while b"\r\n\r\n" not in head:
                head += await stream.receive()
            self.asked.append(head.decode().lower())
            await stream.send(self._responses.pop(0))

    @asynccontextmanager
    async def client(self, way: str) -> AsyncGenerator[tuple[AsyncClient, str]]:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        url = f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}"  # noqa: S610 - anyio's `extra`, not Django's
        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, self)
            async with AsyncExitStack() as stack:
                http = None
                if way != "ours":
                    module = importlib.import_module(way)
                    http = await stack.enter_async_context(
                        module.AsyncClient(trust_env=False)
                    )
                client = AsyncClient(KEY, base_url=url, http_client=http)
                yield await stack.enter_async_context(client), f"{url}/a.mp3"
            group.cancel_scope.cancel()

    def header(self, name: str) -> list[str | None]:
        """The value of a header in each request."""
        lines = [dict(self._lines(head)) for head in self.asked]
        return [found.get(name) for found in lines]

    @staticmethod
    def _lines(head: str) -> list[tuple[str, str]]:
        pairs = (line.partition(": ") for line in head.split("\r\n")[1:])
        return [(name, value) for name, _, value in pairs]


WAYS = pytest.mark.parametrize("way", ["ours", "httpx", "httpx2"])


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def response(status: str, body: bytes = b"", **headers: str) -> bytes:
    headers = {"Content_Length": str(len(body)), **headers}
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""])
    return head.encode() + body


@pytest.mark.sampled(2)
@WAYS
@pytest.mark.parametrize("tag", ['"1"', '"2"'])
async def test_a_part_is_appended_only_to_its_own_version(
    tag: str, way: str, tmp_path: Path
) -> None:
    said = {"Content_Range": f"bytes {CUT}-{SIZE - 1}/{SIZE}", "ETag": tag}
    now = OLD if tag == '"1"' else NEW
    host = Host(
        response("200 OK", OLD, ETag='"1"')[: CUT - SIZE],
        response("206 Partial Content", now[CUT:], **said),
        response("200 OK", now, ETag=tag),
    )
    async with host.client(way) as (client, url):
        path = await client.download(url, tmp_path / "a.mp3")
    assert path.read_bytes() == now
    assert host.header("range") == [None, f"bytes={CUT}-", None][: len(host.asked)]
    assert host.header("if-range")[1] == '"1"'
    assert len(host.asked) == (2 if tag == '"1"' else 3)


@pytest.mark.sampled(2)
@WAYS
async def test_a_file_whose_last_chunk_is_lost_is_completed(
    way: str, tmp_path: Path
) -> None:
    chunk = b"%x\r\n%b\r\n" % (SIZE, OLD)
    head = b'HTTP/1.1 200 OK\r\nETag: "1"\r\nTransfer-Encoding: chunked\r\n\r\n'
    host = Host(
        head + chunk,
        response("416 Range Not Satisfiable", Content_Range=f"bytes */{SIZE}"),
    )
    async with host.client(way) as (client, url):
        path = await client.download(url, tmp_path / "a.mp3")
    assert path.read_bytes() == OLD
    assert host.header("range") == [None, f"bytes={SIZE}-"]


@WAYS
async def test_redirects_carry_neither_cookies_nor_the_key(
    way: str, tmp_path: Path
) -> None:
    cookie = {"Set_Cookie": "id=1; path=/"}
    host = Host(
        response("302 Found", b"", Location="/b.mp3", **cookie),
        response("307 Temporary Redirect", b"", Location="c.mp3?x=1", **cookie),
        *[response("200 OK", OLD, **cookie)] * 2,
        response("200 OK", b"{}", Content_Type="application/json", **cookie),
        response("200 OK", b'{"status":"ok"}', **cookie),
    )
    async with host.client(way) as (client, url):
        for _ in range(2):
            await client.download(url, tmp_path / "a.mp3")
        with pytest.raises(
            APIResponseError, match=r"127\.0\.0\.1 sent application/json"
        ):
            await client.download(url, tmp_path / "b.mp3")
        await client.health()
    paths = [head.split()[1] for head in host.asked]
    assert paths == ["/a.mp3", "/b.mp3", "/c.mp3?x=1", "/a.mp3", "/a.mp3", "/health"]
    assert host.header("cookie") == [None] * 6
    assert KEY not in "".join(host.asked)
    assert names_in(tmp_path) == ["a.mp3"]


@WAYS
async def test_a_redirect_into_a_private_network_is_not_followed(
    way: str, tmp_path: Path
) -> None:
    async with Host(response("200 OK", OLD)).client(way) as (_, inside):
        moved = response("302 Found", Location=inside.replace("127.0.0.1", "10.0.0.1"))
        host = Host(moved)
        async with host.client(way) as (client, url):
            with pytest.raises(
                APIConnectionError, match=r"redirected to http://10\.0\.0\.1"
            ):
                await client.download(url, tmp_path / "a.mp3")
    assert len(host.asked) == 1


@pytest.mark.sampled(2)
@WAYS
async def test_audio_that_is_passed_on_goes_on_where_it_broke(way: str) -> None:
    said = {"Content_Range": f"bytes {CUT}-{SIZE - 1}/{SIZE}", "ETag": '"1"'}
    kind = {"Content_Type": "audio/mpeg"}
    cookie = {"Set_Cookie": "id=1; path=/"}
    host = Host(
        response("302 Found", b"", Location="/b.mp3", **cookie),
        response("200 OK", OLD, ETag='"1"', **kind)[: CUT - SIZE],
        response("206 Partial Content", OLD[CUT:], **said)[:-5000],
        response("302 Found", b"", Location="http://10.0.0.1/c.mp3"),
    )
    got = b""
    async with host.client(way) as (client, url), client.open_audio(url) as audio:
        assert (audio.size, audio.content_type) == (SIZE, "audio/mpeg")
        while len(got) < SIZE - 5000:
            got += await anext(audio)
        with pytest.raises(APIConnectionError, match=r"redirected to .*10\.0\.0\.1"):
            await anext(audio)
    assert got == OLD[:-5000]
    assert host.header("range")[1:3] == [None, f"bytes={CUT}-"]
    assert host.header("if-range")[2] == '"1"'
    assert host.header("cookie") == host.header("x-api-key") == [None] * 4


@pytest.mark.sampled(2)
@WAYS
async def test_audio_that_is_passed_on_takes_little_memory(way: str) -> None:
    piece, number = bytes(1 << 16), 300

    class Endless(Host):
        async def __call__(self, stream: SocketStream) -> None:
            async with stream:
                await stream.receive()
                length = str(number * len(piece))
                await stream.send(response("200 OK", Content_Length=length))
                for _ in range(number):
                    await stream.send(piece)

    async with Endless().client(way) as (client, url), client.open_audio(url) as audio:
        tracemalloc.start()
        size = 0
        async for chunk in audio:
            size += len(chunk)
            await checkpoint()  # a reader that is slower than the network
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert size == number * len(piece)
    assert peak < 2 << 20
