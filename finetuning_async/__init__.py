"""The async client of the finetuning.ai music API.

    async with AsyncClient() as client:
        track = await client.generate("lofi chill piano night", duration=120)
        await client.download(track, "night.mp3")

The package, from the top down. A line may import from the lines below it, and enters a
folder through its `__init__`, whose docstring lists the files and explains the terms:

    cli, demo                 the program `finetuning`; a web page that makes music
    fastapi, procrastinate    for backends that await tracks; batches on many machines
    sync                      a blocking client
    testing                   fixtures and virtual time for your own tests
    emulator                  the whole service on your machine; imports nothing of ours
    batch, webhooks, otel     durable batches; webhooks; spans and metrics
    shared, redis, postgres   an account's limits for several processes or machines
    _client                   AsyncClient
    _resources                its methods
    _session                  a client bound to its event loop
    journal                   what was asked for and what became of it, durable
    _submission               creating a track, paid once
    _polling                  watching tracks: one poll loop for all waiters
    _downloads                fetching files
    _http                     requests on the wire
    _coordination             limits and polling that several processes share
    _pacing                   when a request may go out
    _api                      the service's messages as values
    _runtime                  shielding, wakeups, threads, timers
    _credentials              the API key that `finetuning auth login` stored
    _errors, _events, ...     what all of them use

Where to read what happens, file by file:

`generate`, from its arguments to the socket and back:
    `_resources._track_methods` makes a request, `_session._session` checks it and draws
    its seed, `_submission._submitter` sends it once. For that it waits in
    `_session._waits` for a slot in the service's queue (`_pacing._in_flight`) and makes
    the attempt in a child task (`_runtime._shielding`): once a byte has left, a
    cancellation still gives it 5 s. There `_http._pipeline` takes a permit
    (`_pacing._limiter`, by default as `_coordination._process_limiter` extends it) and
    sends by `_http._transport` over a client of `_http._http_clients`.
    `_submission._acceptance` reads the id, which is claimed (`_pacing._in_flight`)
    before anything else happens. The wait for the end is the next path.

`wait_for_completion`, from the id to the list page:
    `_session._waits` registers a waiter in `_polling._poller`, whose driver is one of
    the waiters. `_polling._watch_list` knows when a track is due (`_schedule`),
    `_reader` takes a permit, `_read_planner` chooses a page or a ``GET``,
    `_http._pipeline` sends it, `_dispatch` passes what it shows to the waiters.

A 429:
    `_http._pipeline` reports it to the permit, and that to `_pacing._limiter`;
    `_rate_codes` says which rate budget it means; `_pacing._rate_budget` closes the
    gate of that one (`_retry_after_gate`); `_http._retry` repeats the request, which
    waits in `_pacing._wait_queue` until the gate opens. ``QUEUE_FULL`` closes no gate:
    `_submission._submitter` waits for another slot in the service's queue.

A lost response:
    `_http._delivery` knows whether a byte left. If so, `_submission._submitter` does
    not repeat the create but starts `_submission._recovery`, which reads lists
    (`_listing`) and compares rows (`_matching`) until the track is found, or proved
    absent, or neither can be expected any more.

A permit from Redis:
    `_coordination._shared_limiter` asks `_store_client`, which makes one exchange
    (`_exchange`) for all requests of the event loop: `redis._store` replaces the
    account's state by compare-and-set, `_shared_ledger` decides with the rules of
    `_pacing._rate_budget`.
"""

