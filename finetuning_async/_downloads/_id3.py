"""ID3v2.3 tags: title, tempo, key, prompt, lyrics, seed, id. Pure.

Source: id3.org, "ID3 tag version 2.3.0", sections 3.1, 3.3, 4.2, 4.9 and 4.11.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from finetuning_async._downloads._mp3_check import tag_length

if TYPE_CHECKING:
    from collections.abc import Mapping

_MINOR: Final = "minor"


def with_tags(audio: bytes, frames: dict[str, str]) -> bytes:
    """An MP3 with exactly these text frames; a tag that it had is replaced.

    Args:
        audio: The whole file.
        frames: Text by frame id, such as ``{"TIT2": "Night"}``.
    """
    body = b"".join(_frame(name, text) for name, text in frames.items())
    tag = b"ID3\x03\x00\x00" + _synchsafe(len(body)) + body if frames else b""
    return tag + audio[tag_length(audio) :]


def music_frames(facts: Mapping[str, Any]) -> dict[str, str]:
    """The frames of a track; what is unknown is left out.

    >>> music_frames({"title": "Night", "bpm": 85, "key": "F# minor", "seed": 7})
    {'TIT2': 'Night', 'TBPM': '85', 'TKEY': 'F#m', 'TXXX:seed': '7'}

    Args:
        facts: By name: title, prompt, bpm, key, lyrics, seed, id.
    """
    known = {
        "TIT2": facts.get("title"),
        "TBPM": round(facts["bpm"]) if facts.get("bpm") else None,
        "TKEY": _key(facts["key"]) if facts.get("key") else None,
        "COMM": facts.get("prompt"),
        "USLT": facts.get("lyrics"),
        "TXXX:seed": facts.get("seed"),
        "TXXX:id": facts.get("id"),
    }
    return {
        name: str(value) for name, value in known.items() if value not in (None, "")
    }


def _key(keyscale: str) -> str:
    """At most three characters: ``Am``, ``F#m``, ``C``."""
    tonic, _, scale = keyscale.partition(" ")
    return (tonic + ("m" if scale.lower() == _MINOR else ""))[:3]


def _frame(name: str, text: str) -> bytes:
    """A frame: ``TXXX:seed`` is one of the writer's own, with that description."""
    name, _, description = name.partition(":")
    # Comments and lyrics begin with a language, here an unknown one.
    language = b"XXX" if name in ("COMM", "USLT") else b""
    texts = [text] if name not in ("COMM", "USLT", "TXXX") else [description, text]
    # A null would end a text, and a lone surrogate cannot be encoded.
    clean = [
        one.replace("\0", " ").encode("utf-16", "replace").decode("utf-16")
        for one in texts
    ]
    if all(one.isascii() for one in clean):
        content = (
            b"\x00" + language + b"\0".join(one.encode("latin-1") for one in clean)
        )
    else:
        wide = b"\0\0".join(one.encode("utf-16") for one in clean)
        content = b"\x01" + language + wide
    return name.encode("ascii") + len(content).to_bytes(4, "big") + b"\0\0" + content


def _synchsafe(number: int) -> bytes:
    """Four bytes of seven bits each: no decoder takes them for the start of audio."""
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))
