"""The audio is what was asked for, heard by tools that are not ours."""

from __future__ import annotations

import io
import itertools
import time
from array import array
from typing import Any

import miniaudio
import mutagen.mp3
import numpy as np
import pytest

from finetuning_async.emulator import _mp3, _synthesizer
from finetuning_async.emulator._validation import KEYS

RATE = 24_000
TEMPI = (63, 97.5, 180)
SCALES = ("major", "minor")

Sound = np.ndarray[tuple[int], np.dtype[np.float64]]


def play(
    *,
    seconds: float = 20,
    bpm: float = 120,
    tonic: int = 0,
    scale: str = "major",
    seed: int = 1,
    beats: int = 4,
) -> bytes:
    score = _synthesizer.Score(seconds, bpm, beats, tonic, scale, seed)
    return _mp3.encode(_synthesizer.render(score))


def decode(audio: bytes) -> Sound:
    decoded = miniaudio.decode(audio, nchannels=1, sample_rate=RATE)
    return np.asarray(decoded.samples, dtype=float)


def mp3_file(audio: bytes) -> Any:
    return mutagen.mp3.MP3(io.BytesIO(audio))  # type: ignore[no-untyped-call]  # theirs


def tempo(sound: Sound) -> float:
    """Beats a minute, from the distances between peaks of the spectral flux."""
    window, hop = 1024, 256
    frames = np.lib.stride_tricks.sliding_window_view(sound, window)[::hop]
    spectra = np.abs(np.fft.rfft(frames * np.hanning(window), axis=1))
    flux = np.maximum(np.diff(spectra, axis=0), 0).sum(axis=1)
    peaks: list[int] = []
    for i in np.flatnonzero(flux > np.percentile(flux, 99.5) * 0.4):
        if not peaks or i - peaks[-1] > 0.15 * RATE / hop:
            peaks.append(int(i))
    spans = np.diff(peaks)
    assert spans.min() > 0.9 * np.median(spans), "an onset that is no beat"
    assert spans.max() < 1.1 * np.median(spans), "a beat without an onset"
    return float(60 * RATE / hop / spans.mean())


def pitch_classes(
    sound: Sound,
) -> list[float]:
    """Energy per semitone above C, from 60 Hz to 2 kHz."""
    power = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) ** 2
    frequency = np.fft.rfftfreq(len(sound), 1 / RATE)
    heard = (frequency > 60) & (frequency < 2000)
    semitone = np.round(12 * np.log2(frequency[heard] / 440) + 9).astype(int) % 12
    return [float(energy) for energy in np.bincount(semitone, power[heard], 12)]


@pytest.mark.sampled(8)
@pytest.mark.parametrize(
    ("bpm", "tonic", "scale"),
    # Tempo and key are made apart: each key is played at one of the tempi.
    [
        (bpm, tonic, scale)
        for bpm, (tonic, scale) in zip(
            itertools.cycle(TEMPI), itertools.product(range(12), SCALES), strict=False
        )
    ],
)
def test_tempo_and_key_can_be_heard(bpm: float, tonic: int, scale: str) -> None:
    sound = decode(play(seconds=12, bpm=bpm, tonic=tonic, scale=scale, seed=tonic))
    assert tempo(sound) == pytest.approx(bpm, rel=0.01)
    energy = pitch_classes(sound)
    assert KEYS[int(np.argmax(energy))] == KEYS[tonic]
    minor, major = energy[(tonic + 3) % 12], energy[(tonic + 4) % 12]
    assert (major > 2 * minor) if scale == "major" else (minor > 2 * major)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("seconds", [1, 5, 7.25, 30, 59.9, 210])
def test_the_length_is_right_by_header_and_by_decoding(seconds: float) -> None:
    audio = play(seconds=seconds)
    info = mp3_file(audio).info
    assert info.length == pytest.approx(seconds, abs=0.05)
    assert len(decode(audio)) / RATE == pytest.approx(seconds, abs=0.05)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("beats", range(2, 8))
def test_every_time_signature_keeps_the_tempo(beats: int) -> None:
    sound = decode(play(seconds=12, beats=beats, bpm=77))
    assert tempo(sound) == pytest.approx(77, rel=0.01)


def test_the_same_wish_gives_the_same_bytes_and_another_seed_others() -> None:
    assert play(seed=7) == play(seed=7)
    assert play(seed=7) != play(seed=8)


def test_nothing_clips_and_the_end_fades() -> None:
    sound = decode(play(seconds=10))
    assert 8_000 < np.abs(sound).max() < 32_000
    assert np.abs(sound[-2400:]).max() < 3_000


def test_rendering_is_quick() -> None:
    begin = time.process_time()
    play(seconds=30)
    assert time.process_time() - begin < 1.5  # a third of a second on a slow machine
    play(seconds=210)
    assert time.process_time() - begin < 4


@pytest.mark.parametrize("seconds", [1, 2.5, 8])
def test_a_sound_effect_lasts_as_long_as_asked(seconds: float) -> None:
    samples = _synthesizer.render_effect(seconds, "wooden crate")
    audio = _mp3.encode(samples)
    assert len(decode(audio)) / RATE == pytest.approx(seconds, abs=0.05)
    assert max(map(abs, samples)) > 2_000


def test_tags_name_title_tempo_and_key() -> None:
    audio = _mp3.tags("Überall", bpm=92, key="F#m") + play(seconds=5)
    tags = mp3_file(audio).tags
    assert [tags[name].text[0] for name in ("TIT2", "TBPM", "TKEY")] == [
        "Überall",
        "92",
        "F#m",
    ]


def test_the_size_is_known_before_rendering() -> None:
    for seconds in (1, 2.5, 7.77, 33.3):
        silence = array("h", [0]) * _mp3.sample_count(seconds)
        assert len(_mp3.encode(silence)) == _mp3.audio_size(seconds)
