"""Renders a short piece of music in a given tempo and key from a seed, without numpy.

A loop of at most twelve seconds is rendered once and repeated. Four layers:

- a drum on every beat, a brush and a thump, so that the tempo is clear;
- a bass that stays on the tonic;
- a pad that moves through chords which all hold the tonic (major: I vi IV I, minor:
  i VI iv i), so that the tonic is the strongest pitch class of the whole;
- a soft note on each beat, drawn from the chord and the seed. Nothing begins between
  beats, so that tempo detection finds the requested tempo.

All are lists of floats in units of 16-bit samples, at `SAMPLE_RATE`.
"""

from __future__ import annotations

import random
from array import array
from functools import cache, partial
from math import ceil, exp, pi, sin
from operator import add, mul
from typing import TYPE_CHECKING

import attrs

from finetuning_async.emulator._mp3 import SAMPLE_RATE, sample_count

if TYPE_CHECKING:
    from collections.abc import Sequence

    Samples = array[int]

LONGEST_LOOP = 12.0
_CHORDS = {
    "major": ((0, 4, 7), (9, 12, 16), (5, 9, 12), (0, 4, 7)),
    "minor": ((0, 3, 7), (8, 12, 15), (5, 8, 12), (0, 3, 7)),
}
_C3 = 130.8128  # Hz
_FULL = 32767 * 0.95


@attrs.frozen
class Score:
    """What to play. ``tonic`` counts semitones above C."""

    seconds: float
    bpm: float
    beats: int
    tonic: int
    scale: str
    seed: int

    @property
    def bars(self) -> int:
        """Bars of the loop: the most of 4, 2, 1 that keep it short."""
        bar = self.beats * 60 / self.bpm
        return next((n for n in (4, 2) if n * bar <= LONGEST_LOOP), 1)

    @property
    def beat(self) -> float:
        """Samples between beats."""
        return 60 / self.bpm * SAMPLE_RATE

    @property
    def root(self) -> float:
        """The tonic's frequency between C3 and B3, in Hz."""
        return _pitch(self.tonic)


