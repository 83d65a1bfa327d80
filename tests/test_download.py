"""A file appears whole under its name, or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from finetuning_async import (
    APIConnectionError,
    APIResponseError,
    AsyncClient,
    InvalidRequestError,
    NotFoundError,
)
from finetuning_async._download import check_target
from finetuning_async.emulator import Emulator, Fault
from tests._world import emulated

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

KEY = "ft_live_" + "0" * 32
URL = "https://media.example/a.mp3?sig=s3cret"


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def serving(handler: object) -> AsyncClient:
    transport = httpx.MockTransport(handler)  # type: ignore[arg-type]  # a plain handler
    return AsyncClient(KEY, http_client=httpx.AsyncClient(transport=transport))


async def test_a_broken_stream_goes_on_where_it_broke(tmp_path: Path) -> None:
    async with emulated(Emulator(generation_time=(1, 1))) as (emulator, client):
        track = await client.generate("x", duration=60)
        whole = await client.download(track, tmp_path / "whole.mp3")
        for after in (100_000, 50_000):
            emulator.add_fault(Fault("broken_download", "/audio/*", after_bytes=after))
        path = await client.download(track, tmp_path / "broken.mp3")
        assert path.read_bytes() == whole.read_bytes()
        assert names_in(tmp_path) == ["broken.mp3", "whole.mp3"]


async def test_a_host_without_ranges_is_read_from_the_start_again(
    tmp_path: Path,
) -> None:
    tries: list[str | None] = []

    class Breaks(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"abc"
            raise httpx.ReadError("reset")

    def host(request: httpx.Request) -> httpx.Response:
        tries.append(request.headers.get("range"))
        headers = {"content-length": "6"}
        if len(tries) == 1:
            return httpx.Response(200, headers=headers, stream=Breaks())
        return httpx.Response(200, headers=headers, content=b"abcdef")

    path = await serving(host).download(URL, tmp_path / "a.mp3")
    assert path.read_bytes() == b"abcdef"
    assert tries == [None, "bytes=3-"]


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


async def test_a_short_file_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    def host(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-length": "9"}, content=b"short")

    client = serving(host).with_options(max_retries=1)
    with pytest.raises(APIConnectionError, match="5 of 9 bytes"):
        await client.download(URL, tmp_path / "a.mp3")
    assert names_in(tmp_path) == []


async def test_an_empty_file_is_an_error(tmp_path: Path) -> None:
    client = serving(lambda _: httpx.Response(200, content=b""))
    with pytest.raises(APIResponseError, match="empty"):
        await client.download(URL, tmp_path / "a.mp3")
    assert names_in(tmp_path) == []


async def test_a_missing_file_is_not_found_and_shows_no_signature(
    tmp_path: Path,
) -> None:
    client = serving(lambda _: httpx.Response(404))
    with pytest.raises(NotFoundError) as caught:
        await client.download(URL, tmp_path / "a.mp3")
    assert "s3cret" not in str(caught.value)


async def test_progress_is_told_to_the_end(tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    async with emulated(Emulator(generation_time=(1, 1))) as (_, client):
        track = await client.generate("x", duration=60)
        path = await client.download(
            track, tmp_path / "a.mp3", on_progress=lambda *at: told.append(at)
        )
    size = path.stat().st_size
    assert told[-1] == (size, size)
    assert len(told) > 3
    assert told == sorted(told)


async def test_a_track_under_way_cannot_be_downloaded(tmp_path: Path) -> None:
    async with emulated() as (_, client):
        track = await client.generations.create("x")
        with pytest.raises(InvalidRequestError, match="completed"):
            await client.download(track, tmp_path / "a.mp3")


def test_a_target_that_cannot_be_written_is_found_beforehand(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")
    for target in (tmp_path, file / "below.mp3"):
        with pytest.raises(InvalidRequestError, match="can be written"):
            check_target(target)
    check_target(tmp_path / "new" / "a.mp3")
    assert names_in(tmp_path) == ["file", "new"]
    assert names_in(tmp_path / "new") == []


async def test_an_older_file_is_replaced_only_by_a_whole_one(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(b"old")
    with pytest.raises(NotFoundError):
        await serving(lambda _: httpx.Response(404)).download(URL, path)
    assert path.read_bytes() == b"old"
    await serving(lambda _: httpx.Response(200, content=b"new")).download(URL, path)
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("url", ["http://media.example/a", "file:///etc/passwd", ""])
async def test_only_https_files_are_fetched(url: str, tmp_path: Path) -> None:
    client = serving(lambda _: httpx.Response(200, content=b"x"))
    with pytest.raises(InvalidRequestError, match="https"):
        await client.download(url, tmp_path / "a.mp3")
