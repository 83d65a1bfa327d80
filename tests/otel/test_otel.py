"""Spans and metrics, as OpenTelemetry's SDK receives them."""

from __future__ import annotations

import subprocess
import sys
from contextlib import asynccontextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricsData
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from finetuning_async import (
    AsyncClient,
    GenerationFailedError,
    GenerationRequest,
    SubmissionUnknownError,
    __version__,
)
from finetuning_async._event_hook import Hook, TakesOperations
from finetuning_async.emulator import Emulator, Fault
from finetuning_async.otel import OpenTelemetry
from tests._emulated_client import emulated, short
from tests._secret_canary import HOOK, KEY, assert_clean
from tests.otel._creates import CREATE, REFUSAL, complete_one_and_fail_one

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from opentelemetry.sdk.trace import ReadableSpan

pytestmark = pytest.mark.sampled(2)


class Telemetry:
    """Everything that an application's SDK receives."""

    def __init__(self, **options: Any) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._reader = InMemoryMetricReader()
        self.callback = OpenTelemetry(
            tracer_provider=self.tracers,
            meter_provider=MeterProvider([self._reader]),
            **options,
        )

    def spans(self, name: str = "") -> list[ReadableSpan]:
        """The ended spans, in the order in which they started."""
        ended = self._exporter.get_finished_spans()
        found = [span for span in ended if span.name.endswith(name)]
        return sorted(found, key=lambda span: span.start_time or 0)

    def span(self, name: str) -> ReadableSpan:
        (only,) = self.spans(name)
        return only

    def parent_of(self, span: ReadableSpan) -> str | None:
        names = {one.context.span_id: one.name for one in self.spans() if one.context}
        return None if span.parent is None else names[span.parent.span_id]

    @cached_property
    def metrics(self) -> MetricsData | None:
        """Everything measured until the first call of this."""
        return self._reader.get_metrics_data()

    def points(self, name: str) -> list[Any]:
        assert self.metrics is not None
        return [
            point
            for resource in self.metrics.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]

    def everything(self) -> str:
        metrics = "" if self.metrics is None else self.metrics.to_json()
        return metrics + "".join(span.to_json() for span in self.spans())


