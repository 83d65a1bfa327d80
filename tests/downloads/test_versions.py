"""A part is appended only to the same version of the file; a page is not a track."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from finetuning_async import (
    APIConnectionError,
    APIResponseError,
    APIStatusError,
    AsyncClient,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    NewResponse = Callable[[], httpx.Response]

KEY = "ft_live_" + "0" * 32
URL = "https://media.example/a.mp3?sig=s3cret"
OLD, NEW = bytes(range(200)) * 50, bytes(range(199, -1, -1)) * 50
SIZE, CUT = len(OLD), 4_000
MONDAY = "Mon, 02 Mar 2026 10:00:00 GMT"
TUESDAY = "Tue, 03 Mar 2026 10:00:00 GMT"
WEDNESDAY = "Wed, 04 Mar 2026 10:00:00 GMT"


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class Body(httpx.AsyncByteStream):
    def __init__(self, content: bytes, *, breaks: bool = False) -> None:
        self._content, self._breaks = content, breaks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._content
        if self._breaks:
            raise httpx.ReadError("reset")


class Host:
    """Breaks the first response after some bytes of the old file; then sends others.

    Attributes:
        asked: The ``Range`` and ``If-Range`` of each request.
    """

    def __init__(self, first: dict[str, str], *then: NewResponse) -> None:
        self.responses = [new_response(200, first, OLD[:CUT], breaks=True), *then]
        self.asked: list[tuple[str | None, str | None]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert request.headers["accept-encoding"] == "identity"
        get = request.headers.get
        self.asked.append((get("range"), get("if-range")))
        return (self.responses.pop(0) if self.responses else whole(OLD))()

    async def download(self, folder: Path, **options: Any) -> bytes:
        http = httpx.AsyncClient(transport=httpx.MockTransport(self))
        client = AsyncClient(KEY, http_client=http, **options)
        try:
            return (await client.download(URL, folder / "a.mp3")).read_bytes()
        finally:
            assert names_in(folder) in ([], ["a.mp3"])


def new_response(
    status: int, headers: dict[str, str], content: bytes = b"", *, breaks: bool = False
) -> NewResponse:
    """A function that creates the response anew: a body can be read only once."""
    return lambda: httpx.Response(
        status, headers=headers, stream=Body(content, breaks=breaks)
    )


def whole(content: bytes, **headers: str) -> NewResponse:
    return new_response(200, headers, content)


def rest(content: bytes, *, total: str = str(SIZE), **headers: str) -> NewResponse:
    headers_sent = {"content-range": f"bytes {CUT}-{SIZE - 1}/{total}"}
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return new_response(206, headers_sent | given, content[CUT:])


LENGTH = {"content-length": str(SIZE)}
RANGE = f"bytes={CUT}-"
DATED = {"last-modified": MONDAY, "date": TUESDAY}
JUST_DATED = {"last-modified": MONDAY, "date": MONDAY.replace("00 GMT", "01 GMT")}


@pytest.mark.parametrize(
    ("first", "then", "validator"),
    [
        (LENGTH | {"etag": '"1"'}, rest(OLD, etag='"1"'), '"1"'),
        ({"etag": '"1"'}, rest(OLD, etag='"1"'), '"1"'),
        (LENGTH | {"etag": '"1"'}, rest(OLD, etag='"1"', total="*"), '"1"'),
        (LENGTH | {"etag": '"1"'} | DATED, rest(OLD, etag='"1"'), '"1"'),
        (LENGTH | DATED, rest(OLD, last_modified=MONDAY, date=WEDNESDAY), MONDAY),
        (LENGTH | JUST_DATED, rest(OLD, last_modified=MONDAY, date=TUESDAY), MONDAY),
    ],
)
async def test_a_part_is_appended_to_its_own_version(
    first: dict[str, str], then: NewResponse, validator: str, tmp_path: Path
) -> None:
    host = Host(first, then)
    assert await host.download(tmp_path) == OLD
    assert host.asked == [(None, None), (RANGE, validator)]


TAGGED = LENGTH | {"etag": '"1"'}


@pytest.mark.parametrize(
    ("first", "total"),
    [(TAGGED, "*"), ({"etag": '"1"'}, str(SIZE)), (TAGGED, str(SIZE))],
)
async def test_a_part_that_ends_too_early_is_noticed_whichever_response_names_the_size(
    first: dict[str, str], total: str, tmp_path: Path
) -> None:
    short = {"content-range": f"bytes {CUT}-{SIZE - 1}/{total}", "etag": '"1"'}
    host = Host(first, new_response(206, short, OLD[CUT : CUT + 1000]))
    assert await host.download(tmp_path) == OLD
    assert host.asked[2] == (f"bytes={CUT + 1000}-", '"1"')


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (TAGGED, rest(NEW, etag='"2"')),
        (TAGGED, rest(NEW, etag='W/"1"')),
        (TAGGED, rest(NEW)),
        (TAGGED, rest(NEW, etag='"1"', total=str(SIZE + 1))),
        (TAGGED, rest(NEW, etag='"1"', content_encoding="gzip")),
        (
            TAGGED,
            rest(NEW, etag='"1"', content_type="multipart/byteranges; boundary=a"),
        ),
        (TAGGED, new_response(206, {"etag": '"1"'}, NEW[CUT:])),
        (TAGGED, new_response(416, {"content-range": f"bytes */{SIZE}"})),
        (TAGGED, new_response(416, {})),
        (LENGTH | DATED, rest(NEW, last_modified=TUESDAY, date=WEDNESDAY)),
        (LENGTH | DATED, rest(NEW, date=WEDNESDAY)),
        (LENGTH | DATED, rest(NEW, etag='"1"', last_modified=MONDAY, date=WEDNESDAY)),
    ],
)
async def test_without_proof_of_the_version_the_file_is_read_from_the_start(
    first: dict[str, str], then: NewResponse, tmp_path: Path
) -> None:
    host = Host(first, then, whole(NEW, **{"content-length": str(SIZE)}))
    assert await host.download(tmp_path, max_retries=1) == NEW
    assert host.asked[1][0] == RANGE
    assert host.asked[2:] == [(None, None)]


@pytest.mark.parametrize(
    "first",
    [
        LENGTH,
        LENGTH | {"etag": 'W/"1"'},
        LENGTH | {"etag": 'W/"1"'} | DATED,
        LENGTH | {"last-modified": MONDAY},
        LENGTH | {"last-modified": MONDAY, "date": MONDAY},
        LENGTH | {"last-modified": "yesterday", "date": TUESDAY},
    ],
)
async def test_without_a_strong_validator_no_range_is_requested(
    first: dict[str, str], tmp_path: Path
) -> None:
    host = Host(first, whole(NEW))
    assert await host.download(tmp_path) == NEW
    assert host.asked == [(None, None)] * 2


async def test_a_whole_response_to_a_range_request_starts_again(
    tmp_path: Path,
) -> None:
    assert await Host(TAGGED, whole(NEW, etag='"2"')).download(tmp_path) == NEW


@pytest.mark.parametrize(
    ("status", "passes"),
    [(403, False), (404, False), (429, True), (430, False), (500, True), (503, True)],
)
async def test_a_host_that_refuses_the_rest_is_reported_not_read_again(
    status: int, passes: bool, tmp_path: Path
) -> None:
    host = Host(TAGGED, new_response(status, {}))
    with pytest.raises(APIStatusError) as caught:
        await host.download(tmp_path, max_retries=1)
    assert caught.value.status_code == status
    assert caught.value.safe_to_retry == passes
    assert len(host.asked) == 2


async def test_a_416_to_a_request_for_the_whole_file_is_a_refusal(
    tmp_path: Path,
) -> None:
    host = Host({})
    host.responses = [new_response(416, {})]
    with pytest.raises(APIStatusError, match="refused the file"):
        await host.download(tmp_path)


async def test_a_416_at_the_end_of_the_same_version_completes_the_file(
    tmp_path: Path,
) -> None:
    headers_sent = {"content-range": f"bytes */{CUT}", "content-type": "text/html"}
    end = new_response(416, headers_sent, b"<h1>Range Not Satisfiable</h1>")
    assert await Host({"etag": '"1"'}, end).download(tmp_path) == OLD[:CUT]


@pytest.mark.parametrize("size", [CUT, SIZE])
async def test_a_416_of_another_version_starts_again(size: int, tmp_path: Path) -> None:
    headers_sent = {"content-range": f"bytes */{size}", "etag": '"2"'}
    host = Host({"etag": '"1"'}, new_response(416, headers_sent), whole(NEW))
    assert await host.download(tmp_path) == NEW


async def test_an_error_after_the_last_byte_does_not_matter(
    tmp_path: Path,
) -> None:
    host = Host({"content-length": str(CUT)})
    assert await host.download(tmp_path) == OLD[:CUT]
    assert len(host.asked) == 1


async def test_a_compressed_stream_is_not_resumed(tmp_path: Path) -> None:
    code = gzip.compress(OLD)
    headers_sent = {"content-encoding": "gzip", "etag": '"1"'}
    host = Host({})
    host.responses = [
        new_response(200, headers_sent, code[:-20], breaks=True),
        whole(NEW),
    ]
    assert await host.download(tmp_path) == NEW
    assert host.asked == [(None, None)] * 2


@pytest.mark.parametrize("cut", [1, -20])
async def test_a_truncated_compressed_file_is_read_again(
    cut: int, tmp_path: Path
) -> None:
    code = gzip.compress(OLD)
    headers_sent = {"content-encoding": "gzip", "content-length": str(len(code))}
    host = Host({})
    host.responses = [new_response(200, headers_sent, code[:cut])]
    assert await host.download(tmp_path) == OLD
    assert len(host.asked) == 2


@pytest.mark.parametrize("announced", [True, False])
async def test_a_compressed_file_that_comes_in_pieces_is_read_once(
    announced: bool, tmp_path: Path
) -> None:
    class Pieces(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            for start in range(0, len(code), 20):
                yield code[start : start + 20]

    code = gzip.compress(OLD)
    headers_sent = {"content-encoding": "gzip"}
    if announced:
        headers_sent["content-length"] = str(len(code))
    host = Host({})
    host.responses = [
        lambda: httpx.Response(200, headers=headers_sent, stream=Pieces())
    ]
    assert await host.download(tmp_path) == OLD
    assert len(host.asked) == 1


PAGES = [
    "text/html",
    "Text/HTML; charset=utf-8",
    "application/xhtml+xml",
    "application/json",
    "application/problem+json",
    "application/xml",
    "text/xml",
]


@pytest.mark.parametrize("kind", PAGES)
@pytest.mark.parametrize("later", [False, True])
async def test_a_page_instead_of_a_track_raises(
    kind: str, later: bool, tmp_path: Path
) -> None:
    page = whole(b"<html>Log in", **{"content-type": kind})
    host = Host(TAGGED, page) if later else Host({})
    if not later:
        host.responses = [page]
    expected = rf"media\.example sent {kind.partition(';')[0].lower()}"
    with pytest.raises(APIResponseError, match=expected.replace("+", r"\+")) as no:
        await host.download(tmp_path)
    assert "s3cret" not in str(no.value)
    assert not (tmp_path / "a.mp3").exists()


async def test_the_error_of_a_page_names_the_host_that_redirected_to_it(
    tmp_path: Path,
) -> None:
    host = Host({})
    host.responses = [
        new_response(302, {"location": "https://portal.example/login"}),
        whole(b"<html>Log in", **{"content-type": "text/html"}),
    ]
    expected = r"portal\.example sent text/html .* redirect from media\.example"
    with pytest.raises(APIResponseError, match=expected):
        await host.download(tmp_path)


@pytest.mark.parametrize(
    "kind",
    ["audio/mpeg", "application/octet-stream", "binary/octet-stream", "text/plain", ""],
)
async def test_other_content_types_are_accepted(kind: str, tmp_path: Path) -> None:
    host = Host({})
    host.responses = [whole(OLD, **({"content-type": kind} if kind else {}))]
    assert await host.download(tmp_path) == OLD


async def test_a_host_that_always_changes_its_file_is_given_up(tmp_path: Path) -> None:
    host = Host({"etag": '"0"'})
    for number in range(1, 9):
        now = {"etag": f'"{number}"'}
        breaking = new_response(200, now, OLD[:CUT], breaks=True)
        host.responses += [rest(NEW, **now), breaking]
    with pytest.raises(APIConnectionError, match="reset"):
        await host.download(tmp_path, max_retries=3)
    assert len(host.asked) == 7
