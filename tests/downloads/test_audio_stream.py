"""`client.open_audio`: the bytes of a track, in order and complete, or an error."""

from __future__ import annotations

import gzip
import logging
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from finetuning_async import (
    APIConnectionError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    AsyncClient,
    AudioStream,
    ClientClosedError,
    InvalidRequestError,
    NotFoundError,
)
from finetuning_async.emulator import Fault
from tests._emulated_client import emulated, short

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

KEY = "ft_live_" + "0" * 32
WHOLE = random.Random(1).randbytes(200_000)
URL = "https://media.example/a.mp3?sig=s3cret"
TAG = {"etag": '"1"', "content-type": "audio/mpeg"}

Handler = Callable[[httpx.Request], Any]


def serving(handler: Handler, **options: Any) -> AsyncClient:
    transport = httpx.MockTransport(handler)
    http = httpx.AsyncClient(transport=transport)
    return AsyncClient(KEY, http_client=http, **options)


async def read(audio: AudioStream) -> bytes:
    async with audio as stream:
        return b"".join([chunk async for chunk in stream])


class Breaks(httpx.AsyncByteStream):
    """Sends a part, then loses the connection."""

    def __init__(self, part: bytes) -> None:
        self._part = part

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._part
        raise httpx.ReadError("reset")


class Host:
    """Serves `WHOLE`, in parts if asked; some of its responses break after a while."""

    def __init__(self, *breaks: int, ranges: bool = True) -> None:
        self.ranges: list[str | None] = []
        self.headers: dict[str, str] = dict(TAG)
        self._breaks = list(breaks)
        self._has_ranges = ranges

    def __call__(self, request: httpx.Request) -> httpx.Response:
        asked = request.headers.get("range")
        self.ranges.append(asked)
        begin, end, status, headers = 0, len(WHOLE), 200, dict(self.headers)
        if asked is not None and self._has_ranges:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            begin, end, status = int(first), int(last or len(WHOLE) - 1) + 1, 206
            end = min(end, len(WHOLE))
            headers["content-range"] = f"bytes {begin}-{end - 1}/{len(WHOLE)}"
        body = WHOLE[begin:end]
        headers["content-length"] = str(len(body))
        if self._breaks:
            part = Breaks(body[: self._breaks.pop(0)])
            return httpx.Response(status, headers=headers, stream=part)
        return httpx.Response(status, headers=headers, content=body)


async def test_a_track_is_read_whole(tmp_path: Any) -> None:
    async with emulated(short(generation_time=(1, 1))) as (_, client):
        track = await client.generate("x", duration=30)
        path = await client.download(track, tmp_path / "a.mp3")
        async with client.open_audio(track) as audio:
            assert audio.content_type == "audio/mpeg"
            assert audio.size == audio.end == path.stat().st_size
            chunks = [chunk async for chunk in audio]
        assert b"".join(chunks) == path.read_bytes()
        assert max(map(len, chunks)) <= 1 << 16
        assert len(chunks) > 3


@pytest.mark.parametrize(
    ("headers", "known"),
    [({"content-type": "audio/wav"}, "audio/wav"), ({}, "audio/mpeg")],
)
async def test_a_host_may_name_the_type_of_the_audio(
    headers: dict[str, str], known: str
) -> None:
    host = Host()
    host.headers = {"etag": '"1"', **headers}
    async with serving(host).open_audio(URL) as audio:
        assert audio.content_type == known


@pytest.mark.parametrize("has_ranges", [True, False])
@pytest.mark.parametrize(
    ("start", "end", "asked"),
    [
        (0, None, None),
        (100, None, "bytes=100-"),
        (0, 100, "bytes=0-99"),
        (70_000, 70_001, "bytes=70000-70000"),
        (199_999, 300_000, "bytes=199999-299999"),
    ],
)
async def test_a_range_is_read_whether_or_not_the_host_knows_ranges(
    start: int, end: int | None, asked: str | None, has_ranges: bool
) -> None:
    host = Host(ranges=has_ranges)
    audio = serving(host).open_audio(URL, start=start, end=end)
    assert await read(audio) == WHOLE[start:end]
    assert host.ranges == [asked]
    assert (audio.size, audio.start) == (len(WHOLE), start)
    assert audio.end == min(end or len(WHOLE), len(WHOLE))


