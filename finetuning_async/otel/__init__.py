"""OpenTelemetry: spans of generate, create, wait and download, and metrics.

    from finetuning_async.otel import OpenTelemetry

    async with AsyncClient(on_event=OpenTelemetry()) as client:
        await client.generate("rain on a tin roof")

It needs the API of OpenTelemetry alone; without an SDK set up by the application,
nothing is recorded. Spans are made the current ones, so the requests that the
instrumentation of httpx traces are their children; no span of a request is made here.
A read of the poll loop belongs to the waiter that drives it. `AsyncClient.watch` has no
span: a generator cannot keep one current.

    finetuning.generate                  the whole call
      finetuning.create                  until it is accepted; seed, attempts, credits
      finetuning.wait                    until its end; the status
    finetuning.download

Retries, turns, gates and doubts are events of the span they delay. The metrics:

    finetuning.refusals                  answers with status 429, by code
    finetuning.turn.wait                 seconds, by budget; `queue` is the service's
    finetuning.generation.duration       seconds from acceptance to the end, by status
    finetuning.credits.used              one for each accepted music or instrumental
    finetuning.credits.remaining         as the last accepted create said

Prompts are in neither, unless `record_prompts` is set; lyrics never are.
`_spans` makes the spans, `_metrics` counts.
"""

from __future__ import annotations

try:
    import opentelemetry.trace as _trace  # noqa: F401 - only to see that it is there
except ImportError as _missing:
    _HINT = (
        f"finetuning_async.otel needs {_missing.name}:"
        " pip install 'finetuning-async[otel]'"
    )
    raise ImportError(_HINT, name=_missing.name) from _missing

from finetuning_async.otel._telemetry import OpenTelemetry

__all__ = ["OpenTelemetry"]
