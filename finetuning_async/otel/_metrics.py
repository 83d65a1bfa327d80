"""What is counted and measured."""

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
"""The bounds of the histograms; those of the SDK are meant for milliseconds."""


class Metrics:
    """The instruments, and which event moves which.

    Args:
        meter: Where they report to.
    """

    def __init__(self, meter: Meter) -> None:
        self._refusals = meter.create_counter(
            "finetuning.refusals",
            unit="{response}",
            description="Answers with status 429.",
        )
        self._turns = meter.create_histogram(
            "finetuning.turn.wait",
            unit="s",
            description="How long requests waited for their turn.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )
        self._durations = meter.create_histogram(
            "finetuning.generation.duration",
            unit="s",
            description="From acceptance until the end was seen.",
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
            description="Credits left, as the last accepted create said.",
        )

    def count(self, event: Event) -> None:
        """Move what an event moves."""
        if isinstance(event, ResponseReceived):
            if event.status == 429:
                self._refusals.add(1, {"finetuning.code": event.code or "unknown"})
        elif isinstance(event, RateLimitWaited):
            self._turns.record(event.duration, {"finetuning.budget": event.budget})
        elif isinstance(event, GenerationAccepted):
            self._accepted(event)
        elif isinstance(event, GenerationEnded) and event.duration is not None:
            facts = {"finetuning.kind": event.kind, "finetuning.status": event.status}
            self._durations.record(event.duration, facts)

    def _accepted(self, event: GenerationAccepted) -> None:
        if event.kind != "sound_effect":  # those are counted by the day
            self._used.add(1, {"finetuning.kind": event.kind})
        if event.credits_remaining is not None:
            self._remaining.set(event.credits_remaining)
