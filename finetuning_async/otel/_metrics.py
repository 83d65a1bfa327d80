"""Metrics: counters, histograms and gauges, updated by the client's events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from finetuning_async._api import PRIORITIES
from finetuning_async._events import (
    GenerationAccepted,
    GenerationEnded,
    LoadChanged,
    RateLimitWaited,
    RequestSent,
    ResponseReceived,
    SubmissionUnknown,
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
        self._lateness = meter.create_histogram(
            "finetuning.notice.lateness",
            unit="s",
            description="Time from the end of a track until it was seen, at most.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )
        self._given_up = meter.create_counter(
            "finetuning.creates.given_up",
            unit="{create}",
            description="Creates whose outcome could not be learned.",
        )
        self._load = _LoadGauges(meter)

    def count(self, event: Event) -> None:
        """Update the instruments for an event."""
        if isinstance(event, ResponseReceived):
            if event.status == 429:
                self._refusals.add(1, {"finetuning.code": event.code or "unknown"})
        elif isinstance(event, RateLimitWaited):
            self._waits.record(event.duration, {"finetuning.budget": event.budget})
        elif isinstance(event, GenerationAccepted):
            self._accepted(event)
        elif isinstance(event, GenerationEnded):
            self._ended(event)
        elif isinstance(event, SubmissionUnknown):
            if event.given_up:
                self._given_up.add(1, {"finetuning.kind": event.kind})
        elif isinstance(event, LoadChanged):
            self._load.set(event)
        elif isinstance(event, RequestSent):
            self._load.set_free(event.budget, event.available)

    def _ended(self, event: GenerationEnded) -> None:
        facts = {"finetuning.kind": event.kind, "finetuning.status": event.status}
        if event.duration is not None:
            self._durations.record(event.duration, facts)
        if event.noticed_after is not None:
            self._lateness.record(event.noticed_after, facts)

    def _accepted(self, event: GenerationAccepted) -> None:
        if event.kind != "sound_effect":  # free, but limited per day
            self._used.add(1, {"finetuning.kind": event.kind})
        if event.credits_remaining is not None:
            self._remaining.set(event.credits_remaining)


class _LoadGauges:
    """What waits and is in progress, and what could be sent, when it last changed."""

    def __init__(self, meter: Meter) -> None:
        self._waiting = meter.create_gauge(
            "finetuning.creates.waiting",
            unit="{create}",
            description="Creates that wait for the rate limit or the service's queue.",
        )
        self._in_flight = meter.create_gauge(
            "finetuning.tracks.in_flight",
            unit="{track}",
            description="Accepted tracks that have not been seen to end.",
        )
        self._in_doubt = meter.create_gauge(
            "finetuning.creates.in_doubt",
            unit="{create}",
            description="Creates being looked up because their response was lost.",
        )
        self._free = meter.create_gauge(
            "finetuning.permits.free",
            unit="{permit}",
            description="Requests that could be sent when one was last sent or ended.",
        )

    def set(self, event: LoadChanged) -> None:
        """Take over a load."""
        for priority in PRIORITIES:
            waiting = getattr(event, f"waiting_{priority}")
            self._waiting.set(waiting, {"finetuning.priority": priority})
        self._in_flight.set(event.in_flight)
        self._in_doubt.set(event.in_doubt)
        self.set_free("creates", event.creates_free)
        self.set_free("reads", event.reads_free)

    def set_free(self, budget: str, permits: int | None) -> None:
        """Take over the free permits of a rate budget, if it is one and has a limit."""
        if permits is not None and budget in ("creates", "reads"):
            self._free.set(permits, {"finetuning.budget": budget})
