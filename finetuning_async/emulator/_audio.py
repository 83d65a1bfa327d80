"""The MP3 of a job, rendered on first request and cached."""

from __future__ import annotations

import random
from collections import OrderedDict
from typing import TYPE_CHECKING

from finetuning_async.emulator import _mp3, _synthesizer
from finetuning_async.emulator._validation import KEYS, SCALES

if TYPE_CHECKING:
    from collections.abc import Hashable

    from finetuning_async.emulator._records import Job
    from finetuning_async.emulator._settings import EmulatorSettings

KEPT = 16


class AudioStore:
    """Renders tracks; caches the last few."""

    def __init__(self, settings: EmulatorSettings) -> None:
        self._settings = settings
        self._kept: OrderedDict[Hashable, bytes] = OrderedDict()

    def get(self, job: Job) -> bytes | None:
        """The file, if it need not be rendered."""
        if self._settings.audio is not None:
            return self._settings.audio
        return self._kept.get(_recipe(job))

    def render(self, job: Job) -> bytes:
        """Render the file; the same parameters give the same bytes."""
        audio = _tags(job) + _mp3.encode(_samples(job))
        self._kept[_recipe(job)] = audio
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return audio


def file_size(settings: EmulatorSettings, job: Job) -> int:
    """Size of a job's file in bytes, computed without rendering it."""
    if settings.audio is not None:
        return len(settings.audio)
    return len(_tags(job)) + _mp3.audio_size(job.parameters["duration"])


def _recipe(job: Job) -> Hashable:
    name = job.prompt if job.kind == "effect" else job.title
    return (job.kind, name, *job.parameters.items())


def _samples(job: Job) -> _synthesizer.Samples:
    if job.kind == "effect":
        return _synthesizer.render_effect(job.parameters["duration"], job.prompt)
    return _synthesizer.render(_score(job))


def _score(job: Job) -> _synthesizer.Score:
    """What a track plays; an instrumental's tempo and key follow from its seed."""
    wanted = job.parameters
    rng = random.Random(wanted["seed"])  # noqa: S311 - must repeat, need not be secret
    key, scale = rng.choice(KEYS), rng.choice(SCALES)
    key, _, scale = wanted.get("keyscale", f"{key} {scale}").partition(" ")
    return _synthesizer.Score(
        seconds=wanted["duration"],
        bpm=wanted.get("bpm", rng.randint(70, 140)),
        beats=wanted.get("timesignature", 4),
        tonic=KEYS.index(key),
        scale=scale,
        seed=wanted["seed"],
    )


def _tags(job: Job) -> bytes:
    if job.kind == "effect":
        return _mp3.tags(job.title, bpm=None, key=None)
    score = _score(job)
    key = KEYS[score.tonic] + ("m" if score.scale == "minor" else "")
    return _mp3.tags(job.title, bpm=score.bpm, key=key)
