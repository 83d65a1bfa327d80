"""MP3 by LAME: mono, 24 kHz, 64 kbit/s constant, so every frame is 192 bytes.

LAME puts `DELAY` samples of its own in front of the music and pads the end; the
music is shortened by as much, so that the file has the requested length, to one frame
(24 ms). The ID3v2.3 tags in front are written by hand.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import lameenc

if TYPE_CHECKING:
    from array import array

SAMPLE_RATE = 24_000
BIT_RATE = 64
FRAME_SAMPLES = 576
FRAME_BYTES = 192
# What LAME 3.100 adds at this rate, found by counting: n samples give
# (n + DELAY) // FRAME_SAMPLES frames.
DELAY = 1727


def sample_count(seconds: float) -> int:
    """How many samples to render so that the file lasts ``seconds``."""
    return max(FRAME_SAMPLES, round(seconds * SAMPLE_RATE) - DELAY)


def audio_size(seconds: float) -> int:
    """Bytes of MP3 frames that `encode` makes of ``sample_count(seconds)`` samples."""
    return (sample_count(seconds) + DELAY) // FRAME_SAMPLES * FRAME_BYTES


def encode(samples: array[int]) -> bytes:
    """Encode 16-bit mono samples."""
    encoder = lameenc.Encoder()
    encoder.silence()
    encoder.set_bit_rate(BIT_RATE)
    encoder.set_in_sample_rate(SAMPLE_RATE)
    encoder.set_channels(1)
    encoder.set_quality(7)  # 2 is the best, 7 the fastest; at this rate alike by ear
    return bytes(encoder.encode(samples.tobytes()) + encoder.flush())


def tags(title: str, *, bpm: float | None, key: str | None) -> bytes:
    """An ID3v2.3 tag: title, tempo, initial key (``F#m``), and the encoder's name."""
    frames = _text_frame("TIT2", title) + _text_frame("TENC", "finetuning emulator")
    if bpm is not None:
        frames += _text_frame("TBPM", f"{bpm:.0f}")
    if key is not None:
        frames += _text_frame("TKEY", key)
    size = len(frames)
    synchsafe = bytes((size >> shift) & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x03\x00\x00" + synchsafe + frames


def _text_frame(name: str, text: str) -> bytes:
    content = b"\x01" + text.encode("utf-16")
    return name.encode() + struct.pack(">IH", len(content), 0) + content