async def test_a_host_that_knows_no_ranges_may_send_small_pieces() -> None:
    async def pieces() -> AsyncGenerator[bytes]:
        for begin in range(0, len(WHOLE), 10_000):
            yield WHOLE[begin : begin + 10_000]

    def handler(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers=TAG, content=pieces())

    audio = serving(handler).open_audio(URL, start=25_000, end=60_000)
    assert await read(audio) == WHOLE[25_000:60_000]


@pytest.mark.parametrize("has_ranges", [True, False])
async def test_a_stream_that_breaks_goes_on_where_it_broke(has_ranges: bool) -> None:
    host = Host(70_000, 20_000 if has_ranges else 80_000, ranges=has_ranges)
    audio = serving(host).open_audio(URL, start=1000, end=150_000)
    assert await read(audio) == WHOLE[1000:150_000]
    begins = (1000, 71_000, 91_000) if has_ranges else (1000, 70_000, 80_000)
    assert host.ranges == [f"bytes={begin}-149999" for begin in begins]


async def test_the_rest_of_another_version_is_not_joined() -> None:
    host = Host(5000)
    audio = serving(host).open_audio(URL)
    got = b""
    async with audio:
        got += await anext(audio)
        host.headers["etag"] = '"2"'
        with pytest.raises(
            APIConnectionError, match=r"another version.*5000"
        ) as caught:
            await anext(audio)
    assert got == WHOLE[:5000]
    assert caught.value.safe_to_retry


async def test_without_proof_of_the_version_a_broken_stream_is_an_error() -> None:
    host = Host(5000)
    del host.headers["etag"]
    async with serving(host).open_audio(URL) as audio:
        await anext(audio)
        with pytest.raises(APIConnectionError, match="reset"):
            await anext(audio)
    assert len(host.ranges) == 1


async def test_one_that_breaks_before_its_first_byte_is_opened_again() -> None:
    host = Host(0, 0)
    del host.headers["etag"]
    assert await read(serving(host).open_audio(URL)) == WHOLE
    assert len(host.ranges) == 3


async def test_breaks_in_a_row_are_given_up_after_the_retries() -> None:
    host = Host(10, 5, 0, 0)
    async with serving(host).open_audio(URL, max_retries=1) as audio:
        assert await anext(audio) == WHOLE[:10]
        assert await anext(audio) == WHOLE[10:15]
        with pytest.raises(APIConnectionError, match="reset"):
            await anext(audio)
    assert host.ranges == [None, "bytes=10-", "bytes=15-"]


async def test_it_can_be_read_on_after_an_error() -> None:
    host = Host(10)
    async with serving(host).open_audio(URL, max_retries=0) as audio:
        got = await anext(audio)
        with pytest.raises(APIConnectionError):
            await anext(audio)
        async for chunk in audio:
            got += chunk
    assert got == WHOLE


async def test_one_that_ends_too_early_is_resumed_then_an_error() -> None:
    def host(_: httpx.Request) -> httpx.Response:
        headers = {**TAG, "content-length": "9"}
        return httpx.Response(200, headers=headers, content=b"short")

    async with serving(host).open_audio(URL, max_retries=1) as audio:
        assert await anext(audio) == b"short"
        with pytest.raises(APIConnectionError, match="5 of 9 bytes"):
            await anext(audio)