def render(score: Score) -> Samples:
    """The whole piece as 16-bit samples, faded out at the end."""
    count = sample_count(score.seconds)
    loop = _loop(score)
    samples = (loop * ceil(count / len(loop)))[:count]
    _fade_out(samples, min(SAMPLE_RATE, count // 8))
    return samples


def render_effect(seconds: float, prompt: str) -> Samples:
    """A sound effect: fading noise over a gliding tone, drawn from the prompt."""
    rng = random.Random(prompt)  # noqa: S311 - must repeat, need not be secret
    count = sample_count(seconds)
    turn, glide = rng.uniform(0.04, 0.24), rng.uniform(-0.5, 0.5) / count
    noise, decay = rng.uniform(0.1, 0.6), 4.0 / count

    def level(i: int) -> float:
        tone = sin(turn * (1 + glide * i) * i)
        return exp(-decay * i) * (noise * rng.uniform(-1, 1) + (1 - noise) * tone)

    samples = array("h", (int(14000 * level(i)) for i in range(count)))
    _fade_out(samples, count // 8)
    return samples


def _loop(score: Score) -> Samples:
    rng = random.Random(f"{score.seed}")  # noqa: S311 - must repeat, need not be secret
    chords = _CHORDS[score.scale]
    pads = {chord: _chord_table(score.tonic, chord) for chord in set(chords)}
    mix: list[float] = []
    for bar in range(score.bars):
        mix += _bar(score, bar, pads[chords[bar * len(chords) // score.bars]])
    accent = _note(score.root, _envelope(0.03, 0.04, score.beat))
    _mix_in(accent, _drum(score.root), 0)
    for beat in range(score.bars * score.beats):
        _mix_in(mix, accent, round(beat * score.beat))
    _add_arpeggio(mix, score, chords, rng)
    return array("h", map(int, mix))


def _bar(score: Score, bar: int, table: list[float]) -> list[float]:
    start = round(bar * score.beats * score.beat)
    end = round((bar + 1) * score.beats * score.beat)
    pad = _tiled(table, end - start)
    ramp = SAMPLE_RATE // 25
    for i in range(min(ramp, len(pad) // 2)):
        pad[i] *= i / ramp
        pad[-1 - i] *= i / ramp
    return pad


def _chord_table(tonic: int, chord: Sequence[int]) -> list[float]:
    """One second of a chord over its tonic."""
    steps = (0, 12, 7, *chord)
    voices = [_second_of(_sine(), _pitch(tonic + step)) for step in steps]
    return [
        _FULL * (0.036 * low + 0.022 * high + 0.01 * fifth + 0.03 * (a + b + c))
        for low, high, fifth, a, b, c in zip(*voices, strict=True)
    ]


def _add_arpeggio(
    mix: list[float],
    score: Score,
    chords: Sequence[Sequence[int]],
    rng: random.Random,
) -> None:
    envelope = _envelope(0.05, 0.006, score.beat * 1.8)
    notes: dict[int, list[float]] = {}
    steps = score.bars * score.beats
    for step in range(steps):
        chord = chords[step * len(chords) // steps]
        pitch = 12 + rng.choice((*chord, 0, 12))
        if pitch not in notes:
            notes[pitch] = _note(_pitch(score.tonic + pitch), envelope)
        _mix_in(mix, notes[pitch], round(step * score.beat))


def _note(frequency: float, envelope: list[float]) -> list[float]:
    """A mellow tone."""
    wave = _tiled(_second_of(_mellow(), frequency), len(envelope))
    return list(map(mul, envelope, wave))


def _envelope(loudness: float, attack: float, length: float) -> list[float]:
    """Rises in ``attack`` s, dies away over ``length`` samples."""
    rise, peak = int(attack * SAMPLE_RATE), _FULL * loudness
    envelope = [peak * (1 - i / length) for i in range(int(length))]
    for i in range(min(rise, len(envelope))):
        envelope[i] *= i / rise
    return envelope


@cache
def _sine() -> list[float]:
    """One cycle, over as many samples as a second has."""
    return [sin(2 * pi * i / SAMPLE_RATE) for i in range(SAMPLE_RATE)]


@cache
def _mellow() -> list[float]:
    """One cycle of a sine and, softer, its octave."""
    octave = map(partial(mul, 0.25), _second_of(_sine(), 2))
    return list(map(add, _sine(), octave))


def _second_of(cycle: list[float], frequency: float) -> list[float]:
    """A second of a tone: whole cycles only, so that it tiles.

    Reads every n-th sample of the cycle, n times through: slices are many times faster
    than sines.
    """
    step, start = round(frequency), 0
    wave: list[float] = []
    for _ in range(step):
        wave += cycle[start::step]
        start = (start - SAMPLE_RATE) % step
    return wave


def _tiled(second: list[float], count: int) -> list[float]:
    return (second * ceil(count / len(second)))[:count]


def _drum(root: float) -> list[float]:
    """A brush and a short thump that falls to the tonic an octave down."""
    rng = random.Random(0)  # noqa: S311 - every track has the same drum
    turn = 2 * pi * (root / 2) / SAMPLE_RATE
    sound, brush = [], 0.0
    for i in range(3600):
        brush += 0.7 * (rng.uniform(-1, 1) - brush)
        thump = exp(-i / 700) * sin(turn * (i + 500 * (1 - exp(-i / 200))))
        sound.append(_FULL * (0.85 * exp(-i / 500) * brush + 0.2 * thump))
    return sound


def _mix_in(mix: list[float], sound: list[float], start: int) -> None:
    """Add a sound; what exceeds the loop's end wraps to its beginning."""
    head = sound[: len(mix) - start]
    mix[start : start + len(head)] = map(add, mix[start : start + len(head)], head)
    if len(head) < len(sound):
        _mix_in(mix, sound[len(head) :], 0)


def _fade_out(samples: Samples, length: int) -> None:
    last = len(samples) - 1
    for i in range(length):
        samples[last - i] = samples[last - i] * i // length


def _pitch(semitones: int) -> float:
    return _C3 * 2 ** (semitones / 12)
