"""The async client of the finetuning.ai music API.

    async with AsyncClient() as client:
        track = await client.generate("lofi chill piano night", duration=120)
        await client.download(track, "night.mp3")

The package, from the top down; arrows between layers point down only:

    cli, demo                 the program `finetuning`; a page to make and hear music on
    fastapi                   for backends that await tracks
    testing                   what a suite of your own needs
    emulator                  the service, on your machine; imports nothing of the rest
    batch, webhooks           durable batches; hints that a track has ended
    shared, redis, ...        one account's turns for several processes, or machines
    otel                      spans and metrics
    _client                   AsyncClient
    _resources, _session      its methods; a client bound to its event loop
    _waiting, _account        composes what follows; what clients of one key share
    _poller, _submit, _download
    _pipeline                 retry( gate( limit( send ) ) )
    _store_limiter            turns from a store, and a local share while it is gone
    _transport, _limiter, _inflight, _retry
    _parsing, _token_bucket, _poll_schedule, ...   arithmetic: no clock, no network
    _models, _requests, _errors
"""

TYPE_CHECKING = False  # `typing` takes longer to import than all of this
if TYPE_CHECKING:
    from typing import Any, Final

    from finetuning_async._client import AsyncClient as AsyncClient
    from finetuning_async._errors import APIConnectionError as APIConnectionError
    from finetuning_async._errors import APIResponseError as APIResponseError
    from finetuning_async._errors import APIStatusError as APIStatusError
    from finetuning_async._errors import APITimeoutError as APITimeoutError
    from finetuning_async._errors import AuthenticationError as AuthenticationError
    from finetuning_async._errors import BadRequestError as BadRequestError
    from finetuning_async._errors import ClientClosedError as ClientClosedError
    from finetuning_async._errors import FinetuningError as FinetuningError
    from finetuning_async._errors import GenerationFailedError as GenerationFailedError
    from finetuning_async._errors import (
        InsufficientCreditsError as InsufficientCreditsError,
    )
    from finetuning_async._errors import InternalServerError as InternalServerError
    from finetuning_async._errors import InvalidRequestError as InvalidRequestError
    from finetuning_async._errors import NotFoundError as NotFoundError
    from finetuning_async._errors import PermissionDeniedError as PermissionDeniedError
    from finetuning_async._errors import QueueFullError as QueueFullError
    from finetuning_async._errors import RateLimitError as RateLimitError
    from finetuning_async._errors import (
        SubmissionUnknownError as SubmissionUnknownError,
    )
    from finetuning_async._errors import WaitTimeoutError as WaitTimeoutError
    from finetuning_async._errors import (
        WebhookVerificationError as WebhookVerificationError,
    )
    from finetuning_async._events import Event as Event
    from finetuning_async._events import GenerationAccepted as GenerationAccepted
    from finetuning_async._events import GenerationEnded as GenerationEnded
    from finetuning_async._events import RateLimited as RateLimited
    from finetuning_async._events import RateLimitWaited as RateLimitWaited
    from finetuning_async._events import RequestFailed as RequestFailed
    from finetuning_async._events import RequestSent as RequestSent
    from finetuning_async._events import ResponseReceived as ResponseReceived
    from finetuning_async._events import RetryScheduled as RetryScheduled
    from finetuning_async._events import SubmissionUnknown as SubmissionUnknown
    from finetuning_async._generate_many import Outcomes as Outcomes
    from finetuning_async._limiter import LocalRateLimiter as LocalRateLimiter
    from finetuning_async._models import Account as Account
    from finetuning_async._models import BulkFailure as BulkFailure
    from finetuning_async._models import BulkResult as BulkResult
    from finetuning_async._models import Generation as Generation
    from finetuning_async._models import GenerationParameters as GenerationParameters
    from finetuning_async._models import Health as Health
    from finetuning_async._models import Outcome as Outcome
    from finetuning_async._models import Page as Page
    from finetuning_async._models import Playlist as Playlist
    from finetuning_async._models import PlaylistTrack as PlaylistTrack
    from finetuning_async._models import SoundEffect as SoundEffect
    from finetuning_async._pipeline import capture_responses as capture_responses
    from finetuning_async._rate_limiter import RateLimiter as RateLimiter
    from finetuning_async._rate_limiter import RatePermit as RatePermit
    from finetuning_async._rate_limits import BudgetStatus as BudgetStatus
    from finetuning_async._rate_limits import RateLimit as RateLimit
    from finetuning_async._rate_limits import RateLimits as RateLimits
    from finetuning_async._rate_limits import RateLimitStatus as RateLimitStatus
    from finetuning_async._requests import GenerationRequest as GenerationRequest
    from finetuning_async._requests import InstrumentalRequest as InstrumentalRequest
    from finetuning_async._requests import SoundEffectRequest as SoundEffectRequest
    from finetuning_async._resources import Generations as Generations
    from finetuning_async._resources import Instrumentals as Instrumentals
    from finetuning_async._resources import Listing as Listing
    from finetuning_async._resources import Playlists as Playlists
    from finetuning_async._resources import SoundEffects as SoundEffects
    from finetuning_async._types import Kind as Kind
    from finetuning_async._types import KnownStatus as KnownStatus
    from finetuning_async._types import Status as Status
    from finetuning_async._types import Track as Track
    from finetuning_async._version import __version__ as __version__
    from finetuning_async._wire import RawResponse as RawResponse
    from finetuning_async._wire import ResponseFacts as ResponseFacts

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