TYPE_CHECKING = False  # `typing` takes longer to import than all of this
if TYPE_CHECKING:
    from finetuning_async._api import (
        Account as Account,
        BulkFailure as BulkFailure,
        BulkResult as BulkResult,
        CompletedOutcome as CompletedOutcome,
        FailedOutcome as FailedOutcome,
        Generation as Generation,
        GenerationParameters as GenerationParameters,
        GenerationRequest as GenerationRequest,
        Health as Health,
        InstrumentalRequest as InstrumentalRequest,
        Outcome as Outcome,
        Page as Page,
        Playlist as Playlist,
        PlaylistTrack as PlaylistTrack,
        RawResponse as RawResponse,
        ResponseFacts as ResponseFacts,
        SoundEffect as SoundEffect,
        SoundEffectRequest as SoundEffectRequest,
    )
    from finetuning_async._client import AsyncClient as AsyncClient
    from finetuning_async._credentials import stored_key as stored_key
    from finetuning_async._downloads import AudioStream as AudioStream
    from finetuning_async._errors import (
        APIConnectionError as APIConnectionError,
        APIResponseError as APIResponseError,
        APIStatusError as APIStatusError,
        APITimeoutError as APITimeoutError,
        AuthenticationError as AuthenticationError,
        BadRequestError as BadRequestError,
        BudgetExceededError as BudgetExceededError,
        CapacityError as CapacityError,
        ClientClosedError as ClientClosedError,
        FinetuningError as FinetuningError,
        GenerationFailedError as GenerationFailedError,
        IdempotencyConflictError as IdempotencyConflictError,
        InsufficientCreditsError as InsufficientCreditsError,
        InternalServerError as InternalServerError,
        InvalidRequestError as InvalidRequestError,
        NotFoundError as NotFoundError,
        PermissionDeniedError as PermissionDeniedError,
        QueueFullError as QueueFullError,
        RateLimitError as RateLimitError,
        SubmissionUnknownError as SubmissionUnknownError,
        WaitTimeoutError as WaitTimeoutError,
        WebhookVerificationError as WebhookVerificationError,
    )
    from finetuning_async._events import (
        CreateWaiting as CreateWaiting,
        Event as Event,
        GenerationAccepted as GenerationAccepted,
        GenerationEnded as GenerationEnded,
        LoadChanged as LoadChanged,
        RateLimited as RateLimited,
        RateLimitWaited as RateLimitWaited,
        RequestFailed as RequestFailed,
        RequestSent as RequestSent,
        ResponseReceived as ResponseReceived,
        RetryScheduled as RetryScheduled,
        SubmissionUnknown as SubmissionUnknown,
    )
    from finetuning_async._http import capture_responses as capture_responses
    from finetuning_async._pacing import (
        Budget as Budget,
        BudgetStatus as BudgetStatus,
        LocalRateLimiter as LocalRateLimiter,
        RateLimit as RateLimit,
        RateLimiter as RateLimiter,
        RateLimits as RateLimits,
        RateLimitStatus as RateLimitStatus,
        RatePermit as RatePermit,
    )
    from finetuning_async._resources import (
        ClientJournal as ClientJournal,
        Generations as Generations,
        Instrumentals as Instrumentals,
        Listing as Listing,
        Outcomes as Outcomes,
        Playlists as Playlists,
        SoundEffects as SoundEffects,
    )
    from finetuning_async._session import (
        Estimate as Estimate,
        Progress as Progress,
    )
    from finetuning_async._types import (
        Kind as Kind,
        KnownStatus as KnownStatus,
        Language as Language,
        MusicalKey as MusicalKey,
        Priority as Priority,
        Scale as Scale,
        Status as Status,
        TimeSignature as TimeSignature,
        Track as Track,
    )
    from finetuning_async._version import __version__ as __version__
