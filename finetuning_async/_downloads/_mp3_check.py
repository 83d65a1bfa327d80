"""What is wrong with an MP3: cut off, too short or too long, or silent. Pure.

It reads the headers and the side information of the frames and decodes nothing: each
granule says how many bits its sound takes, which is 0 in digital silence.

Source: ISO/IEC 11172-3 (MPEG-1) and 13818-3 (MPEG-2), section 2.4.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator

_BITRATES: Final = {
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""kbit/s of layer III by the number in the header, for MPEG-1 and for MPEG-2, 2.5."""

_RATES: Final = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000)}
"""Samples a second by the version; those of MPEG-2.5 (0) are half of MPEG-2."""

_HEADER: Final = 4
_MONO: Final = 3
_LAYER_3: Final = 1

LENGTH_TOLERANCE: Final = 1.0
"""Seconds that the length may differ from what was asked for; an encoder adds padding,
and the service rounds some lengths."""

SOUND_SHARE: Final = 0.02
"""A track with a smaller share of frames that hold sound is silent."""


@attrs.frozen
class Frame:
    """A frame of layer III.

    Attributes:
        size: Bytes, header included.
        seconds: How long it plays; 0 for one that only describes the file.
        has_sound: Whether it holds anything but digital silence.
    """

    size: int
    seconds: float
    has_sound: bool


def find_problems(audio: bytes, asked: float | None = None) -> list[str]:
    """What is wrong with a file, each in words that follow its name; empty if nothing.

    Args:
        audio: The whole file.
        asked: The length that it should have, in seconds, if that is known.
    """
    start, end = tag_length(audio), _audio_end(audio)
    frames: list[Frame] = []
    at = start
    for frame in _frames(audio, start, end):
        frames.append(frame)
        at += frame.size
    if not frames:
        return ["is not an MP3"]
    found = []
    if at != end:
        found.append(f"is cut off or damaged at byte {min(at, end)} of {len(audio)}")
    seconds = sum(frame.seconds for frame in frames)
    if asked is not None and abs(seconds - asked) > LENGTH_TOLERANCE:
        found.append(f"is {seconds:.1f} s long, not {asked:.1f} s")
    if sum(frame.has_sound for frame in frames) < SOUND_SHARE * len(frames):
        found.append("is silent")
    return found


def _frames(audio: bytes, start: int, end: int) -> Iterator[Frame]:
    """The frames one after another, up to the first that is not whole."""
    while (frame := _frame(audio, start)) is not None and start + frame.size <= end:
        yield frame
        start += frame.size


def _frame(audio: bytes, start: int) -> Frame | None:
    """The frame that begins there; `None` if none of layer III does."""
    head = int.from_bytes(audio[start : start + _HEADER], "big")
    version, layer = head >> 19 & 3, head >> 17 & 3
    bitrate, rate = head >> 12 & 15, head >> 10 & 3
    is_sync = head >> 21 == 0x7FF and version != 1 and layer == _LAYER_3
    if not is_sync or bitrate in (0, 15) or rate == 3:
        return None
    is_mpeg1 = version == 3
    hertz = _RATES[3 if is_mpeg1 else 2][rate] // (1 if version else 2)
    samples = 1152 if is_mpeg1 else 576
    kilobits = _BITRATES[is_mpeg1][bitrate]
    size = samples // 8 * kilobits * 1000 // hertz + (head >> 9 & 1)
    channels = 1 if head >> 6 & 3 == _MONO else 2
    side_at = start + _HEADER + (0 if head >> 16 & 1 else 2)  # a CRC of 2 bytes
    side = audio[side_at : side_at + (17, 32)[channels - 1]]
    if not is_mpeg1:
        side = side[: (9, 17)[channels - 1]]
    # Encoders describe the file in a first frame, which decoders do not play.
    description = audio[side_at + len(side) : side_at + len(side) + 4]
    if description in (b"Xing", b"Info"):
        return Frame(size, 0.0, has_sound=False)
    return Frame(size, samples / hertz, _has_sound(side, channels, is_mpeg1=is_mpeg1))


def _has_sound(side: bytes, channels: int, *, is_mpeg1: bool) -> bool:
    """Whether a granule takes any bits, by the side information of its frame."""
    bits = int.from_bytes(side, "big")
    length = len(side) * 8
    # Where the first granule begins, how long one is, and how many there are.
    if is_mpeg1:
        begin, granule, count = (18, 59, 2) if channels == 1 else (20, 59, 4)
    else:
        begin, granule, count = (9, 63, 1) if channels == 1 else (10, 63, 2)
    return any(
        bits >> (length - begin - number * granule - 12) & 0xFFF
        for number in range(count)
        if length - begin - number * granule - 12 >= 0
    )


def _audio_end(audio: bytes) -> int:
    """Where the frames end: before an ID3v1 tag of 128 bytes, if there is one."""
    return len(audio) - 128 if audio[-128:-125] == b"TAG" else len(audio)


def tag_length(audio: bytes) -> int:
    """The length in bytes of the ID3v2 tag at the start of a file; 0 without one."""
    if len(audio) < 10 or not audio.startswith(b"ID3"):
        return 0
    length = 0
    for byte in audio[6:10]:
        length = length << 7 | byte & 0x7F
    footer = 10 if audio[5] & 0x10 else 0
    return 10 + length + footer
