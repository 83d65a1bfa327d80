"""ID3v2.3 tags for title, tempo and key. Pure.

Source: id3.org, "ID3 tag version 2.3.0", sections 3.1, 3.3 and 4.2.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_HEADER: Final = 10
_FOOTER_FLAG: Final = 0x10
_MINOR: Final = "minor"


def with_tags(audio: bytes, frames: dict[str, str]) -> bytes:
    """An MP3 with exactly these text frames; a tag that it had is replaced.

    Args:
        audio: The whole file.
        frames: Text by frame id, such as ``{"TIT2": "Night"}``.
    """
    body = b"".join(_frame(name, text) for name, text in frames.items())
    tag = b"ID3\x03\x00\x00" + _synchsafe(len(body)) + body if frames else b""
    return tag + audio[_tag_length(audio) :]


def tags_of(result: Mapping[str, Any]) -> dict[str, str]:
    """The frames of a track, of which the journal has these facts."""
    return music_frames(
        title=result.get("title") or result.get("prompt"),
        bpm=result.get("bpm"),
        keyscale=result.get("keyscale"),
    )


def music_frames(
    *, title: str | None, bpm: float | None, keyscale: str | None
) -> dict[str, str]:
    """The frames of a track; unknown values are left out.

    >>> music_frames(title="Night", bpm=85, keyscale="F# minor")
    {'TIT2': 'Night', 'TBPM': '85', 'TKEY': 'F#m'}
    """
    frames = {}
    if title:
        frames["TIT2"] = title
    if bpm:
        frames["TBPM"] = str(round(bpm))
    if keyscale:
        frames["TKEY"] = _key(keyscale)
    return frames


def _key(keyscale: str) -> str:
    """At most three characters: ``Am``, ``F#m``, ``C``."""
    tonic, _, scale = keyscale.partition(" ")
    return (tonic + ("m" if scale.lower() == _MINOR else ""))[:3]


def _frame(name: str, text: str) -> bytes:
    # A null would end the text, and a lone surrogate cannot be encoded.
    clean = text.replace("\0", " ").encode("utf-16", "replace").decode("utf-16")
    content = (
        b"\x00" + clean.encode("latin-1")
        if clean.isascii()
        else b"\x01" + clean.encode("utf-16")
    )
    return name.encode("ascii") + len(content).to_bytes(4, "big") + b"\0\0" + content


def _synchsafe(number: int) -> bytes:
    """Four bytes of seven bits each: no decoder takes them for the start of audio."""
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))


def _tag_length(audio: bytes) -> int:
    """The length in bytes of the ID3v2 tag at the start of a file; 0 without one."""
    if len(audio) < _HEADER or not audio.startswith(b"ID3"):
        return 0
    length = 0
    for byte in audio[6:_HEADER]:
        length = length << 7 | byte & 0x7F
    footer = _HEADER if audio[5] & _FOOTER_FLAG else 0
    return _HEADER + length + footer
