"""When a request may go out. Pure, except for its queues.

_limiter                  grants a permit for each request, and takes it back
_wait_queue               the requests that wait for a token of one rate budget
_queue_protocols          what a request brings to such a line, and what the line shows
_fair_queue               requests in the order in which they are dealt their turns
_dealer                   whose turn it is: by priority, then in turn to the shares
_rate_budget              one rate budget: its rules, its gate, the last headers
_rule_set                 the rules that need the limit, put together
_token_bucket             the leased token bucket
_sliding_window_counter   what a sliding counter of the service may still count
_remaining_credit         what X-RateLimit-Remaining allows, and probes without it
_even_spacing             creates that no one waits for go out evenly
_foreign_usage            what other clients of the account use
_retry_after_gate         after a 429, nothing goes out for the time it names
_forecast                 when creates will go out, by what is known now
_reservation              one permit that is out, as the rate budget remembers it
_in_flight                tracks in progress: claims, and slots in the service's queue
_queue_capacity           how many tracks the service's queue takes
_load                     how much waits and is in progress, for those who listen
_credit_budget            what a caller may spend: `Budget`
_credit_limit             the rule of a budget of credits, and what counts in it
_limits                   the limits as the caller states them, and their snapshots
_protocols                what `rate_limiter=` takes

Glossary:

rate budget   requests allowed in any period: `creates` or `reads` ("budget" alone
              means credits)
route         what a request takes from: a rate budget, or an endpoint whose rate
              budget no response has shown yet, which takes from both
permit        permission to send one request now, until its outcome is known
token         what a permit takes from a rate budget
reservation   the token of one permit that is out
lease         how long a token stays away: until the response, and a period after it
gate          closed by a 429 for the time that it names; all requests wait for it
probe         a request sent without proof of room, whose response is such a proof
trial         a request that may be refused, sent to learn whether more is allowed
register      what an account has in flight and in progress: `InFlight`
claim         an id that belongs to a create of this process
share         for whom a create is: an end user, a tenant; `None` is a share as well
rank          the place of a priority, the highest first: 0, 1, 2
turn          one permit; of one priority each share that waits has one after another
queue slot    room for one track in the service's queue; a create takes it before it is
              sent
line          the creates that wait here; the queue is the service's
parked        waits for a queue slot only, and watches the tracks in progress

Why a leased token bucket and not a textbook one: a textbook bucket of 10 tokens,
refilled at 10 a minute, lets 19 requests through in the first minute, and the service
refuses nine of them. It also counts from the moment of sending, but the service counts
a request when it arrives, somewhere between its sending and its response. So a token is
leased: it comes back 60 s after the *response*. No window of 60 s on the service can
then hold an eleventh request, whatever the network delay; `_token_bucket` has the
proof. The price: ten requests take a minute and one round trip, instead of a minute.
"""

from typing import TYPE_CHECKING

from finetuning_async._lazy import lazy_exports

if TYPE_CHECKING:
    from finetuning_async._pacing._credit_budget import (
        Budget as Budget,
        ledger_of as ledger_of,
        reserved_credit as reserved_credit,
    )
    from finetuning_async._pacing._credit_limit import CreditLimit as CreditLimit
    from finetuning_async._pacing._dealer import (
        HIGH as HIGH,
        LOW as LOW,
        NORMAL as NORMAL,
        RANKS as RANKS,
        Dealer as Dealer,
    )
    from finetuning_async._pacing._fair_queue import (
        FairQueue as FairQueue,
        surely_ahead as surely_ahead,
    )
    from finetuning_async._pacing._forecast import (
        Forecast as Forecast,
        Outlook as Outlook,
        forecast as forecast,
        sending_times as sending_times,
    )
    from finetuning_async._pacing._in_flight import (
        Claim as Claim,
        InFlight as InFlight,
        QueueSlot as QueueSlot,
        SeedMark as SeedMark,
        TrackInProgress as TrackInProgress,
    )
    from finetuning_async._pacing._limiter import (
        Limiter as Limiter,
        LimiterWithTerms as LimiterWithTerms,
        LocalRateLimiter as LocalRateLimiter,
        Reservations as Reservations,
        with_terms as with_terms,
    )
    from finetuning_async._pacing._limits import (
        DEFAULT_LIMITS as DEFAULT_LIMITS,
        BudgetStatus as BudgetStatus,
        RateLimit as RateLimit,
        RateLimits as RateLimits,
        RateLimitStatus as RateLimitStatus,
        SupportsRateLimits as SupportsRateLimits,
    )
    from finetuning_async._pacing._load import Load as Load
    from finetuning_async._pacing._protocols import (
        RateLimiter as RateLimiter,
        RatePermit as RatePermit,
    )
    from finetuning_async._pacing._queue_capacity import QueueCapacity as QueueCapacity
    from finetuning_async._pacing._queue_protocols import (
        ANY_REQUEST as ANY_REQUEST,
        HasGate as HasGate,
        LineState as LineState,
        QueueGate as QueueGate,
        Terms as Terms,
        WaitQueue as WaitQueue,
    )
    from finetuning_async._pacing._rate_budget import RateBudget as RateBudget
    from finetuning_async._pacing._reservation import Reservation as Reservation
    from finetuning_async._pacing._wait_queue import (
        TOLERANCE as TOLERANCE,
        LocalWaitQueue as LocalWaitQueue,
        QueuedRequest as QueuedRequest,
        check_pause as check_pause,
        goes_before as goes_before,
    )
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "._credit_budget": ("Budget", "ledger_of", "reserved_credit"),
            "._credit_limit": ("CreditLimit",),
            "._dealer": ("Dealer", "HIGH", "LOW", "NORMAL", "RANKS"),
            "._fair_queue": ("FairQueue", "surely_ahead"),
            "._forecast": ("Forecast", "Outlook", "forecast", "sending_times"),
            "._in_flight": (
                "Claim",
                "InFlight",
                "QueueSlot",
                "SeedMark",
                "TrackInProgress",
            ),
            "._limiter": (
                "Limiter",
                "LimiterWithTerms",
                "LocalRateLimiter",
                "with_terms",
            ),
            "._limits": (
                "BudgetStatus",
                "DEFAULT_LIMITS",
                "RateLimit",
                "RateLimitStatus",
                "RateLimits",
                "SupportsRateLimits",
            ),
            "._load": ("Load",),
            "._protocols": ("RateLimiter", "RatePermit"),
            "._queue_capacity": ("QueueCapacity",),
            "._queue_protocols": (
                "ANY_REQUEST",
                "HasGate",
                "LineState",
                "QueueGate",
                "Terms",
                "WaitQueue",
            ),
            "._rate_budget": ("RateBudget",),
            "._reservation": ("Reservation",),
            "._wait_queue": (
                "LocalWaitQueue",
                "QueuedRequest",
                "TOLERANCE",
                "check_pause",
                "goes_before",
            ),
        },
    )
