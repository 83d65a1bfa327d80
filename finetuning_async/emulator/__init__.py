"""An emulator of the whole finetuning.ai service, which costs nothing.

    import httpx
    from finetuning_async.emulator import Emulator

    async with Emulator() as emulator:
        async with httpx.AsyncClient(transport=emulator.transport()) as http:
            client = AsyncClient(emulator.api_key, http_client=http)
            await client.generate("lofi chill piano night")

A Starlette app responds, in-process through an httpx transport or on a port with
uvicorn; MP3s are rendered in the requested tempo, key and length. It imports nothing
else of this package, so that it can testify against it.

    _serve           the emulator on a port
    _emulator        Emulator: what callers hold
    _manual_control  its part that works on tracks, playlists and the clock
    _transport       the in-process network for httpx; _in_process: one request
    _webhooks        one delivery when a job ends
    _middleware      network delays, faults, the request log
    _admin           the control API under ``/_emulator/``, over HTTP
    _control         ready-made tracks, other ends, a seed; _fields: attributes as JSON
    _state           the state as rows; _state_dir: kept through restarts
    _app             routes; handlers: _generations, _sound_effects, _playlists, _media
    _service         the state, and the checks of every request
    _rate_limiters   six ways to count requests
    _faults          what may go wrong
    _audio           MP3s; _synthesizer makes the music, _mp3 encodes it
    _payloads        records as JSON; _records, _validation, _errors, _clock
    _settings        EmulatorSettings; _keys: what can be an API key

How far to trust it:

================================  ============  =====================================
Behaviour                         Known from    Here
================================  ============  =====================================
Create: fields, ranges, 202       documented    as documented
Codes and their statuses          documented    as documented; messages are ours
Create 10/min, all else 60/min    documented    per account; a bulk request counts once
X-RateLimit-*, Retry-After        documented    on every response, switchable; none on
                                                /health; all remains on a 401
retryAfter in the body            vendor's CLI  beside the header, switchable
Window kind, its phase            our choice    fixed, 60 s; five other kinds
Refused requests count            our choice    no, switchable; other errors do
                                                once key and plan are right
Order of checks                   our choice    key, plan, rate, body, credits, queue
QUEUE_FULL                        documented    at 5 jobs, without a hint
One credit per track              documented    monthly first, then the pack
Refund of failed tracks           our choice    no, switchable
createdAt, completedAt formats    documented    three spellings, as documented
timesignature string, number      documented    string on create, number on reads
Null before the end               our choice    duration, completedAt, generationTime
duration of music                 documented    whole seconds in reads, a fraction in
                                                webhooks; effects have fractions
details.field                     vendor's CLI  the name of the parameter
API keys                          documented    ft_live_ and any 32 characters
keyscale when not asked for       our choice    a chosen one; language is null
Ids                               documented    UUIDs; each kind has its own series
Out-of-range numbers              documented    400, or put into range
List: paging, filters             vendor's CLI  1 to 99, newest first
Bulk delete                       documented    as documented; repeats fail
Playlists, privacy, item texts    documented    one text is ours
Unknown playlist on add, move     our choice    400 with a text per item
Instrumentals, sound effects      vendor's CLI  snapping to 15 s and 0.5 s
Daily cap of effects              vendor's CLI  100; 429 DAILY_LIMIT_REACHED
Budget of those two creates       our choice    60/min, switchable
Webhook once, bare body           documented    at the end, no second try
Webhook for a deleted job         our choice    none
Webhook to this machine           our choice    allowed, http too, switchable; to
                                                named hosts when they are listed
audioUrl                          documented    at the host of the request that reads it
Media: MP3, ranges, permanence    our choice    audio/mpeg, ranges, 404 if deleted
Generation time                   our choice    20 to 120 s, evenly spread; pending for
                                                1 s of it at most
Wrong path or method              our choice    404 NOT_FOUND, counted nowhere
Bodies over 64 KiB                our choice    413
X-Emulator: 1 on every response   our choice    so that it is not mistaken for real
================================  ============  =====================================
"""

from __future__ import annotations

try:
    import lameenc as _lameenc  # noqa: F401 - only to see that it is there
    import starlette as _starlette  # noqa: F401 - only to see that it is there
    import uvicorn as _uvicorn  # noqa: F401 - only to see that it is there
except ImportError as _missing:
    _HINT = (
        f"the emulator needs {_missing.name}: pip install 'finetuning-async[emulator]'"
    )
    raise ImportError(_HINT, name=_missing.name) from _missing

from finetuning_async.emulator._emulator import Emulator
from finetuning_async.emulator._faults import Action, Fault
from finetuning_async.emulator._rate_limiters import WindowKind
from finetuning_async.emulator._records import (
    Account,
    Job,
    LedgerEntry,
    RateLimit,
    RateLimits,
    RequestRecord,
    WebhookRecord,
)
from finetuning_async.emulator._serve import serve
from finetuning_async.emulator._settings import EmulatorSettings

__all__ = [
    "Account",
    "Action",
    "Emulator",
    "EmulatorSettings",
    "Fault",
    "Job",
    "LedgerEntry",
    "RateLimit",
    "RateLimits",
    "RequestRecord",
    "WebhookRecord",
    "WindowKind",
    "serve",
]