def _facts(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


@asynccontextmanager
async def traced(
    telemetry: Telemetry, emulator: Emulator | None = None
) -> AsyncGenerator[tuple[Emulator, AsyncClient]]:
    """A client whose requests are also traced by the instrumentation of httpx."""
    async with emulator or short() as service:
        async with httpx.AsyncClient(transport=service.transport()) as http:
            HTTPXClientInstrumentor.instrument_client(
                http, tracer_provider=telemetry.tracers
            )
            async with AsyncClient(
                service.api_key,
                base_url=service.base_url,
                http_client=http,
                rate_limits=service.rate_limits,
                on_event=telemetry.callback,
            ) as client:
                yield service, client


async def test_spans_nest_as_calls_do_and_requests_are_traced_once(
    tmp_path: Path,
) -> None:
    telemetry = Telemetry()
    async with traced(telemetry) as (emulator, client):
        track = await client.generate("x", duration=30)
        await client.download(track, tmp_path / "x.mp3")
        requests = len(emulator.requests)
    parents = {span.name: telemetry.parent_of(span) for span in telemetry.spans()}
    assert parents == {
        "finetuning.generate": None,
        "finetuning.create": "finetuning.generate",
        "finetuning.wait": "finetuning.generate",
        "finetuning.download": None,
        "POST": "finetuning.create",
        "GET": "finetuning.download",
    }
    assert len([s for s in telemetry.spans() if s.name in ("GET", "POST")]) == requests
    assert {telemetry.parent_of(span) for span in telemetry.spans("GET")} == {
        "finetuning.wait",
        "finetuning.download",
    }
    for name in ("generate", "create", "wait", "download"):
        span = telemetry.span(name)
        assert _facts(span)["finetuning.generation.id"] == track.id
        assert span.status.status_code is StatusCode.UNSET
        assert span.instrumentation_scope is not None
        assert span.instrumentation_scope.version == __version__
    assert (
        _facts(telemetry.span("generate"))["finetuning.generation.status"]
        == "completed"
    )
    created = _facts(telemetry.span("create"))
    assert created["finetuning.kind"] == "music"
    assert created["finetuning.requested_duration"] == 30
    assert created["finetuning.attempts"] == 1
    assert created["finetuning.adopted"] is False


async def test_each_of_many_tracks_has_its_own_spans() -> None:
    telemetry = Telemetry()
    async with emulated(short(queue_size=5), on_event=telemetry.callback) as (
        _,
        client,
    ):
        requests = [GenerationRequest(f"n {number}") for number in range(4)]
        async with client.generate_many(requests) as outcomes:
            ids = {o.generation.id async for o in outcomes if o.generation is not None}
    for name in ("create", "wait"):
        spans = telemetry.spans(name)
        assert {_facts(span)["finetuning.generation.id"] for span in spans} == ids
        assert all(span.parent is None for span in spans)


async def test_a_failed_track_and_a_lost_create_are_errors() -> None:
    telemetry = Telemetry()
    async with emulated(on_event=telemetry.callback) as (emulator, client):
        emulator.add_fault(Fault("fail", CREATE))
        with pytest.raises(GenerationFailedError):
            await client.generate("secret words")
        emulator.add_fault(Fault("lost_before_commit", CREATE))
        with pytest.raises(SubmissionUnknownError):
            await client.generations.create("secret words")
        whole, waited = telemetry.span("generate"), telemetry.span("wait")
        first, lost = telemetry.spans("create")
    assert first.status.status_code is StatusCode.UNSET
    for span, error in (
        (whole, "GenerationFailedError"),
        (lost, "SubmissionUnknownError"),
    ):
        assert span.status.status_code is StatusCode.ERROR
        assert _facts(span)["error.type"] == error
    assert waited.status.status_code is StatusCode.ERROR
    (failed,) = {_facts(s)["finetuning.generation.id"] for s in (whole, first, waited)}
    assert emulator.status(failed) == "failed"
    assert [event.name for event in lost.events] == [
        "finetuning.submission_unknown"
    ] * 2
    assert "secret words" not in telemetry.everything()


async def test_a_cancelled_call_ends_its_spans_without_an_error() -> None:
    telemetry = Telemetry()
    async with emulated(on_event=telemetry.callback) as (_, client):
        with anyio.move_on_after(2):
            await client.generate("x")
        assert (await client.health()).status == "ok"
    assert [span.name.partition(".")[2] for span in telemetry.spans()] == [
        "generate",
        "create",
        "wait",
    ]
    whole = telemetry.span("generate")
    assert whole.status.status_code is StatusCode.UNSET
    assert _facts(whole)["error.type"] in ("CancelledError", "Cancelled")


async def test_a_delay_is_an_event_of_the_delayed_call() -> None:
    telemetry = Telemetry()
    async with emulated(short(queue_size=1), on_event=telemetry.callback) as (
        emulator,
        client,
    ):
        emulator.add_fault(REFUSAL)
        await client.generations.create("x")
        await client.generations.create("y")
        await client.me()  # has no span, and is no event of another
    first, second = telemetry.spans("create")
    assert [event.name.partition(".")[2] for event in first.events] == [
        "rate_limited",
        "retry_scheduled",
        "rate_limit_waited",
    ]
    assert [event.name.partition(".")[2] for event in second.events] == [
        "rate_limited",
        "rate_limit_waited",
    ]
    closed = dict(first.events[0].attributes or {})
    assert closed["finetuning.code"] == REFUSAL.code
    assert "finetuning.at" not in closed


async def test_metrics_count_refusals_waits_ends_and_credits() -> None:
    telemetry = Telemetry()
    async with emulated(short(queue_size=1), on_event=telemetry.callback) as (
        emulator,
        client,
    ):
        await complete_one_and_fail_one(emulator, client)
        await client.sound_effects.create("z")
        left = (await client.me()).total_remaining
    (refused,) = telemetry.points("finetuning.refusals")
    facts = {"finetuning.code": REFUSAL.code}
    assert (refused.value, dict(refused.attributes)) == (1, facts)
    (wait,) = telemetry.points("finetuning.rate_limit.wait")
    assert dict(wait.attributes) == {"finetuning.budget": "creates"}
    assert 7 <= wait.sum < 8
    ends = telemetry.points("finetuning.generation.duration")
    assert {p.attributes["finetuning.status"] for p in ends} == {"completed", "failed"}
    assert all(1 < point.sum < 300 and point.count == 1 for point in ends)
    assert max(ends[0].explicit_bounds) == 1800
    (used,) = telemetry.points("finetuning.credits.used")
    assert (used.value, dict(used.attributes)) == (2, {"finetuning.kind": "music"})
    (remaining,) = telemetry.points("finetuning.credits.remaining")
    assert left is not None
    assert remaining.value in (left, left - 1)  # a failed track is refunded


async def test_prompts_are_recorded_if_asked_for_and_secrets_never() -> None:
    shown = {}
    for record_prompts in (False, True):
        telemetry = Telemetry(record_prompts=record_prompts)
        async with traced(telemetry) as (emulator, client):
            emulator.add_key(KEY)
            view = client.with_options(api_key=KEY)
            await view.generate("rainy words", lyrics="sung words", webhook=HOOK)
        shown[record_prompts] = telemetry.everything()
        assert_clean("the telemetry", shown[record_prompts])
        assert "sung words" not in shown[record_prompts]
    assert "rainy words" not in shown[False]
    assert shown[True].count("rainy words") == 2


async def test_a_callback_that_fails_to_trace_does_not_end_the_call(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(TakesOperations):
        def __call__(self, event: object) -> None:
            pass

        def operation(self, operation: object) -> Any:
            raise RuntimeError("of the callback")

    async with emulated(on_event=Broken()) as (_, client):
        assert (await client.generate("x")).status == "completed"
    assert caplog.text.count("on_event raised an exception") == 1


def test_a_missing_extra_is_named_and_no_sdk_is_needed() -> None:
    script = (
        "import sys\n"
        "from finetuning_async.otel import OpenTelemetry\n"
        "OpenTelemetry()\n"
        "print([name for name in sys.modules if 'opentelemetry.sdk' in name])\n"
        "for name in [n for n in sys.modules if 'otel' in n or 'opentel' in n]:\n"
        "    del sys.modules[name]\n"
        "sys.modules['opentelemetry'] = None\n"
        "try:\n"
        "    import finetuning_async.otel\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded, message = done.stdout.splitlines()
    assert loaded == "[]"
    assert "pip install 'finetuning-async[otel]'" in message
    assert repr(Hook(OpenTelemetry())) == "<Hook <OpenTelemetry>>"
