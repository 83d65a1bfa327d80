"""A download appears complete under its name, or not at all."""

from __future__ import annotations

import asyncio
import errno
import gzip
import os
import random
from typing import TYPE_CHECKING, Any

import anyio.lowlevel
import httpx
import pytest

from finetuning_async import (
    APIConnectionError,
    APIResponseError,
    AsyncClient,
    InvalidRequestError,
    NotFoundError,
)
from finetuning_async._downloads import _atomic_file
from finetuning_async._downloads._atomic_file import AtomicFile, check_target
from finetuning_async._downloads._download import BATCH_SIZE as BATCH
from finetuning_async.emulator import Fault
from tests._emulated_client import emulated, short

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

KEY = "ft_live_" + "0" * 32
WHOLE = random.Random(1).randbytes(2 * BATCH + 123_456)
URL = "https://media.example/a.mp3?sig=s3cret"


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def serving(handler: object) -> AsyncClient:
    transport = httpx.MockTransport(handler)  # type: ignore[arg-type]  # a plain handler
    return AsyncClient(KEY, http_client=httpx.AsyncClient(transport=transport))


async def test_a_broken_stream_is_resumed_where_it_broke(tmp_path: Path) -> None:
    async with emulated(short(generation_time=(1, 1))) as (emulator, client):
        track = await client.generate("x", duration=60)
        whole = await client.download(track, tmp_path / "whole.mp3")
        for after in (100_000, 50_000):
            emulator.add_fault(Fault("broken_download", "/audio/*", after_bytes=after))
        path = await client.download(track, tmp_path / "broken.mp3")
        assert path.read_bytes() == whole.read_bytes()
        assert names_in(tmp_path) == ["broken.mp3", "whole.mp3"]


async def test_a_host_without_ranges_is_read_again_from_the_start(
    tmp_path: Path,
) -> None:
    ranges: list[str | None] = []

    class Breaks(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"abc"
            raise httpx.ReadError("reset")

    def host(request: httpx.Request) -> httpx.Response:
        ranges.append(request.headers.get("range"))
        headers = {"content-length": "6", "etag": '"1"'}
        if len(ranges) == 1:
            return httpx.Response(200, headers=headers, stream=Breaks())
        return httpx.Response(200, headers=headers, content=b"abcdef")

    path = await serving(host).download(URL, tmp_path / "a.mp3")
    assert path.read_bytes() == b"abcdef"
    assert ranges == [None, "bytes=3-"]


async def test_the_key_does_not_go_to_the_media_host_nor_over_redirects(
    tmp_path: Path,
) -> None:
    seen: list[httpx.Request] = []

    def host(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        if request.url.host == "media.example":
            return httpx.Response(302, headers={"location": "https://other.example/b"})
        return httpx.Response(200, content=b"mp3")

    await serving(host).download(URL, tmp_path / "a.mp3")
    assert [request.url.host for request in seen] == ["media.example", "other.example"]
    assert not any("x-api-key" in request.headers for request in seen)
    assert not any(KEY in str(request.headers.raw) for request in seen)


async def test_a_short_file_raises_and_leaves_nothing(tmp_path: Path) -> None:
    def host(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-length": "9"}, content=b"short")

    client = serving(host).with_options(max_retries=1)
    with pytest.raises(APIConnectionError, match="5 of 9 bytes"):
        await client.download(URL, tmp_path / "a.mp3")
    assert names_in(tmp_path) == []


async def test_an_empty_file_raises(tmp_path: Path) -> None:
    client = serving(lambda _: httpx.Response(200, content=b""))
    with pytest.raises(APIResponseError, match="empty"):
        await client.download(URL, tmp_path / "a.mp3")
    assert names_in(tmp_path) == []


async def test_a_missing_file_raises_not_found_without_the_url_signature(
    tmp_path: Path,
) -> None:
    client = serving(lambda _: httpx.Response(404))
    with pytest.raises(NotFoundError) as caught:
        await client.download(URL, tmp_path / "a.mp3")
    assert "s3cret" not in str(caught.value)


async def test_progress_is_reported_to_the_end(tmp_path: Path) -> None:
    reports: list[tuple[int, int | None]] = []
    async with emulated(short(generation_time=(1, 1))) as (_, client):
        track = await client.generate("x", duration=60)
        path = await client.download(
            track, tmp_path / "a.mp3", on_progress=lambda *at: reports.append(at)
        )
    size = path.stat().st_size
    assert reports[-1] == (size, size)
    assert len(reports) > 3
    assert reports == sorted(reports)


async def test_the_progress_callback_may_be_async(tmp_path: Path) -> None:
    reports: list[int] = []

    async def record(done: int, total: int | None) -> None:
        await anyio.lowlevel.checkpoint()
        reports.append(done)

    await in_chunks(BATCH).download(URL, tmp_path / "a.mp3", on_progress=record)
    assert reports == [BATCH, 2 * BATCH, len(WHOLE)]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"generation_or_url": None}, "generation_or_url"),
        ({"on_progress": "print"}, "on_progress"),
    ],
)
async def test_an_invalid_argument_is_refused_by_name(
    wrong: dict[str, Any], field: str, tmp_path: Path
) -> None:
    right: dict[str, Any] = {"generation_or_url": URL, "path": tmp_path / "a.mp3"}
    with pytest.raises(InvalidRequestError, match=field):
        await in_chunks(BATCH).download(**right | wrong)


