"""OpenTelemetry: spans of generate, create, wait and download, and metrics.

    from finetuning_async.otel import OpenTelemetry

    async with AsyncClient(on_event=OpenTelemetry()) as client:
        await client.generate("rain on a tin roof")

It needs only OpenTelemetry's API; unless the application sets up an SDK, nothing is
recorded. Spans are made current, so the requests that the instrumentation of httpx
traces become their children; this wing makes no span of a request. A read of the poll
loop belongs to the wait that drives the loop at that moment. `AsyncClient.watch` has no
span: a generator cannot keep one current, because the code between its states runs in
the caller's context.

    finetuning.generate                  the whole call
      finetuning.create                  until it is accepted; seed, attempts, credits
      finetuning.wait                    until its end; the status
    finetuning.download

Retries, waits for the rate limit, 429s and lost responses are events of the span that
they delay. The metrics:

    finetuning.refusals                  responses with status 429, by code
    finetuning.rate_limit.wait           seconds waited for the rate limit, by budget;
                                         `queue` is the service's own queue
    finetuning.generation.duration       seconds from acceptance to the end, by status
    finetuning.credits.used              one for each accepted music or instrumental
    finetuning.credits.remaining         as reported by the last accepted create

Neither contains prompts, unless `record_prompts` is set, and never lyrics. The files:

    _telemetry   `OpenTelemetry`, the callback for `on_event`
    _spans       spans of calls, nested as the calls are
    _metrics     counters, histograms and a gauge, moved by events
"""

from __future__ import annotations

try:
    import opentelemetry.trace as _trace  # noqa: F401 - only to see that it is installed
except ImportError as _missing:
    _HINT = (
        f"finetuning_async.otel needs {_missing.name}:"
        " pip install 'finetuning-async[otel]'"
    )
    raise ImportError(_HINT, name=_missing.name) from _missing

from finetuning_async.otel._telemetry import OpenTelemetry

__all__ = ["OpenTelemetry"]
