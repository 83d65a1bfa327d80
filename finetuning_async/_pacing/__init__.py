"""When a request may go out. Pure, but for its wait queue.

_limiter                  takes a permit for each request, and returns it
_wait_queue               the requests that wait for a permit of one budget
_rate_budget              one budget: all rules below together, without a clock
_token_bucket             the leased token bucket
_retry_after_gate         after a 429 nothing goes out until its time is over
_remaining_credit         what X-RateLimit-Remaining allows
_sliding_window_counter   what a sliding counter on the server may still hold
_foreign_usage            what other clients of the account use
_reservation              one permit that is out
_in_flight                tracks in progress: claims, and places in the queue
_queue_capacity           how many tracks the service's queue takes
_limits                   the limits as the caller states them, and their status
_protocols                what `rate_limiter=` takes
"""

from typing import TYPE_CHECKING

from finetuning_async._lazy import lazy_exports

if TYPE_CHECKING:
    from finetuning_async._pacing._in_flight import (
        Claim as Claim,
        InFlight as InFlight,
        QueueSlot as QueueSlot,
        SeedMark as SeedMark,
        TrackInProgress as TrackInProgress,
    )
    from finetuning_async._pacing._limiter import (
        Limiter as Limiter,
        LocalRateLimiter as LocalRateLimiter,
        Reservations as Reservations,
    )
    from finetuning_async._pacing._limits import (
        DEFAULT_LIMITS as DEFAULT_LIMITS,
        BudgetStatus as BudgetStatus,
        RateLimit as RateLimit,
        RateLimits as RateLimits,
        RateLimitStatus as RateLimitStatus,
        SupportsRateLimits as SupportsRateLimits,
    )
    from finetuning_async._pacing._protocols import (
        RateLimiter as RateLimiter,
        RatePermit as RatePermit,
    )
    from finetuning_async._pacing._queue_capacity import QueueCapacity as QueueCapacity
    from finetuning_async._pacing._rate_budget import RateBudget as RateBudget
    from finetuning_async._pacing._reservation import Reservation as Reservation
    from finetuning_async._pacing._wait_queue import (
        TOLERANCE as TOLERANCE,
        LocalWaitQueue as LocalWaitQueue,
        QueuedRequest as QueuedRequest,
        WaitQueue as WaitQueue,
        check_pause as check_pause,
    )
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "._in_flight": (
                "Claim",
                "InFlight",
                "QueueSlot",
                "SeedMark",
                "TrackInProgress",
            ),
            "._limiter": ("Reservations", "Limiter", "LocalRateLimiter"),
            "._limits": (
                "BudgetStatus",
                "DEFAULT_LIMITS",
                "RateLimit",
                "RateLimitStatus",
                "RateLimits",
                "SupportsRateLimits",
            ),
            "._protocols": ("RateLimiter", "RatePermit"),
            "._queue_capacity": ("QueueCapacity",),
            "._rate_budget": ("RateBudget",),
            "._reservation": ("Reservation",),
            "._wait_queue": (
                "LocalWaitQueue",
                "QueuedRequest",
                "TOLERANCE",
                "WaitQueue",
                "check_pause",
            ),
        },
    )
