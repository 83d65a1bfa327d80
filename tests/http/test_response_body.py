"""A body is read and decompressed up to a limit; of a longer one its first bytes."""

from __future__ import annotations

import gzip
import random
import zlib
from typing import TYPE_CHECKING

import anyio.lowlevel
import httpx
import pytest

from finetuning_async._http import _response_body
from finetuning_async._http._response_body import KEPT, Body, as_body, read_body

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

LIMIT = 20_000
LONG = random.Random(1).randbytes(LIMIT * 2)
PLAIN = b"\0" * LIMIT


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_response_body, "LONGEST_BODY", LIMIT)


class Wire:
    """A body in pieces of 1000 bytes, of which five come at a time."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.read = 0
        self.is_closed = False

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        try:
            for start in range(0, len(self._content), 1000):
                if start % 5000 == 0:
                    await anyio.lowlevel.checkpoint()
                chunk = self._content[start : start + 1000]
                self.read += len(chunk)
                yield chunk
        finally:
            self.is_closed = True


CODINGS: dict[str | None, Callable[[bytes], bytes]] = {
    None: lambda content: content,
    "identity": lambda content: content,
    "made-up": lambda content: content,
    "gzip": gzip.compress,
    "Deflate": zlib.compress,
    "gzip, deflate": lambda content: zlib.compress(gzip.compress(content)),
    "deflate , gzip": lambda content: gzip.compress(zlib.compress(content)),
}


@pytest.mark.parametrize("coding", CODINGS)
async def test_a_body_may_be_as_long_as_the_limit_and_no_longer(
    coding: str | None,
) -> None:
    fits = Wire(CODINGS[coding](PLAIN))
    assert await read_body(fits, coding) == Body(PLAIN)
    longer = Wire(CODINGS[coding](PLAIN + b"\0"))
    assert await read_body(longer, coding) == Body(PLAIN[:KEPT], is_cut=True)


async def test_what_is_beyond_the_limit_is_not_read() -> None:
    wire = Wire(LONG)
    assert await read_body(wire, None) == Body(LONG[:KEPT], is_cut=True)
    assert wire.read == LIMIT + 5000
    assert wire.is_closed


async def test_the_first_bytes_of_a_compressed_body_beyond_the_limit_are_kept() -> None:
    wire = Wire(gzip.compress(LONG))
    assert await read_body(wire, "gzip") == Body(LONG[:KEPT], is_cut=True)


async def test_what_is_beyond_the_limit_is_not_decompressed() -> None:
    letters = bytes(random.Random(1).choices(b"abcd", k=3 * LIMIT))
    damaged = gzip.compress(letters)[:-8] + b"\0" * 8
    assert len(damaged) < LIMIT
    assert await read_body(Wire(damaged), "gzip") == Body(letters[:KEPT], is_cut=True)


async def test_a_body_that_is_not_in_its_coding_is_an_error() -> None:
    with pytest.raises(httpx.DecodingError):
        await read_body(Wire(b"{}"), "gzip")


def test_a_body_that_was_read_already_has_the_same_limit() -> None:
    assert as_body(PLAIN) == Body(PLAIN)
    assert as_body(PLAIN + b"\0") == Body(PLAIN[:KEPT], is_cut=True)
