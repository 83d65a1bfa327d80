"""A download leaves its connection reusable or closed, even if it is cancelled."""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio.lowlevel
import httpcore
import pytest

from finetuning_async import APIConnectionError, AsyncClient, AudioStream
from finetuning_async._http import RetryPolicy
from finetuning_async._http._http_clients import ClientPool
from finetuning_async._http._timeouts import as_timeout
from finetuning_async._http._transport import Transport
from finetuning_async._session import OpenCalls
from tests._cancellations import STEP_CANCELLERS, StepCanceller, cancel_at_step
from tests._in_memory_network import Net

if TYPE_CHECKING:
    from pathlib import Path

KEY = "ft_live_" + "d" * 32
URL = "https://media.example/a.mp3?sig=1"
SONG = b"HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n" + bytes(40)
MOVED = (
    b"HTTP/1.1 302 Found\r\nLocation: https://other.example/b.mp3\r\n"
    b"Content-Length: 0\r\n\r\n"
)


@pytest.fixture
def net(monkeypatch: pytest.MonkeyPatch) -> Net:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    made = Net(response=SONG)
    monkeypatch.setattr("httpcore._async.connection_pool.AutoBackend", made)
    return made


async def test_files_of_one_host_share_a_connection(net: Net, tmp_path: Path) -> None:
    async with AsyncClient(KEY) as client:
        for number in range(3):
            path = await client.download(URL, tmp_path / f"{number}.mp3")
            assert path.read_bytes() == bytes(40)
        assert len(net.streams) == 1
    assert not net.open()


async def test_a_broken_stream_raises_a_connection_error(
    net: Net, tmp_path: Path
) -> None:
    net.response = SONG[:-1]
    async with AsyncClient(KEY, max_retries=0) as client:
        with pytest.raises(
            APIConnectionError, match="RemoteProtocolError: peer closed"
        ):
            await client.download(URL, tmp_path / "a.mp3")


async def test_an_unreachable_host_raises_a_connection_error(
    net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise httpcore.ConnectError("connection refused")

    monkeypatch.setattr(Net, "connect_tcp", refuse)
    async with AsyncClient(KEY, max_retries=0) as client:
        with pytest.raises(
            APIConnectionError, match="ConnectError: connection refused"
        ):
            await client.download(URL, tmp_path / "a.mp3")


async def test_calls_and_downloads_share_one_warning(
    net: Net, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with AsyncClient(KEY, verify=False) as client:
        await client.download(URL, tmp_path / "a.mp3")
        net.response = b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{"status":"ok"}'
        await client.health()
    assert caplog.text.count("verify=False") == 1


@pytest.mark.parametrize("location", ["ftp://other.example/b", "https://[", "/a.mp3"])
async def test_a_redirect_to_an_unusable_location_raises(
    net: Net, location: str
) -> None:
    net.response = MOVED.replace(b"https://other.example/b.mp3", location.encode())
    with pytest.raises(APIConnectionError, match=r"download from media\.example"):
        await _fetch(_transport())


def _transport() -> Transport:
    return Transport(
        pool=ClientPool(None),
        base_url="https://service.example",
        key=None,
        timeout=as_timeout(30.0),
    )


async def _fetch(transport: Transport, url: str = URL) -> None:
    async with transport.stream(url) as media:
        while await media.next_chunk() is not None:
            pass


def idle_connections(pool: ClientPool) -> list[Any]:
    """The connections that the next request may reuse."""
    pools = [pooled.client._transport._pool for pooled in pool._open]
    assert not any(pool._requests for pool in pools)
    return [connection for pool in pools for connection in pool.connections]


async def _pass_on(transport: Transport) -> None:
    retry = RetryPolicy(max_retries=0, max_retry_wait=0, rng=random.Random(1))
    whole: dict[str, Any] = {"start": 0, "end": None, "timeout": 10}
    async with AudioStream(transport, retry, OpenCalls(), URL, **whole) as audio:
        async for _ in audio:
            await anyio.lowlevel.checkpoint()


@pytest.mark.sampled(2)
@pytest.mark.parametrize("canceller", STEP_CANCELLERS)
@pytest.mark.parametrize("way", ["new", "used before", "moved", "passed on"])
def test_a_download_cancelled_at_any_step_loses_no_connection(
    net: Net, canceller: StepCanceller, way: str
) -> None:
    async def main(run_cancelled: Any) -> None:
        net.streams.clear()
        net.response = SONG
        transport = _transport()
        if way == "used before":
            await _fetch(transport)
        if way == "moved":
            net.response = MOVED
            net.next_responses = [SONG]
        work = _pass_on if way == "passed on" else _fetch
        await run_cancelled(partial(work, transport))
        left = idle_connections(transport.pool)
        assert all(connection.is_idle() for connection in left)
        assert len(net.open()) == len(left)
        net.response, net.next_responses = SONG, []
        await _fetch(transport)
        await transport.pool.aclose()
        assert not net.open()

    step = 1
    while cancel_at_step(canceller, step, main):
        step += 1
    assert step > 5
