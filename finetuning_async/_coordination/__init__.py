"""One account's limits and reads, shared by event loops, processes and machines.

_process_limiter     permits of one process, whichever of its event loops asks
_process_memory      what this process remembers of an account's limits
_shared_limiter      permits from a store, and a local share while it is down
_store_client        one process and its store: when it asks, what it reports
_exchange            one exchange with a ledger that a store keeps as text
_exchange_messages   what a process and the ledger say to each other
_shared_ledger       the ledger of an account that several processes share
_ledger_entries      what it holds: who waits, who may send, who takes part
_store_protocol      what a store has to do
_poll_coordinator    the shared polling of processes with one store
_poll_ledger         who polls for whom, and what was seen
_poll_state          what it keeps, as JSON and back
_poll_protocol       what processes that poll for each other say
"""

from typing import TYPE_CHECKING

from finetuning_async._lazy import lazy_exports

if TYPE_CHECKING:
    from finetuning_async._coordination._poll_protocol import (
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
            "._poll_protocol": (
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
