"""The async client of the finetuning.ai music API.

    async with AsyncClient() as client:
        track = await client.generate("lofi chill piano night", duration=120)
        await client.download(track, "night.mp3")

The package, from the top down; arrows between layers point down only:

    cli, demo                 the program `finetuning`; a page to make and hear music on
    fastapi                   for backends that await tracks
    testing                   fixtures and clocks for the tests of an application
    emulator                  the service, on your machine; imports nothing of the rest
    batch, webhooks           durable batches; webhook hints that a track has ended
    shared, redis, ...        rate limits shared by several processes or machines
    otel                      spans and metrics
    _client                   AsyncClient
    _resources, _session      its methods; a client bound to its event loop
    _waiting, _account        waits; what the clients of one key share
    _poller, _submit, _download
    _pipeline                 retry( gate( limit( send ) ) )
    _store_limiter            permits from a store, or a local share without it
    _transport, _limiter, _inflight, _retry
    _parsing, _token_bucket, _poll_schedule, ...   arithmetic: no clock, no network
    _models, _requests, _errors
"""

TYPE_CHECKING = False  # `typing` takes longer to import than all of this
if TYPE_CHECKING:
    from finetuning_async._api import (
        Account as Account,
        BulkFailure as BulkFailure,
        BulkResult as BulkResult,
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
    from finetuning_async._errors import (
        APIConnectionError as APIConnectionError,
        APIResponseError as APIResponseError,
        APIStatusError as APIStatusError,
        APITimeoutError as APITimeoutError,
        AuthenticationError as AuthenticationError,
        BadRequestError as BadRequestError,
        ClientClosedError as ClientClosedError,
        FinetuningError as FinetuningError,
        GenerationFailedError as GenerationFailedError,
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
        Event as Event,
        GenerationAccepted as GenerationAccepted,
        GenerationEnded as GenerationEnded,
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
        BudgetStatus as BudgetStatus,
        LocalRateLimiter as LocalRateLimiter,
        RateLimit as RateLimit,
        RateLimiter as RateLimiter,
        RateLimits as RateLimits,
        RateLimitStatus as RateLimitStatus,
        RatePermit as RatePermit,
    )
    from finetuning_async._resources import (
        Generations as Generations,
        Instrumentals as Instrumentals,
        Listing as Listing,
        Outcomes as Outcomes,
        Playlists as Playlists,
        SoundEffects as SoundEffects,
    )
    from finetuning_async._types import (
        Kind as Kind,
        KnownStatus as KnownStatus,
        Status as Status,
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
            "._errors": (
                "APIConnectionError",
                "APIResponseError",
                "APIStatusError",
                "APITimeoutError",
                "AuthenticationError",
                "BadRequestError",
                "ClientClosedError",
                "FinetuningError",
                "GenerationFailedError",
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
                "Event",
                "GenerationAccepted",
                "GenerationEnded",
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
                "BudgetStatus",
                "LocalRateLimiter",
                "RateLimit",
                "RateLimitStatus",
                "RateLimiter",
                "RateLimits",
                "RatePermit",
            ),
            "._resources": (
                "Generations",
                "Instrumentals",
                "Listing",
                "Outcomes",
                "Playlists",
                "SoundEffects",
            ),
            "._types": (
                "Kind",
                "KnownStatus",
                "Status",
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
    "AuthenticationError",
    "BadRequestError",
    "BudgetStatus",
    "BulkFailure",
    "BulkResult",
    "ClientClosedError",
    "Event",
    "FinetuningError",
    "Generation",
    "GenerationAccepted",
    "GenerationEnded",
    "GenerationFailedError",
    "GenerationParameters",
    "GenerationRequest",
    "Generations",
    "Health",
    "InstrumentalRequest",
    "Instrumentals",
    "InsufficientCreditsError",
    "InternalServerError",
    "InvalidRequestError",
    "Kind",
    "KnownStatus",
    "Listing",
    "LocalRateLimiter",
    "NotFoundError",
    "Outcome",
    "Outcomes",
    "Page",
    "PermissionDeniedError",
    "Playlist",
    "PlaylistTrack",
    "Playlists",
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
    "SoundEffect",
    "SoundEffectRequest",
    "SoundEffects",
    "Status",
    "SubmissionUnknown",
    "SubmissionUnknownError",
    "Track",
    "WaitTimeoutError",
    "WebhookVerificationError",
    "__version__",
    "capture_responses",
]


def __dir__() -> list[str]:
    return [*globals(), *__all__]
