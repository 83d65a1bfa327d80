"""`OpenTelemetry`: the callback for a client's `on_event`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry import metrics, trace

from finetuning_async._event_hook import TakesOperations
from finetuning_async._version import __version__
from finetuning_async.otel._metrics import Metrics
from finetuning_async.otel._spans import Spans

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from finetuning_async._event_hook import Operation
    from finetuning_async._events import Event

SCOPE = "finetuning_async"


class OpenTelemetry(TakesOperations):
    """Spans and metrics of a client: a callback for its `on_event`.

    Args:
        tracer_provider: Receives the spans; the application's own by default.
        meter_provider: Receives the metrics; the application's own by default.
        record_prompts: Whether the spans of generates and creates contain the prompt.

    Example:
        from finetuning_async.otel import OpenTelemetry

        traced = client.with_options(on_event=OpenTelemetry(record_prompts=True))
        await traced.generate("rain on a tin roof")
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        record_prompts: bool = False,
    ) -> None:
        tracer = trace.get_tracer(SCOPE, __version__, tracer_provider)
        meter = metrics.get_meter(SCOPE, __version__, meter_provider)
        self._spans = Spans(tracer, record_prompts=record_prompts)
        self._metrics = Metrics(meter)

    def __repr__(self) -> str:
        return "<OpenTelemetry>"

    def __call__(self, event: Event) -> None:
        """Record an event of a client."""
        self._spans.record(event)
        self._metrics.count(event)

    def operation(
        self, operation: Operation
    ) -> AbstractContextManager[Callable[[Any], None]]:
        """Trace a call, in a ``with`` block that the client enters.

        The block gets a function, which is called with the call's result.

        Args:
            operation: The call: its `name`, and its `track_id` or what is created.

        Example:
            from types import SimpleNamespace
            from finetuning_async.otel import OpenTelemetry

            mine = SimpleNamespace(
                name="wait", kind=None, prompt=None, duration=None, track_id="gen_1"
            )
            with OpenTelemetry().operation(mine) as report:
                report(SimpleNamespace(status="completed"))
        """
        return self._spans.around(operation)
