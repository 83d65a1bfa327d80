"""Files that say what they are, and that are checked: `metadata` and `check`."""

from __future__ import annotations

import doctest
import random
from typing import TYPE_CHECKING, Any

import lameenc
import pytest
from hypothesis import given, settings, strategies as st
from mutagen.mp3 import MP3

from finetuning_async import APIResponseError, InvalidRequestError
from finetuning_async._api import parsing
from finetuning_async._downloads import _id3, _mp3_check, find_problems
from finetuning_async._downloads._file_names import LONGEST_SLUG, slug
from finetuning_async._downloads._finish import track_facts
from finetuning_async.emulator import Emulator
from tests._emulated_client import emulated

if TYPE_CHECKING:
    from pathlib import Path


def encode(
    seconds: float, *, rate: int = 16_000, channels: int = 1, silent: bool = False
) -> bytes:
    """An MP3 of noise, or of nothing."""
    encoder = lameenc.Encoder()
    encoder.set_channels(channels)
    encoder.set_in_sample_rate(rate)
    encoder.set_out_sample_rate(rate)
    encoder.set_bit_rate(64)
    encoder.silence()
    size = int(rate * seconds) * channels * 2
    pcm = bytes(size) if silent else random.Random(1).randbytes(size)
    return bytes(encoder.encode(pcm) + encoder.flush())


def tags_of(path: Path) -> dict[str, str]:
    tags: Any = MP3(path).tags  # type: ignore[no-untyped-call]  # mutagen has no types
    return {name: str(tags[name]) for name in tags}


async def test_a_file_says_what_it_is(tmp_path: Path) -> None:
    async with emulated(Emulator(audio=encode(5))) as (_, client):
        track = await client.generate("夜のピアノ", bpm=92, key="A", scale="minor")
        path = await client.download(track, tmp_path / "a.mp3", metadata=True)
        assert tags_of(path) == {
            "TIT2": track.title or track.prompt,
            "COMM::XXX": "夜のピアノ",
            "TBPM": "92",
            "TKEY": "Am",
            "TXXX:seed": str(track.parameters.seed),
            "TXXX:id": track.id,
        }
        assert path.read_bytes().endswith(encode(5))
        more = {"lyrics": "lä\nlo", "title": "Night"}
        path = await client.download(track, tmp_path / "b.mp3", metadata=more)
        assert tags_of(path)["USLT::XXX"] == "lä\nlo"
        assert tags_of(path)["TIT2"] == "Night"
        assert tags_of(path)["TBPM"] == "92"


async def test_what_cannot_be_written_into_a_file_is_refused(tmp_path: Path) -> None:
    async with emulated(Emulator(audio=encode(5))) as (_, client):
        track = await client.generate("rain")
        path = tmp_path / "a.mp3"
        with pytest.raises(InvalidRequestError, match="metadata must be True with a"):
            await client.download(str(track.audio_url), path, metadata=True)
        with pytest.raises(InvalidRequestError, match="a mapping with the names title"):
            await client.download(track, path, metadata={"artist": "me"})
        await client.download(str(track.audio_url), path, metadata={"title": "x"})
        assert tags_of(path) == {"TIT2": "x"}


@pytest.mark.parametrize(
    ("audio", "problem"),
    [
        (encode(5, silent=True), "it is silent; to have another one made costs"),
        (encode(2), "it is 2.1 s long, not 5.0 s"),
        (encode(5)[:-30], "it is cut off or damaged at byte "),
        (b"no music at all", "it is not an MP3"),
    ],
)
async def test_a_file_that_does_not_pass_the_check_is_reported_and_kept(
    tmp_path: Path, audio: bytes, problem: str
) -> None:
    path = tmp_path / "a.mp3"
    async with emulated(Emulator(audio=audio)) as (emulator, client):
        track = await client.generate("rain", duration=5)
        with pytest.raises(APIResponseError) as raised:
            await client.download(track, path, check=True)
        assert f"{path} is saved, but {problem}" in str(raised.value)
        assert raised.value.generation_id == track.id
        assert path.read_bytes() == audio
        assert len(emulator.ledger) == 1


