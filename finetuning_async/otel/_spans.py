"""Spans of a client's calls, nested as the calls are.

Our innermost span is kept in a context variable of our own. OpenTelemetry's current
span may be another one: that of a request, made by the instrumentation of httpx, or one
that the application has put around a call that has no span here. An event of ours must
not be added to those.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

import attrs
from opentelemetry import trace
from opentelemetry.trace import Span, Status, StatusCode

from finetuning_async._events import (
    GenerationAccepted,
    RateLimited,
    RateLimitWaited,
    RetryScheduled,
    SubmissionUnknown,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from opentelemetry.trace import Tracer

    from finetuning_async._event_hook import Operation
    from finetuning_async._events import Event

SPAN_EVENTS: Final = {
    RetryScheduled: "finetuning.retry_scheduled",
    RateLimitWaited: "finetuning.rate_limit_waited",
    RateLimited: "finetuning.rate_limited",
    SubmissionUnknown: "finetuning.submission_unknown",
}
"""The events that explain a delay, and their names in the span of the delayed call."""


@attrs.frozen(eq=False)
class _Frame:
    """One of our spans that has not ended, and the one of ours around it."""

    span: Span
    outer: _Frame | None

    def set_result(self, result: Any) -> None:
        """Record the track's status."""
        status: str = result.status
        self.span.set_attribute("finetuning.generation.status", status)
        if status == "failed":
            self.span.set_status(Status(StatusCode.ERROR, "the track failed"))


_frame: ContextVar[_Frame | None] = ContextVar("finetuning_async.otel", default=None)


class Spans:
    """Creates the spans.

    Args:
        tracer: Starts them.
        record_prompts: Whether they contain prompts.
    """

    def __init__(self, tracer: Tracer, *, record_prompts: bool) -> None:
        self._tracer = tracer
        self._record_prompts = record_prompts

    @contextmanager
    def around(self, operation: Operation) -> Generator[Callable[[Any], None]]:
        """Trace one call, in a ``with`` block.

        It must be entered and left in the same context. A context variable can only be
        reset, and OpenTelemetry's current span only be detached, in the context that
        set it: a generator that the garbage collector closes runs in another one. So
        only coroutines are traced, and `AsyncClient.watch` is not.
        """
        span = self._tracer.start_span(
            f"finetuning.{operation.name}", attributes=self._attributes(operation)
        )
        frame = _Frame(span, _frame.get())
        token = _frame.set(frame)
        try:
            # An error's message may quote the prompt, so OpenTelemetry must not record
            # the exception; `_record_error` records its class.
            with trace.use_span(
                span,
                end_on_exit=True,
                record_exception=False,
                set_status_on_exception=False,
            ):
                try:
                    yield frame.set_result
                except BaseException as error:
                    _record_error(span, error)
                    raise
        finally:
            _frame.reset(token)

    def _attributes(self, operation: Operation) -> dict[str, str | float]:
        attributes = {
            "finetuning.kind": operation.kind,
            "finetuning.requested_duration": operation.duration,
            "finetuning.generation.id": operation.track_id,
            "finetuning.prompt": operation.prompt if self._record_prompts else None,
        }
        return {name: value for name, value in attributes.items() if value is not None}

    @staticmethod
    def record(event: Event) -> None:
        """Add an event to our innermost span, if there is one."""
        frame = _frame.get()
        if frame is None:
            return
        if isinstance(event, GenerationAccepted):
            _record_accepted(frame, event)
        elif type(event) in SPAN_EVENTS:
            frame.span.add_event(SPAN_EVENTS[type(event)], _facts(event))


def _record_accepted(frame: _Frame, event: GenerationAccepted) -> None:
    facts = {
        "finetuning.generation.id": event.generation_id,
        "finetuning.seed": event.seed,
        "finetuning.attempts": event.attempts,
        "finetuning.adopted": event.adopted,
        "finetuning.credits.remaining": event.credits_remaining,
    }
    for name, value in facts.items():
        if value is not None:
            frame.span.set_attribute(name, value)
    if frame.outer is not None:
        frame.outer.span.set_attribute("finetuning.generation.id", event.generation_id)


def _facts(event: Event) -> dict[str, Any]:
    facts = attrs.asdict(event, recurse=False)
    del facts["at"]  # the loop's clock has no meaning outside the process
    return {f"finetuning.{name}": v for name, v in facts.items() if v is not None}


def _record_error(span: Span, error: BaseException) -> None:
    span.set_attribute("error.type", type(error).__name__)
    if isinstance(error, Exception):  # a cancellation is not an error
        code = getattr(error, "code", None)
        if code is not None:
            span.set_attribute("finetuning.code", code)
        span.set_status(Status(StatusCode.ERROR, type(error).__name__))
