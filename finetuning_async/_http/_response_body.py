"""Response bodies: read and decompressed up to a limit.

A body of 1.5 MB may decompress to 1.5 GB. So each content coding is undone by itself,
in steps so small that one cannot exceed the limit by much. A body that is too long is
cut: its first bytes are kept, since they may name the track that it is about.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import anyio
import httpx

from finetuning_async._api import LONGEST_BODY

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Iterator

KEPT: Final = 8192
"""How many bytes of a body that is too long are kept."""

_STEP: Final = 256
_STEPS: Final = {"br": 16}
"""Compressed bytes that are decompressed at a time. gzip expands a byte to at most a
thousand, zstd to 32 thousand; a few bytes of brotli may stand for 16 MiB."""


class Body(NamedTuple):
    """A decompressed body.

    Attributes:
        content: All of it, or its first bytes.
        is_cut: Whether it was longer than the limit.
    """

    content: bytes
    is_cut: bool = False


async def read_body(raw: AsyncIterable[bytes], coding: str | None) -> Body:
    """Read a body as it arrives, up to the limit.

    Args:
        raw: The body as it is on the wire.
        coding: The ``Content-Encoding``, if there is one.

    Raises:
        httpx.DecodingError: The body is not in that coding.
    """
    content, is_cut = await _collect(raw)
    # Codings are listed in the order in which they were applied.
    for name in reversed((coding or "").lower().split(",")):
        if name.strip() not in {"", "identity"}:
            content, is_cut = _decompress(content, name.strip(), is_cut=is_cut)
    return as_body(content, is_cut=is_cut)


def as_body(content: bytes, *, is_cut: bool = False) -> Body:
    """A body that was read already, by a hook or by a test's transport."""
    is_cut = is_cut or len(content) > LONGEST_BODY
    return Body(content[:KEPT] if is_cut else content, is_cut)


async def _collect(raw: AsyncIterable[bytes]) -> Body:
    chunks: list[bytes] = []
    size = 0
    source = aiter(raw)
    async for chunk in source:
        chunks.append(chunk)
        size += len(chunk)
        if size > LONGEST_BODY:
            await _abort(source)
            return Body(b"".join(chunks), is_cut=True)
    return Body(b"".join(chunks))


async def _abort(source: AsyncIterator[bytes]) -> None:
    """Stop reading.

    The HTTP library reads through nested async generators. Abandoned halfway, they
    would be left to the garbage collector, which trio warns of; a cancellation closes
    all of them.
    """
    with anyio.CancelScope() as scope:
        scope.cancel()
        while await anext(source, None) is not None:
            pass


def _decompress(compressed: bytes, coding: str, *, is_cut: bool) -> Body:
    """Undo one coding; one that httpx does not know changes nothing."""
    slices = _slices(compressed, _STEPS.get(coding, _STEP))
    headers = {"Content-Encoding": coding}
    chunks: list[bytes] = []
    size = 0
    try:
        for chunk in httpx.Response(200, headers=headers, content=slices).iter_bytes():
            chunks.append(chunk)
            size += len(chunk)
            if size > LONGEST_BODY:
                is_cut = True
                break
    except httpx.DecodingError:
        if not is_cut:  # a body that was cut has no valid end
            raise
    return Body(b"".join(chunks), is_cut)


def _slices(content: bytes, step: int) -> Iterator[bytes]:
    for start in range(0, len(content), step):
        yield content[start : start + step]
