"""What is said of an MP3, by the bits of its frames (ISO/IEC 11172-3 and 13818-3)."""

from __future__ import annotations

from typing import Any, Final

import attrs
import pytest

from finetuning_async._downloads._mp3_check import find_problems, tag_length

MPEG1: Final = 3
MPEG2: Final = 2
MPEG2_5: Final = 0
STEREO: Final = 0
MONO: Final = 3

SOUND: Final = {
    (MPEG1, MONO): [18, 77],
    (MPEG1, STEREO): [20, 79, 138, 197],
    (MPEG2, MONO): [9],
    (MPEG2, STEREO): [10, 73],
    (MPEG2_5, MONO): [9],
    (MPEG2_5, STEREO): [10, 73],
}
"""Where in the side information the 12 bits stand that say how long a granule is."""

SIDES: Final = {
    (MPEG1, MONO): 17,
    (MPEG1, STEREO): 32,
    (MPEG2, MONO): 9,
    (MPEG2, STEREO): 17,
    (MPEG2_5, MONO): 9,
    (MPEG2_5, STEREO): 17,
}
"""Bytes of the side information."""

SIZES: Final = {MPEG1: 417, MPEG2: 261, MPEG2_5: 522}
"""Bytes of a frame of 128 kbit/s at 44.1 kHz, of 80 at 22.05, and of 80 at 11.025."""

PLAYS: Final = {MPEG1: 1152 / 44100, MPEG2: 576 / 22050, MPEG2_5: 576 / 11025}
"""Seconds that it plays."""


@attrs.frozen(kw_only=True)
class Form:
    """A frame's header."""

    sync: int = 0x7FF
    version: int = MPEG1
    layer: int = 1
    has_crc: bool = False
    bitrate: int = 9
    rate: int = 0
    is_padded: bool = False
    mode: int = STEREO

    @property
    def sound(self) -> list[int]:
        return SOUND[self.version, self.mode]

    @property
    def side(self) -> int:
        return SIDES.get((self.version, self.mode), 32)

    def frame(self, side: int = 0) -> bytes:
        """One with this side information; as long as its header says."""
        head = self.sync << 21 | self.version << 19 | self.layer << 17
        head |= (not self.has_crc) << 16 | self.bitrate << 12 | self.rate << 10
        head |= self.is_padded << 9 | self.mode << 6
        crc = b"\xff\xff" if self.has_crc else b""
        start = head.to_bytes(4, "big") + crc + side.to_bytes(self.side, "big")
        return start.ljust(SIZES.get(self.version, 417) + self.is_padded, b"\0")

    def bits(self, at: int) -> int:
        """The side information in which 12 bits are set, and no others."""
        return 0xFFF << (8 * self.side - at - 12)

    def loud(self) -> bytes:
        return self.frame(self.bits(self.sound[0]))


FORMS: Final = [
    Form(version=version, mode=mode, has_crc=has_crc)
    for version, mode in SOUND
    for has_crc in (False, True)
]


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_whole_frames_one_after_another_are_well(form: Form) -> None:
    audio = (form.loud() + attrs.evolve(form, is_padded=True).loud()) * 20
    assert find_problems(audio) == []
    assert find_problems(audio + b"TAG" + bytes(125)) == []
    assert find_problems(b"ID3\4\0\0\0\0\0\7" + bytes(7) + audio) == []


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_frame_has_sound_if_one_of_its_granules_takes_bits(form: Form) -> None:
    others = 2 ** (8 * form.side) - 1
    for one in map(form.bits, form.sound):
        others ^= one
        for bits in (one, one & -one, one & ~(one >> 1)):
            assert find_problems(form.frame(bits) * 40) == []
    assert find_problems(form.frame(others) * 40) == ["is silent"]
    assert find_problems(form.frame(0) * 40) == ["is silent"]


@pytest.mark.parametrize("loud", [0, 1, 2, 3])
def test_a_track_with_sound_in_a_fiftieth_of_its_frames_is_not_silent(
    loud: int,
) -> None:
    form = Form()
    frames = form.loud() * loud + form.frame() * (100 - loud)
    assert find_problems(frames) == ([] if loud >= 2 else ["is silent"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"sync": 0x7FE},
        {"sync": 0x3FF},
        {"version": 1},
        {"layer": 0},
        {"layer": 2},
        {"layer": 3},
        {"bitrate": 0},
        {"bitrate": 15},
        {"rate": 3},
    ],
    ids=str,
)
def test_what_has_another_header_is_no_mp3(wrong: dict[str, Any]) -> None:
    assert find_problems(Form(**wrong).frame() * 40) == ["is not an MP3"]


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_the_first_frame_may_describe_the_file_and_plays_nothing(form: Form) -> None:
    loud, seconds = form.loud(), 99 * PLAYS[form.version]
    start = 4 + 2 * form.has_crc + form.side
    for name in (b"Xing", b"Info"):
        audio = loud[:start] + name + loud[start + 4 :] + loud * 99
        assert find_problems(audio, asked=seconds + 1.0) == []
        (found,) = find_problems(audio, asked=seconds + 1.001)
        assert found == f"is {seconds:.1f} s long, not {seconds + 1.001:.1f} s"


def test_a_file_of_which_the_end_is_missing_is_cut_off_in_its_last_frame() -> None:
    (found,) = find_problems((Form().loud() * 40)[:-1])
    assert found == f"is cut off or damaged at byte {39 * 417} of {40 * 417 - 1}"


def test_a_tag_ends_where_it_says_even_if_nothing_follows() -> None:
    tag = b"ID3\4\0\0\0\0\1\2"
    assert tag_length(tag) == 10 + (1 << 7) + 2
    assert tag_length(b"ID3\4\0\0\0\0\0\0") == 10
    assert tag_length(b"ID3\4\0\x10\0\0\1\2") == 10 + (1 << 7) + 2 + 10  # a footer
    assert tag_length(tag[:9]) == 0
    assert tag_length(b"TAG" + tag[3:]) == 0
