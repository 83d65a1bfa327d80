"""What the reference begins with: the client, and all names by task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

T = TypeVar("T")

TASKS: Final = {
    "The client": ("AsyncClient", "stored_key"),
    "What to create": (
        "GenerationRequest",
        "InstrumentalRequest",
        "SoundEffectRequest",
    ),
    "What comes back": (
        "Generation",
        "SoundEffect",
        "GenerationParameters",
        "Outcome",
        "CompletedOutcome",
        "FailedOutcome",
        "Outcomes",
        "AudioStream",
        "Account",
        "Health",
        "Playlist",
        "PlaylistTrack",
        "BulkResult",
        "BulkFailure",
        "Page",
        "Listing",
    ),
    "The client's parts": (
        "Generations",
        "Instrumentals",
        "SoundEffects",
        "Playlists",
        "ClientJournal",
    ),
    "Limits, and how long it takes": (
        "RateLimits",
        "RateLimit",
        "RateLimiter",
        "LocalRateLimiter",
        "RateLimitStatus",
        "Budget",
        "BudgetStatus",
        "RatePermit",
        "Estimate",
        "Progress",
    ),
    "Errors": (
        "FinetuningError",
        "InvalidRequestError",
        "IdempotencyConflictError",
        "BudgetExceededError",
        "CapacityError",
        "APIConnectionError",
        "APITimeoutError",
        "APIResponseError",
        "APIStatusError",
        "BadRequestError",
        "AuthenticationError",
        "InsufficientCreditsError",
        "PermissionDeniedError",
        "NotFoundError",
        "RateLimitError",
        "QueueFullError",
        "InternalServerError",
        "SubmissionUnknownError",
        "GenerationFailedError",
        "WaitTimeoutError",
        "ClientClosedError",
        "WebhookVerificationError",
    ),
    "Seeing what happens": (
        "Event",
        "CreateWaiting",
        "RateLimitWaited",
        "RequestSent",
        "ResponseReceived",
        "RequestFailed",
        "RetryScheduled",
        "RateLimited",
        "GenerationAccepted",
        "GenerationEnded",
        "SubmissionUnknown",
        "LoadChanged",
        "capture_responses",
        "RawResponse",
        "ResponseFacts",
    ),
    "Types": (
        "Kind",
        "MusicalKey",
        "Scale",
        "Language",
        "TimeSignature",
        "Priority",
        "Status",
        "Track",
        "KnownStatus",
        "__version__",
    ),
}
"""The names that `finetuning_async` exports."""

METHODS: Final = (
    "__init__",
    "generate",
    "generate_many",
    "generations",
    "instrumentals",
    "sound_effects",
    "wait_for_completion",
    "watch",
    "progress",
    "download",
    "open_audio",
    "estimate",
    "resume",
    "resume_all",
    "journal",
    "playlists",
    "me",
    "health",
    "with_options",
    "rate_limit_status",
)
"""The members of the client that come first."""


def front_page(docstring: str) -> str:
    """The docstring of the package without its map, and with the tasks below it."""
    intro, _, _ = docstring.partition("The package, from the top down.")
    lines = [
        f"- **{task}**: " + ", ".join(f"`{name}`" for name in names if name[0] != "_")
        for task, names in TASKS.items()
    ]
    return intro + "Its names by task:\n\n" + "\n".join(lines)


def ordered(members: Mapping[str, T], first: Iterable[str]) -> dict[str, T]:
    """The members with those in `first` before the others."""
    known = {name: members[name] for name in first if name in members}
    return known | dict(members)