async def test_a_track_in_progress_cannot_be_downloaded(tmp_path: Path) -> None:
    async with emulated() as (_, client):
        track = await client.generations.create("x")
        with pytest.raises(InvalidRequestError, match="completed"):
            await client.download(track, tmp_path / "a.mp3")


def test_an_unwritable_target_is_found_before_a_download(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")
    for target in (tmp_path, file / "below.mp3"):
        with pytest.raises(InvalidRequestError, match="can be written"):
            check_target(target)
    check_target(tmp_path / "new" / "a.mp3")
    assert names_in(tmp_path) == ["file", "new"]
    assert names_in(tmp_path / "new") == []


async def test_an_older_file_is_replaced_only_by_a_complete_one(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(b"old")
    with pytest.raises(NotFoundError):
        await serving(lambda _: httpx.Response(404)).download(URL, path)
    assert path.read_bytes() == b"old"
    await serving(lambda _: httpx.Response(200, content=b"new")).download(URL, path)
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("url", ["http://media.example/a", "file:///etc/passwd", ""])
async def test_only_https_files_are_downloaded(url: str, tmp_path: Path) -> None:
    client = serving(lambda _: httpx.Response(200, content=b"x"))
    with pytest.raises(InvalidRequestError, match="https"):
        await client.download(url, tmp_path / "a.mp3")


class Chunks(httpx.AsyncByteStream):
    """A body in chunks of equal size; it breaks at `cut_at` bytes, if that is given."""

    def __init__(self, body: bytes, size: int, cut_at: int | None = None) -> None:
        self._body, self._size, self._cut_at = body, size, cut_at

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for first in range(0, len(self._body), self._size):
            if self._cut_at is not None and first >= self._cut_at:
                raise httpx.ReadError("reset")
            yield self._body[first : first + self._size]
            await anyio.lowlevel.checkpoint()


def in_chunks(size: int) -> AsyncClient:
    headers = {"content-length": str(len(WHOLE))}
    return serving(
        lambda _: httpx.Response(200, headers=headers, stream=Chunks(WHOLE, size))
    )


def partial_write(number: int, chunks: Sequence[bytes]) -> int:
    return os.write(number, b"".join(chunks)[: 1 + sum(map(len, chunks)) // 3])


@pytest.mark.parametrize("size", [1_000, 65_536, BATCH, 2 * BATCH])
@pytest.mark.parametrize("writev", [os.writev, partial_write, None])
async def test_a_file_of_many_batches_is_complete(
    size: int, writev: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_atomic_file, "_writev", writev)
    path = await in_chunks(size).download(URL, tmp_path / "a.mp3")
    assert path.read_bytes() == WHOLE


@pytest.mark.parametrize("cut_at", [1, BATCH // 2, BATCH, BATCH + 1, 2 * BATCH])
async def test_bytes_received_before_a_break_are_not_downloaded_again(
    cut_at: int, tmp_path: Path
) -> None:
    ranges: list[int] = []

    def host(request: httpx.Request) -> httpx.Response:
        begin = int(request.headers.get("range", "bytes=0-")[6:-1])
        ranges.append(begin)
        rest = WHOLE[begin:]
        extent = f"bytes {begin}-{len(WHOLE) - 1}/{len(WHOLE)}"
        stream = Chunks(rest, 50_000, cut_at if len(ranges) == 1 else None)
        headers = {"content-range": extent, "etag": '"1"'}
        return httpx.Response(206, headers=headers, stream=stream)

    path = await serving(host).download(URL, tmp_path / "a.mp3")
    assert path.read_bytes() == WHOLE
    assert ranges == [0, -(-cut_at // 50_000) * 50_000]


async def test_a_range_that_was_not_requested_is_refused(tmp_path: Path) -> None:
    headers = {"content-range": "bytes 4-8/9"}
    client = serving(lambda _: httpx.Response(206, headers=headers, content=b"short"))
    with pytest.raises(APIResponseError, match=r"from byte 4, .* byte 0"):
        await client.download(URL, tmp_path / "a.mp3")
    assert names_in(tmp_path) == []


async def test_a_file_that_restarts_and_breaks_again_has_no_gap(
    tmp_path: Path,
) -> None:
    ranges: list[str | None] = []

    def host(request: httpx.Request) -> httpx.Response:
        ranges.append(request.headers.get("range"))
        headers = {"content-length": str(len(WHOLE)), "etag": '"1"'}
        if len(ranges) < 3:
            stream = Chunks(WHOLE, 50_000, (2 * BATCH, 60_000)[len(ranges) - 1])
            return httpx.Response(200, headers=headers, stream=stream)
        headers["content-range"] = f"bytes 100000-{len(WHOLE) - 1}/{len(WHOLE)}"
        return httpx.Response(206, headers=headers, content=WHOLE[100_000:])

    path = await serving(host).download(URL, tmp_path / "a.mp3")
    assert path.read_bytes() == WHOLE
    assert ranges[0] is None
    assert ranges[2] == "bytes=100000-"


async def test_a_file_longer_than_announced_is_read_again_from_the_start(
    tmp_path: Path,
) -> None:
    bodies = [b"12345678", b"abcdef"]
    ranges: list[str | None] = []

    def host(request: httpx.Request) -> httpx.Response:
        ranges.append(request.headers.get("range"))
        headers = {"content-range": "bytes 0-5/6"}
        return httpx.Response(206, headers=headers, content=bodies.pop(0))

    path = await serving(host).download(URL, tmp_path / "a.mp3")
    assert path.read_bytes() == b"abcdef"
    assert ranges == [None, None]


async def test_a_compressed_response_is_decoded(
    tmp_path: Path,
) -> None:
    headers = {"content-encoding": "gzip"}
    body = gzip.compress(WHOLE)
    client = serving(lambda _: httpx.Response(200, headers=headers, content=body))
    path = await client.download(URL, tmp_path / "a.mp3")
    assert path.read_bytes() == WHOLE


async def test_a_full_disk_raises_its_own_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(AtomicFile, "append", full)
    with pytest.raises(OSError, match="No space left"):
        await in_chunks(65_536).download(URL, tmp_path / "a.mp3")
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("at", [1, BATCH + 100_000])
async def test_an_exception_of_the_callback_propagates_unchanged(
    at: int, tmp_path: Path
) -> None:
    def stop(done: int, total: int | None) -> None:
        if done >= at:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        await in_chunks(65_536).download(URL, tmp_path / "a.mp3", on_progress=stop)
    assert names_in(tmp_path) == []


async def test_an_error_of_ours_from_the_callback_is_not_retried(
    tmp_path: Path,
) -> None:
    calls = 0

    def fail(done: int, total: int | None) -> None:
        nonlocal calls
        calls += 1
        raise APIConnectionError("of another call", safe_to_retry=True)

    with pytest.raises(APIConnectionError, match="of another call"):
        await in_chunks(65_536).download(URL, tmp_path / "a.mp3", on_progress=fail)
    assert calls == 1
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("after", range(1, 90, 4))
def test_a_download_that_is_cancelled_at_any_step_leaves_nothing(
    after: int, tmp_path: Path
) -> None:
    async def main() -> None:
        client = in_chunks(BATCH // 8)
        call = asyncio.create_task(client.download(URL, tmp_path / "a.mp3"))
        for _ in range(after):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
        if call.cancelled():
            assert names_in(tmp_path) in ([], ["a.mp3"])
        else:
            assert call.result().read_bytes() == WHOLE

    asyncio.run(main())
