"""Spans of what a client is asked to do, nested as the calls are.

Which of ours is the current one is kept apart from OpenTelemetry's own, whose current
span may be somebody else's: a request of the instrumentation of httpx, or one of the
application's around a call that has none here.
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

NOTED: Final = {
    RetryScheduled: "finetuning.retry_scheduled",
    RateLimitWaited: "finetuning.turn_awaited",
    RateLimited: "finetuning.gate_closed",
    SubmissionUnknown: "finetuning.create_unknown",
}
"""The events that say what delays a call, and what they are called in its span."""


@attrs.frozen(eq=False)
class _Frame:
    """A span of ours that runs, and the one of ours around it."""

    span: Span
    outer: _Frame | None

    def tell(self, result: Any) -> None:
        """Note what became of the track."""
        status: str = result.status
        self.span.set_attribute("finetuning.generation.status", status)
        if status == "failed":
            self.span.set_status(Status(StatusCode.ERROR, "the track failed"))


_frame: ContextVar[_Frame | None] = ContextVar("finetuning_async.otel", default=None)


class Spans:
    """Makes the spans.

    Args:
        tracer: Where they go.
        record_prompts: Whether they hold what was asked for.
    """

    def __init__(self, tracer: Tracer, *, record_prompts: bool) -> None:
        self._tracer = tracer
        self._record_prompts = record_prompts

    @contextmanager
    def around(self, operation: Operation) -> Generator[Callable[[Any], None]]:
        """Trace what is done in the block."""
        span = self._tracer.start_span(
            f"finetuning.{operation.name}", attributes=self._attributes(operation)
        )
        frame = _Frame(span, _frame.get())
        token = _frame.set(frame)
        try:
            # What an error says may quote the prompt: its class is noted, no more.
            with trace.use_span(
                span,
                end_on_exit=True,
                record_exception=False,
                set_status_on_exception=False,
            ):
                try:
                    yield frame.tell
                except BaseException as error:
                    _note_error(span, error)
                    raise
        finally:
            _frame.reset(token)

    def _attributes(self, operation: Operation) -> dict[str, str | float]:
        given = {
            "finetuning.kind": operation.kind,
            "finetuning.requested_duration": operation.duration,
            "finetuning.generation.id": operation.track_id,
            "finetuning.prompt": operation.prompt if self._record_prompts else None,
        }
        return {name: value for name, value in given.items() if value is not None}

    @staticmethod
    def note(event: Event) -> None:
        """Note an event in the span of ours that it belongs to, if there is one."""
        frame = _frame.get()
        if frame is None:
            return
        if isinstance(event, GenerationAccepted):
            _note_accepted(frame, event)
        elif type(event) in NOTED:
            frame.span.add_event(NOTED[type(event)], _facts(event))


def _note_accepted(frame: _Frame, event: GenerationAccepted) -> None:
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
    del facts["at"]  # the loop's clock means nothing elsewhere
    return {f"finetuning.{name}": v for name, v in facts.items() if v is not None}


def _note_error(span: Span, error: BaseException) -> None:
    span.set_attribute("error.type", type(error).__name__)
    if isinstance(error, Exception):  # a cancellation is no error of the call
        code = getattr(error, "code", None)
        if code is not None:
            span.set_attribute("finetuning.code", code)
        span.set_status(Status(StatusCode.ERROR, type(error).__name__))