async def test_more_than_announced_is_never_handed_out() -> None:
    def host(_: httpx.Request) -> httpx.Response:
        headers = {**TAG, "content-length": "3"}
        return httpx.Response(200, headers=headers, content=b"longer")

    with pytest.raises(APIConnectionError, match="more than the 3 bytes"):
        await read(serving(host).open_audio(URL))


async def test_an_error_after_the_last_byte_does_not_matter() -> None:
    host = Host(len(WHOLE))
    assert await read(serving(host).open_audio(URL)) == WHOLE
    assert len(host.ranges) == 1


@pytest.mark.parametrize("start", [200_000, 200_001])
@pytest.mark.parametrize("known", [True, False])
async def test_a_range_behind_the_end_is_refused_with_the_size(
    start: int, known: bool
) -> None:
    def host(_: httpx.Request) -> httpx.Response:
        if known:
            return httpx.Response(416, headers={"content-range": "bytes */200000"})
        return httpx.Response(200, headers=TAG, content=WHOLE)

    with pytest.raises(InvalidRequestError, match=r"start.*200000"):
        await read(serving(host).open_audio(URL, start=start))


@pytest.mark.parametrize(
    ("file", "why"),
    [(b"x", "^start .* less than .* which is 1, got 1"), (b"", "empty")],
)
async def test_a_range_behind_the_end_of_the_shortest_files_is_refused_too(
    file: bytes, why: str
) -> None:
    headers = {**TAG, "content-length": str(len(file))}
    client = serving(lambda _: httpx.Response(200, headers=headers, content=file))
    with pytest.raises((InvalidRequestError, APIResponseError), match=why):
        await read(client.open_audio(URL, start=1))


async def test_a_range_that_the_host_refuses_without_a_size_is_refused() -> None:
    client = serving(lambda _: httpx.Response(416))
    with pytest.raises(InvalidRequestError, match="less than the size of the file,"):
        await read(client.open_audio(URL, start=7))


