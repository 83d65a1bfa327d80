"""One account's limits and reads, shared by event loops, processes and machines.

The limits of an account are kept in one of four places. All four apply the same rules,
those of `RateBudget` in ``_pacing``:

process memory   _process_limiter, _process_memory; the default
file             shared/_limiter, shared/_store, and the files for stores below
Redis            redis/_limiter, redis/_store, likewise
PostgreSQL       postgres/_limiter, postgres/_store, likewise

The files, top down:

_process_limiter     permits of one process, for all of its event loops
_process_memory      the budgets of each account in this process, and its loops
_shared_limiter      permits from a store, and a local share while it is down
_store_client        one event loop and its store: when it exchanges, what it reports
_outbox              what a process has yet to report
_exchange            one exchange with a ledger that a store keeps as text
_exchange_messages   what a process sends in an exchange, and the reply
_shared_ledger       the ledger of an account: queues, leases, members, budgets
_outage_hold         no permits after an outage, until all have reported
_ledger_entries      the entries of that ledger, to JSON and back
_poll_coordinator    one sync with the ledger of shared polling, through a store
_poll_ledger         who polls for whom, and which states were observed
_poll_entries        the entries of that ledger, to JSON and back
_poll_messages       what a process sends in a sync, and the reply
_store_protocol      what every store has to do: replace one text atomically

A permit that comes from Redis goes through these files, and back the same way:

_pacing/_limiter        `RedisRateLimiter.acquire` is that of `Limiter`
_shared_limiter         `StoreWaitQueue.take`: from the store, or from the local share
_store_client           `StoreClient.acquire`: the call waits; one of them exchanges
_exchange               `LedgerExchanger.exchange`: one step, from text to text
redis/_store            `RedisStore.update`: runs that step by compare-and-set
_shared_ledger          `SharedLedger.exchange`: takes reports in, grants permits
_pacing/_rate_budget    `RateBudget.earliest`: when the next request may go out

budget      a rate budget; nothing in this wing is about credits
exchange    one round trip: a process sends its reports and its waiting requests, and
            is given permits; it can be repeated
lease       a permit that was granted, until its end is reported or its time is over
            (in `_pacing`: the time for which a token stays away)
claim       to receive a granted permit; until then it can be taken back
member      a process, as a ledger knows it; strictly, one event loop of a process
epoch       the name of one ledger; another one means that the store lost the old one
hold        no permits are granted for a while, so that processes can report first
share       what a process may send of a limit while it cannot reach the store
sync        as an exchange, for polling
lead        the right to poll for all processes; a lease of seconds with a token
"""

from typing import TYPE_CHECKING

from finetuning_async._lazy import lazy_exports

if TYPE_CHECKING:
    from finetuning_async._coordination._poll_messages import (
        ObservedState as ObservedState,
        PollCoordinator as PollCoordinator,
        PollReport as PollReport,
        PollUpdate as PollUpdate,
        WatchedTrack as WatchedTrack,
    )
    from finetuning_async._coordination._process_limiter import (
        ProcessLimiter as ProcessLimiter,
    )
    from finetuning_async._coordination._shared_limiter import (
        TIMEOUT as TIMEOUT,
        StoreLimiter as StoreLimiter,
    )
    from finetuning_async._coordination._store_protocol import Step as Step
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "._poll_messages": (
                "ObservedState",
                "PollCoordinator",
                "PollReport",
                "PollUpdate",
                "WatchedTrack",
            ),
            "._process_limiter": ("ProcessLimiter",),
            "._shared_limiter": ("StoreLimiter", "TIMEOUT"),
            "._store_protocol": ("Step",),
        },
    )