else:
    from finetuning_async._lazy import lazy_exports

    # So that ``finetuning --help`` does not wait for the client.
    __getattr__ = lazy_exports(
        __name__,
        {
            "._api": (
                "Account",
                "BulkFailure",
                "BulkResult",
                "CompletedOutcome",
                "FailedOutcome",
                "Generation",
                "GenerationParameters",
                "GenerationRequest",
                "Health",
                "InstrumentalRequest",
                "Outcome",
                "Page",
                "Playlist",
                "PlaylistTrack",
                "RawResponse",
                "ResponseFacts",
                "SoundEffect",
                "SoundEffectRequest",
            ),
            "._client": ("AsyncClient",),
            "._credentials": ("stored_key",),
            "._downloads": ("AudioStream",),
            "._errors": (
                "APIConnectionError",
                "APIResponseError",
                "APIStatusError",
                "APITimeoutError",
                "AuthenticationError",
                "BadRequestError",
                "BudgetExceededError",
                "CapacityError",
                "ClientClosedError",
                "FinetuningError",
                "GenerationFailedError",
                "IdempotencyConflictError",
                "InsufficientCreditsError",
                "InternalServerError",
                "InvalidRequestError",
                "NotFoundError",
                "PermissionDeniedError",
                "QueueFullError",
                "RateLimitError",
                "SubmissionUnknownError",
                "WaitTimeoutError",
                "WebhookVerificationError",
            ),
            "._events": (
                "CreateWaiting",
                "Event",
                "GenerationAccepted",
                "GenerationEnded",
                "LoadChanged",
                "RateLimitWaited",
                "RateLimited",
                "RequestFailed",
                "RequestSent",
                "ResponseReceived",
                "RetryScheduled",
                "SubmissionUnknown",
            ),
            "._http": ("capture_responses",),
            "._pacing": (
                "Budget",
                "BudgetStatus",
                "LocalRateLimiter",
                "RateLimit",
                "RateLimitStatus",
                "RateLimiter",
                "RateLimits",
                "RatePermit",
            ),
            "._resources": (
                "ClientJournal",
                "Generations",
                "Instrumentals",
                "Listing",
                "Outcomes",
                "Playlists",
                "SoundEffects",
            ),
            "._session": ("Estimate", "Progress"),
            "._types": (
                "Kind",
                "KnownStatus",
                "Language",
                "MusicalKey",
                "Priority",
                "Scale",
                "Status",
                "TimeSignature",
                "Track",
            ),
            "._version": ("__version__",),
        },
    )

__all__ = [
    "APIConnectionError",
    "APIResponseError",
    "APIStatusError",
    "APITimeoutError",
    "Account",
    "AsyncClient",
    "AudioStream",
    "AuthenticationError",
    "BadRequestError",
    "Budget",
    "BudgetExceededError",
    "BudgetStatus",
    "BulkFailure",
    "BulkResult",
    "CapacityError",
    "ClientClosedError",
    "ClientJournal",
    "CompletedOutcome",
    "CreateWaiting",
    "Estimate",
    "Event",
    "FailedOutcome",
    "FinetuningError",
    "Generation",
    "GenerationAccepted",
    "GenerationEnded",
    "GenerationFailedError",
    "GenerationParameters",
    "GenerationRequest",
    "Generations",
    "Health",
    "IdempotencyConflictError",
    "InstrumentalRequest",
    "Instrumentals",
    "InsufficientCreditsError",
    "InternalServerError",
    "InvalidRequestError",
    "Kind",
    "KnownStatus",
    "Language",
    "Listing",
    "LoadChanged",
    "LocalRateLimiter",
    "MusicalKey",
    "NotFoundError",
    "Outcome",
    "Outcomes",
    "Page",
    "PermissionDeniedError",
    "Playlist",
    "PlaylistTrack",
    "Playlists",
    "Priority",
    "Progress",
    "QueueFullError",
    "RateLimit",
    "RateLimitError",
    "RateLimitStatus",
    "RateLimitWaited",
    "RateLimited",
    "RateLimiter",
    "RateLimits",
    "RatePermit",
    "RawResponse",
    "RequestFailed",
    "RequestSent",
    "ResponseFacts",
    "ResponseReceived",
    "RetryScheduled",
    "Scale",
    "SoundEffect",
    "SoundEffectRequest",
    "SoundEffects",
    "Status",
    "SubmissionUnknown",
    "SubmissionUnknownError",
    "TimeSignature",
    "Track",
    "WaitTimeoutError",
    "WebhookVerificationError",
    "__version__",
    "capture_responses",
    "stored_key",
]


def __dir__() -> list[str]:
    return [*globals(), *__all__]
