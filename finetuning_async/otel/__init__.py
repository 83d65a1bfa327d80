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
    finetuning.creates.waiting           creates that wait for the rate limit or for the
                                         service's queue, by priority
    finetuning.creates.in_doubt          creates being looked up, their response lost
    finetuning.creates.given_up          creates whose outcome could not be learned
    finetuning.tracks.in_flight          accepted, and not seen to end
    finetuning.permits.free              requests that could be sent, by budget
    finetuning.notice.lateness           seconds, at most, from a track's end until it
                                         was seen, by status

The gauges (remaining, waiting, in_doubt, in_flight, free) hold the last value that an
event brought. They are of one account in one event loop: a program of several accounts
gives each its own `OpenTelemetry(meter_provider=...)`. The free permits are as of the
last request or change, and grow until the next one.

A dashboard of all metrics for Grafana, to be imported there, reads them from Prometheus
under the names that OpenTelemetry's exporter gives them. Its path:

    importlib.resources.files("finetuning_async.otel") / "grafana.json"

Neither contains prompts, unless `record_prompts` is set, and never lyrics. The files:

    _telemetry   `OpenTelemetry`, the callback for `on_event`
    _spans       spans of calls, nested as the calls are
    _metrics     counters, histograms and gauges, moved by events
    grafana.json the dashboard
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