_HOMES: "Final" = {
    "APIConnectionError": "_errors",
    "APIResponseError": "_errors",
    "APIStatusError": "_errors",
    "APITimeoutError": "_errors",
    "Account": "_models",
    "ResponseFacts": "_wire",
    "AsyncClient": "_client",
    "AuthenticationError": "_errors",
    "BadRequestError": "_errors",
    "BudgetStatus": "_rate_limits",
    "BulkFailure": "_models",
    "BulkResult": "_models",
    "ClientClosedError": "_errors",
    "SubmissionUnknown": "_events",
    "Event": "_events",
    "FinetuningError": "_errors",
    "RateLimited": "_events",
    "Generation": "_models",
    "GenerationAccepted": "_events",
    "GenerationEnded": "_events",
    "GenerationFailedError": "_errors",
    "GenerationParameters": "_models",
    "GenerationRequest": "_requests",
    "Generations": "_resources",
    "Health": "_models",
    "InstrumentalRequest": "_requests",
    "Instrumentals": "_resources",
    "InsufficientCreditsError": "_errors",
    "InternalServerError": "_errors",
    "InvalidRequestError": "_errors",
    "Kind": "_types",
    "KnownStatus": "_types",
    "Listing": "_resources",
    "LocalRateLimiter": "_limiter",
    "NotFoundError": "_errors",
    "Outcome": "_models",
    "Outcomes": "_generate_many",
    "Page": "_models",
    "PermissionDeniedError": "_errors",
    "Playlist": "_models",
    "PlaylistTrack": "_models",
    "Playlists": "_resources",
    "QueueFullError": "_errors",
    "RateLimit": "_rate_limits",
    "RateLimitError": "_errors",
    "RateLimitStatus": "_rate_limits",
    "RateLimiter": "_rate_limiter",
    "RateLimits": "_rate_limits",
    "RatePermit": "_rate_limiter",
    "RawResponse": "_wire",
    "RequestFailed": "_events",
    "RequestSent": "_events",
    "ResponseReceived": "_events",
    "RetryScheduled": "_events",
    "SoundEffect": "_models",
    "SoundEffectRequest": "_requests",
    "SoundEffects": "_resources",
    "Status": "_types",
    "SubmissionUnknownError": "_errors",
    "Track": "_types",
    "RateLimitWaited": "_events",
    "WaitTimeoutError": "_errors",
    "WebhookVerificationError": "_errors",
    "__version__": "_version",
    "capture_responses": "_pipeline",
}
"""Where each public name lives. It is imported when it is first used, so that
``finetuning --help`` does not wait for the client."""


def __getattr__(name: str) -> "Any":
    """Import a public name when it is first used (PEP 562)."""
    from importlib import import_module

    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
