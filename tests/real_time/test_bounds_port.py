"""Limits on real sockets: the time of an attempt, the size of a response, retries."""

from __future__ import annotations

import functools
import gzip
import ssl
import tracemalloc
import zlib
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest
import trustme
from anyio.abc import SocketAttribute, SocketStream
from anyio.streams.tls import TLSStream

from finetuning_async import (
    APIConnectionError,
    APIResponseError,
    APITimeoutError,
    AsyncClient,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    Answer = Callable[[SocketStream], Awaitable[None]]

KEY = "ft_live_" + "e" * 32
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
WAYS = ["own connections", "a client of the caller's"]
MIB = 2**20

pytestmark = [pytest.mark.parametrize("way", WAYS), pytest.mark.sampled(2)]


@asynccontextmanager
async def service(answer: Answer) -> AsyncGenerator[str]:
    """A port on which `answer` handles each connection."""

    async def serve(stream: SocketStream) -> None:
        async with stream:
            with suppress(anyio.BrokenResourceError, anyio.EndOfStream, ssl.SSLError):
                await answer(stream)  # unless the client has hung up

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(SocketAttribute.local_port)  # noqa: S610 - anyio's
        async with anyio.create_task_group() as group:
            group.start_soon(listener.serve, serve)
            yield f"http://127.0.0.1:{port}"
            group.cancel_scope.cancel()


@asynccontextmanager
async def client(way: str, url: str, **options: Any) -> AsyncGenerator[AsyncClient]:
    http = None if way == WAYS[0] else httpx.AsyncClient()
    async with AsyncClient(KEY, base_url=url, http_client=http, **options) as made:
        yield made
    if http is not None:
        await http.aclose()


async def silent(_: SocketStream) -> None:
    await anyio.sleep(60)


def saying(*pieces: bytes, pause: float = 0.0, forever: bool = False) -> Answer:
    async def answer(stream: SocketStream) -> None:
        await stream.receive()
        for piece in pieces:
            await stream.send(piece)
            await anyio.sleep(pause)
        while forever:
            await stream.send(b" ")
            await anyio.sleep(pause)

    return answer


DRIPPING = {
    "the head drips": saying(HEAD + b"X-Slow: ", pause=0.1, forever=True),
    "the body drips": saying(
        HEAD + b"Content-Length: 9999\r\n\r\n", pause=0.1, forever=True
    ),
    "nothing comes": silent,
}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("how", DRIPPING)
async def test_an_attempt_takes_no_longer_than_request_timeout(
    way: str, how: str
) -> None:
    async with service(DRIPPING[how]) as url:
        async with client(way, url, request_timeout=0.5, max_retries=0) as made:
            began = anyio.current_time()
            with pytest.raises(APITimeoutError):
                await made.me()
            assert 0.4 < anyio.current_time() - began < 1.0


async def test_tls_that_hangs_takes_no_longer_than_request_timeout(way: str) -> None:
    async with service(silent) as url:
        url = url.replace("http:", "https:")
        async with client(way, url, request_timeout=0.5, max_retries=0) as made:
            began = anyio.current_time()
            with pytest.raises(APITimeoutError) as caught:
                await made.generations.create("rain")
            assert caught.value.safe_to_retry  # no byte was sent
            assert anyio.current_time() - began < 1.0


@pytest.mark.sampled(2)
async def test_a_create_with_a_slow_response_is_looked_up_in_time(way: str) -> None:
    lists: list[float] = []
    sent = 0.0

    async def answer(stream: SocketStream) -> None:
        nonlocal sent
        if (await stream.receive()).startswith(b"POST"):
            sent = anyio.current_time()
            await stream.send(HEAD + b"Content-Length: 9999\r\n\r\n")
            await anyio.sleep(60)
        lists.append(anyio.current_time() - sent)
        body = b'{"data": {"generations": []}}'
        await stream.send(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    async with service(answer) as url:
        async with client(way, url, request_timeout=0.5) as made:
            with anyio.move_on_after(3):
                await made.generations.create("rain")
    assert lists
    assert 0.4 < lists[0] < 2.5


def compressed(size: int, layers: int = 1) -> bytes:
    content = b'{"data": "' + b"x" * size
    for _ in range(layers):
        content = gzip.compress(content)
    return content


BOMBS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "plain": ("identity", lambda: b'{"data": "' + b"x" * 17 * MIB),
    "gzip": ("gzip", lambda: compressed(72 * MIB)),
    "twice": ("gzip, gzip", lambda: compressed(72 * MIB, layers=2)),
    "deflate": ("deflate", lambda: zlib.compress(b"x" * 72 * MIB)),
}


@functools.cache
def bomb(how: str) -> tuple[str, bytes]:
    """The coding and the body; made where a test needs it, since it takes a second."""
    coding, body = BOMBS[how]
    return coding, body()


@pytest.mark.sampled(16)
@pytest.mark.parametrize("status", [200, 500, 404])
@pytest.mark.parametrize("how", BOMBS)
async def test_at_most_16_mib_of_a_response_are_decompressed(
    way: str, how: str, status: int
) -> None:
    coding, body = bomb(how)
    head = b"HTTP/1.1 %d X\r\nContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n"
    answer = saying(head % (status, coding.encode(), len(body)), body)
    async with service(answer) as url, client(way, url) as made:
        tracemalloc.start()
        try:
            with pytest.raises(
                APIResponseError, match="expected at most 16 MiB"
            ) as caught:
                await made.me()
            assert tracemalloc.get_traced_memory()[1] < 64 * MIB
        finally:
            tracemalloc.stop()
    assert caught.value.status_code == status


async def test_an_endless_response_is_cut(way: str) -> None:
    async def answer(stream: SocketStream) -> None:
        await stream.receive()
        await stream.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        while True:
            await stream.send(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")

    async with service(answer) as url, client(way, url) as made:
        with pytest.raises(APIResponseError, match="expected at most 16 MiB"):
            await made.me()


async def test_a_compressed_response_of_normal_size_is_read(way: str) -> None:
    me = b'{"data": {"id": "u_1", "email": "e@example.org", "tier": "pro"}}'
    body = gzip.compress(me)
    head = HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    async with service(saying(head % len(body), body)) as url:
        async with client(way, url) as made:
            assert (await made.me()).id == "u_1"


async def test_a_create_whose_long_response_names_its_track_is_accepted(
    way: str,
) -> None:
    body = gzip.compress(b'{"data": {"id": "gen_1", "x": "' + b"x" * 20 * MIB)
    head = HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    async with service(saying(head % len(body), body)) as url:
        async with client(way, url) as made:
            track = await made.generations.create("rain")
    assert track.id == "gen_1"


USES: dict[str, Callable[[AsyncClient], Awaitable[object]]] = {
    "read": lambda made: made.me(),
    "create": lambda made: made.generations.create("rain"),
    "wait": lambda made: made.wait_for_completion("gen_1"),
}


def tls_of(host: str, **options: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert(host, **options).configure_cert(context)
    return context


@pytest.mark.sampled(2)
@pytest.mark.parametrize("how", ["an unknown authority", "no tls at all"])
@pytest.mark.parametrize("what", USES)
async def test_a_tls_error_is_raised_at_once_with_advice(
    way: str, how: str, what: str
) -> None:
    asked = 0
    context = tls_of("127.0.0.1")

    async def answer(stream: SocketStream) -> None:
        nonlocal asked
        asked += 1
        if how == "no tls at all":
            await stream.receive()
            await stream.send(HEAD + b"\r\n")
        else:
            await TLSStream.wrap(stream, server_side=True, ssl_context=context)

    async with service(answer) as url:
        async with client(way, url.replace("http:", "https:")) as made:
            began = anyio.current_time()
            with pytest.raises(APIConnectionError) as caught:
                await USES[what](made)
            assert anyio.current_time() - began < 1
    assert asked == 1
    assert not caught.value.safe_to_retry
    advice = "current TLS version" if how == "no tls at all" else "SSL_CERT_FILE"
    assert advice in str(caught.value)


async def test_a_connection_that_breaks_during_the_handshake_is_retried(
    way: str,
) -> None:
    asked = 0

    async def answer(stream: SocketStream) -> None:
        nonlocal asked
        asked += 1
        await stream.receive()

    async with service(answer) as url:
        async with client(way, url.replace("http:", "https:"), max_retries=1) as made:
            with pytest.raises(APIConnectionError) as caught:
                await made.me()
    assert asked == 2
    assert caught.value.safe_to_retry