async def test_a_file_has_one_line_in_the_log_with_the_time_to_its_first_byte(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def host(_: httpx.Request) -> httpx.Response:
        await anyio.sleep(0.25)
        return httpx.Response(200, content=b"mp3")

    caplog.set_level(logging.DEBUG, "finetuning_async")
    await anyio.sleep(1000)
    await read(serving(host).open_audio(URL))
    lines = [line for line in caplog.messages if line.startswith("GET ")]
    assert lines == ["GET https://media.example/a.mp3?****: 200 in 250 ms"]


@pytest.mark.parametrize(
    ("status", "headers", "error"),
    [
        (404, {}, NotFoundError),
        (403, {}, APIStatusError),
        (200, {"content-type": "text/html"}, APIResponseError),
        (206, {"content-range": "bytes 5-8/9"}, APIResponseError),
        (206, {}, APIResponseError),
    ],
)
async def test_what_is_no_track_is_an_error_when_it_is_opened(
    status: int, headers: dict[str, str], error: type[Exception]
) -> None:
    client = serving(lambda _: httpx.Response(status, headers=headers, content=b"mp3!"))
    with pytest.raises(error) as caught:
        await client.open_audio(URL).__aenter__()
    assert "s3cret" not in str(caught.value)


async def test_an_empty_file_is_an_error() -> None:
    client = serving(lambda _: httpx.Response(200, content=b""))
    with pytest.raises(APIResponseError, match="empty"):
        await client.open_audio(URL).__aenter__()


async def test_a_compressed_file_is_decoded_and_a_part_of_it_refused() -> None:
    headers = {**TAG, "content-encoding": "gzip"}
    part = {**headers, "content-range": "bytes 5-9/2000"}
    packed = gzip.compress(WHOLE)
    client = serving(lambda _: httpx.Response(200, headers=headers, content=packed))
    assert await read(client.open_audio(URL)) == WHOLE

    class Raw(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield packed[5:10]

    client = serving(lambda _: httpx.Response(206, headers=part, stream=Raw()))
    with pytest.raises(APIResponseError, match="compressed"):
        await read(client.open_audio(URL, start=5))


async def test_a_redirect_leads_to_public_hosts_only() -> None:
    def host(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/b.mp3":
            return httpx.Response(200, headers=TAG, content=b"mp3")
        to = request.url.params["to"]
        return httpx.Response(302, headers={"location": to})

    client = serving(host)
    url = "https://media.example/a.mp3?to="
    assert await read(client.open_audio(f"{url}https://other.example/b.mp3")) == b"mp3"
    with pytest.raises(APIConnectionError, match="redirected"):
        await read(client.open_audio(f"{url}https://10.0.0.1/b.mp3"))
    with pytest.raises(InvalidRequestError):
        await read(client.open_audio("http://media.example/b.mp3"))


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"start": -1}, "start"),
        ({"start": 1.5}, "start"),
        ({"start": 5, "end": 5}, "end"),
        ({"end": "9"}, "end"),
        ({"timeout": -1}, "timeout"),
        ({"max_retries": -1}, "max_retries"),
    ],
)
async def test_an_invalid_argument_is_refused_by_name(
    options: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        serving(Host()).open_audio(URL, **options)
    assert caught.value.field == field


async def test_a_track_in_progress_cannot_be_opened() -> None:
    async with emulated() as (_, client):
        track = await client.generations.create("x")
        with pytest.raises(InvalidRequestError, match="a completed track"):
            client.open_audio(track)


async def test_bytes_are_had_inside_the_block_only() -> None:
    audio = serving(Host()).open_audio(URL)
    with pytest.raises(RuntimeError, match="async with"):
        await anext(audio)
    async with audio:
        await anext(audio)
    with pytest.raises(RuntimeError, match="async with"):
        await anext(audio)
    assert repr(audio) == "<AudioStream of media.example at byte 200000 of 200000>"


async def test_a_timeout_bounds_the_wait_for_bytes_not_the_reader() -> None:
    async with emulated(short(generation_time=(1, 1))) as (emulator, client):
        track = await client.generate("x", duration=30)
        async with client.open_audio(track, timeout=5) as audio:
            async for _ in audio:
                await anyio.sleep(60)
        emulator.add_fault(Fault("slow_download", "/audio/*", seconds=10))
        with pytest.raises(APITimeoutError, match="no audio came for 5 s"):
            await read(client.open_audio(track, timeout=5))


async def test_a_closed_client_ends_the_wait_for_bytes() -> None:
    async with emulated(short(generation_time=(1, 1))) as (emulator, client):
        track = await client.generate("x", duration=30)
        emulator.add_fault(Fault("slow_download", "/audio/*", seconds=100))

        async def listen() -> None:
            with pytest.raises(ClientClosedError):
                await read(client.open_audio(track))
            ended.set()

        ended = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen)
            await anyio.sleep(1)
            await client.aclose()
            with anyio.fail_after(1):
                await ended.wait()


async def test_an_open_stream_holds_back_no_download(tmp_path: Any) -> None:
    async with emulated(short(generation_time=(1, 1))) as (_, client):
        track = await client.generate("x", duration=30)
        streams = [client.open_audio(track) for _ in range(12)]
        for stream in streams:
            await stream.__aenter__()
        with anyio.fail_after(30):
            await client.download(track, tmp_path / "a.mp3")
        for stream in streams:
            await stream.__aexit__(None, None, None)


async def test_a_generator_that_is_abandoned_is_closed_in_another_task() -> None:
    """As a web framework does when a browser leaves."""

    async def body() -> AsyncGenerator[bytes]:
        async with client.open_audio(track) as audio:
            async for chunk in audio:
                yield chunk

    async with emulated(short(generation_time=(1, 1))) as (_, client):
        track = await client.generate("x", duration=30)
        bytes_of_it = body()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bytes_of_it.__anext__)
        await bytes_of_it.aclose()
        assert client.rate_limit_status() is not None
