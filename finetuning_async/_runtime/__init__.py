"""Tasks, threads, shielding and timers: what the event loops leave to us.

_shielding       a call that is not cut off when its caller is cancelled
_wakeup          one task waits until another wakes it
_timer_heap      the deadlines of all waiters, in one heap
_keyed_lock      a lock for each key: creates that a list could not tell apart
_threads         the one way to a worker thread
_loop_handle     an event loop, as other threads may use it
_machine_clock   whether an event loop's clock is the machine's monotonic clock
"""

from typing import TYPE_CHECKING

from finetuning_async._lazy import lazy_exports

if TYPE_CHECKING:
    from finetuning_async._runtime._keyed_lock import KeyedLock as KeyedLock
    from finetuning_async._runtime._loop_handle import LoopHandle as LoopHandle
    from finetuning_async._runtime._machine_clock import machine_now as machine_now
    from finetuning_async._runtime._shielding import (
        GRACE as GRACE,
        ShieldedCall as ShieldedCall,
        ShieldedGroup as ShieldedGroup,
        run_to_completion as run_to_completion,
    )
    from finetuning_async._runtime._threads import (
        clock_jumps as clock_jumps,
        in_thread as in_thread,
    )
    from finetuning_async._runtime._timer_heap import TimerHeap as TimerHeap
    from finetuning_async._runtime._wakeup import Wakeup as Wakeup
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "._keyed_lock": ("KeyedLock",),
            "._loop_handle": ("LoopHandle",),
            "._machine_clock": ("machine_now",),
            "._shielding": (
                "GRACE",
                "ShieldedCall",
                "ShieldedGroup",
                "run_to_completion",
            ),
            "._threads": ("clock_jumps", "in_thread"),
            "._timer_heap": ("TimerHeap",),
            "._wakeup": ("Wakeup",),
        },
    )
