"""Cancelled downloads, and hosts that fall silent, over real sockets."""

from __future__ import annotations

import asyncio
import random
import ssl
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import httpx2
import pytest
import trustme
from anyio.abc import SocketAttribute
from anyio.streams.tls import TLSListener

from finetuning_async import APITimeoutError, AsyncClient

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from anyio.abc import ByteStream

pytestmark = pytest.mark.sampled(2)

KEY = "ft_live_" + "e" * 32
SONG = random.Random(5).randbytes(200_000)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nETag: x\r\n\r\n" % len(SONG)


class Host:
    """Sends a file in two parts, each after a short delay.

    Attributes:
        url: Its base URL.
        trust: A TLS context that accepts its certificate.
        open: How many connections are open.
        silent_after: Bytes of a response after which it falls silent; `None` for never.
    """

    def __init__(self) -> None:
        self.url = ""
        self.trust = ssl.create_default_context()
        self.open = 0
        self.silent_after: int | None = None

    async def __call__(self, stream: ByteStream) -> None:
        self.open += 1
        try:
            async with stream:
                while True:
                    head = b""
                    while b"\r\n\r\n" not in head:
                        head += await stream.receive()
                    await self._answer(stream)
        except (anyio.EndOfStream, anyio.BrokenResourceError, ssl.SSLError):
            pass
        finally:
            self.open -= 1

    async def _answer(self, stream: ByteStream) -> None:
        response = HEAD + SONG
        if self.silent_after is not None:
            await stream.send(response[: self.silent_after] or b"")
            await stream.receive()  # until the client hangs up
        for part in (response[:100_000], response[100_000:]):
            await anyio.sleep(0.001)
            await stream.send(part)


@asynccontextmanager
async def hosting() -> AsyncGenerator[Host]:
    host, authority = Host(), trustme.CA()
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(theirs)
    authority.configure_trust(host.trust)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(SocketAttribute.local_port)  # noqa: S610 - of anyio
    host.url = f"https://localhost:{port}"
    behind_tls = TLSListener(listener, theirs, standard_compatible=False)
    async with behind_tls, anyio.create_task_group() as group:
        group.start_soon(behind_tls.serve, host)
        yield host
        group.cancel_scope.cancel()


@asynccontextmanager
async def client_of(
    way: str, host: Host, **options: Any
) -> AsyncGenerator[AsyncClient]:
    """Our client, with its own HTTP client or with a caller's of httpx2."""
    async with AsyncExitStack() as stack:
        if way == "ours":
            options["verify"] = host.trust
        else:
            http = httpx2.AsyncClient(verify=host.trust)
            options["http_client"] = await stack.enter_async_context(http)
        client = AsyncClient(KEY, base_url=host.url, **options)
        yield await stack.enter_async_context(client)


@pytest.mark.parametrize("way", ["ours", "httpx2"])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_500_cancelled_downloads_lose_no_connection(
    way: str, tmp_path: Path, anyio_backend: str
) -> None:
    """By `task.cancel()`, which no shield stops; every third one twice."""
    rng = random.Random(500)
    async with hosting() as host:
        async with client_of(way, host) as client:

            async def cancelled(number: int) -> None:
                path = tmp_path / f"{number}.mp3"
                task = asyncio.create_task(client.download(host.url + "/a.mp3", path))
                await asyncio.sleep(rng.expovariate(200))
                task.cancel()
                if number % 3 == 0:
                    await asyncio.sleep(0)
                    task.cancel()
                await asyncio.wait([task])

            for first in range(0, 500, 8):
                await asyncio.gather(*map(cancelled, range(first, first + 8)))
            with anyio.fail_after(1):
                for number in range(10):
                    path = await client.download(
                        f"{host.url}/a.mp3", tmp_path / f"whole-{number}.mp3"
                    )
            assert path.read_bytes() == SONG
        with anyio.fail_after(2):
            while host.open:  # noqa: ASYNC110 - there is no event for it
                await anyio.sleep(0.01)
    assert not list(tmp_path.glob(".*"))  # noqa: ASYNC240 - nothing else runs


@pytest.mark.sampled(2)
@pytest.mark.parametrize("way", ["ours", "httpx2"])
@pytest.mark.parametrize("silent_after", [0, len(HEAD) + 70_000])
@pytest.mark.parametrize("bound", ["request_timeout", "timeout"])
async def test_a_download_from_a_silent_host_ends_in_time(
    silent_after: int, bound: str, way: str, tmp_path: Path
) -> None:
    async with hosting() as host:
        host.silent_after = silent_after
        seconds = 0.3 if bound == "request_timeout" else 30.0
        options = {"request_timeout": seconds, "max_retries": 0}
        async with client_of(way, host, **options) as client:
            began = anyio.current_time()
            with pytest.raises(APITimeoutError):
                await client.download(
                    host.url + "/a.mp3",
                    tmp_path / "a.mp3",
                    timeout=0.3 if bound == "timeout" else None,
                )
            assert 0.25 < anyio.current_time() - began < 1.5
    assert not list(tmp_path.iterdir())  # noqa: ASYNC240 - nothing else runs