async def test_what_the_service_makes_passes_the_check(tmp_path: Path) -> None:
    async with emulated(Emulator(seed=3)) as (_, client):
        track = await client.generate("rain", duration=5)
        await client.download(track, tmp_path / "a.mp3", check=True, metadata=True)
        effect = await client.sound_effects.create("door", duration=2.5)
        effect = await client.wait_for_completion(effect)
        await client.download(effect, tmp_path / "b.mp3", check=True, metadata=True)
        assert tags_of(tmp_path / "b.mp3")["TXXX:id"] == effect.id


@pytest.mark.parametrize("rate", [11_025, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_silence_is_told_from_sound_in_every_format(rate: int, channels: int) -> None:
    loud = encode(1, rate=rate, channels=channels)
    assert find_problems(loud, 1.0) == []
    assert find_problems(b"ID3\x03\0\0\0\0\0\x02ab" + loud, 1.0) == []
    quiet = encode(1, rate=rate, channels=channels, silent=True)
    assert find_problems(quiet, 1.0) == ["is silent"]
    assert find_problems(with_checksums(loud), 1.0) == []
    assert find_problems(with_checksums(quiet), 1.0) == ["is silent"]


def with_checksums(audio: bytes) -> bytes:
    """The same frames, each with two bytes of a checksum after its header."""
    changed, at = b"", 0
    while (frame := _mp3_check._frame(audio, at)) is not None:
        one = audio[at : at + frame.size]
        at += frame.size
        header = bytes([one[0], one[1] & 0xFE, *one[2:4]])
        changed += header + b"\xff\xff" + one[4:-2]
    return changed


@pytest.mark.parametrize(("title", "said"), [("Waltz", "Waltz"), (None, "rain")])
def test_a_track_without_a_title_is_called_by_its_prompt(
    title: str | None, said: str
) -> None:
    row = {"id": "gen_1", "title": title, "prompt": "rain"}
    assert track_facts(parsing.generation_row(row))["title"] == said


def test_what_only_changes_how_a_letter_looks_is_not_in_a_name() -> None:
    assert slug("a\ufe0fb \U000e0100c\u200dd") == "ab-cd"


def test_a_file_that_ends_within_a_frame_is_cut_off_wherever_that_is() -> None:
    audio, at = encode(0.2), 0
    while (frame := _mp3_check._frame(audio, at)) is not None:
        last, at = at, at + frame.size
    for end in range(last + 1, at):
        assert find_problems(audio[:end])[0].startswith("is cut off")


def test_a_frame_that_only_describes_the_file_is_not_played() -> None:
    audio = encode(1, rate=44_100, channels=2)
    frame = _mp3_check._frame(audio, 0)
    assert frame is not None
    described = bytearray(audio[: frame.size])
    described[36:40] = b"Info"  # behind the header and the side information
    found = find_problems(bytes(described) * 100, 5.0)
    assert found == ["is 0.0 s long, not 5.0 s", "is silent"]


def test_a_long_name_is_not_cut_between_a_letter_and_its_marks() -> None:
    start = "a" * (LONGEST_SLUG - 2)
    assert slug(f"{start}x\u0301 and more") == f"{start}x\u0301"
    assert slug(f"{start}ax\u0301 and more") == f"{start}a"


@given(st.binary(max_size=80), st.integers(0, 4000))
@settings(max_examples=50)
def test_no_damage_is_too_much_to_be_reported(noise: bytes, at: int) -> None:
    sound = encode(0.5)
    damaged = sound[:at] + noise + sound[at + len(noise) + 1 :]
    assert find_problems(damaged, 0.5) or damaged == sound
    find_problems(noise)


async def test_a_name_of_another_format_is_warned_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with emulated(Emulator(audio=encode(1))) as (_, client):
        track = await client.generate("rain")
        await client.download(track, tmp_path / "a.mp3")
        await client.download(track, tmp_path / "a.bin")
        assert "whatever its name says" not in caplog.text
        await client.download(track, tmp_path / "a.WAV")
        assert "a.WAV holds an MP3, whatever its name says" in caplog.text


def test_the_examples_of_the_tags_are_right() -> None:
    assert doctest.testmod(_id3).failed == 0
