"""Metrics: counters, histograms and a gauge, updated by the client's events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from finetuning_async._events import (
    GenerationAccepted,
    GenerationEnded,
    RateLimitWaited,
    ResponseReceived,
)

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter

    from finetuning_async._events import Event

SECONDS: Final = (0.1, 0.3, 1, 3, 10, 20, 30, 45, 60, 90, 120, 180, 300, 600, 1800)
"""Bucket bounds of the histograms; the SDK's defaults are meant for milliseconds."""


class Metrics:
    """The instruments, and which event updates which.

    Args:
        meter: Creates the instruments.
    """

    def __init__(self, meter: Meter) -> None:
        self._refusals = meter.create_counter(
            "finetuning.refusals",
            unit="{response}",
            description="Responses with status 429.",
        )
        self._waits = meter.create_histogram(
            "finetuning.rate_limit.wait",
            unit="s",
            description="Time that requests waited for the rate limit.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )
        self._durations = meter.create_histogram(
            "finetuning.generation.duration",
            unit="s",
            description="Time from acceptance until the end was seen.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )
        self._used = meter.create_counter(
            "finetuning.credits.used",
            unit="{credit}",
            description="Accepted creates of music and instrumentals.",
        )
        self._remaining = meter.create_gauge(
            "finetuning.credits.remaining",
            unit="{credit}",
            description="Credits left, as reported by the last accepted create.",
        )

    def count(self, event: Event) -> None:
        """Update the instruments for an event."""
        if isinstance(event, ResponseReceived):
            if event.status == 429:
                self._refusals.add(1, {"finetuning.code": event.code or "unknown"})
        elif isinstance(event, RateLimitWaited):
            self._waits.record(event.duration, {"finetuning.budget": event.budget})
        elif isinstance(event, GenerationAccepted):
            self._accepted(event)
        elif isinstance(event, GenerationEnded) and event.duration is not None:
            facts = {"finetuning.kind": event.kind, "finetuning.status": event.status}
            self._durations.record(event.duration, facts)

    def _accepted(self, event: GenerationAccepted) -> None:
        if event.kind != "sound_effect":  # free, but limited per day
            self._used.add(1, {"finetuning.kind": event.kind})
        if event.credits_remaining is not None:
            self._remaining.set(event.credits_remaining)
