"""The bodies of answers: read and unpacked up to a bound, never beyond it.

A body of 1.5 MB may unpack to 1.5 GB. So each coding of it is undone alone, in steps so
small that one cannot exceed the bound by much, and what is too long is cut: its first
bytes are kept, which may name the track that it tells of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import anyio
import httpx

from finetuning_async._api import LONGEST_BODY

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Iterator

KEPT: Final = 8192
"""Bytes of a body that is too long which are kept."""

_STEP: Final = 256
_STEPS: Final = {"br": 16}
"""Packed bytes that are unpacked at a time: gzip makes at most a thousand of one, zstd
32 thousand; a few bytes of brotli may stand for 16 MiB."""


class Body(NamedTuple):
    """What came, unpacked.

    Attributes:
        content: All of it, or the first bytes.
        is_cut: Whether there was more than is let in.
    """

    content: bytes
    is_cut: bool = False


async def read_body(raw: AsyncIterable[bytes], coding: str | None) -> Body:
    """Read a body as it arrives; of one that is too long no more than is let in.

    Args:
        raw: It, as it stands on the wire.
        coding: The ``Content-Encoding``, if there is one.

    Raises:
        httpx.DecodingError: It is not in that code.
    """
    content, is_cut = await _collected(raw)
    # The last one named was put on last.
    for name in reversed((coding or "").lower().split(",")):
        if name.strip() not in {"", "identity"}:
            content, is_cut = _unpacked(content, name.strip(), is_cut=is_cut)
    return as_body(content, is_cut=is_cut)


def as_body(content: bytes, *, is_cut: bool = False) -> Body:
    """A body that was read already, as by a hook or a test's transport."""
    is_cut = is_cut or len(content) > LONGEST_BODY
    return Body(content[:KEPT] if is_cut else content, is_cut)


async def _collected(raw: AsyncIterable[bytes]) -> Body:
    pieces: list[bytes] = []
    size = 0
    source = aiter(raw)
    async for piece in source:
        pieces.append(piece)
        size += len(piece)
        if size > LONGEST_BODY:
            await _leave(source)
            return Body(b"".join(pieces), is_cut=True)
    return Body(b"".join(pieces))


async def _leave(source: AsyncIterator[bytes]) -> None:
    """Read no more.

    The HTTP library reads through async generators, one within another. Left half-way,
    they fall to the garbage collector, of which trio warns; a cancellation ends them.
    """
    with anyio.CancelScope() as scope:
        scope.cancel()
        while await anext(source, None) is not None:
            pass


def _unpacked(packed: bytes, coding: str, *, is_cut: bool) -> Body:
    """Undo one coding; a name that httpx does not know changes nothing."""
    slices = _slices(packed, _STEPS.get(coding, _STEP))
    headers = {"Content-Encoding": coding}
    pieces: list[bytes] = []
    size = 0
    try:
        for piece in httpx.Response(200, headers=headers, content=slices).iter_bytes():
            pieces.append(piece)
            size += len(piece)
            if size > LONGEST_BODY:
                is_cut = True
                break
    except httpx.DecodingError:
        if not is_cut:  # else it has no end that could be right
            raise
    return Body(b"".join(pieces), is_cut)


def _slices(packed: bytes, step: int) -> Iterator[bytes]:
    for start in range(0, len(packed), step):
        yield packed[start : start + step]
