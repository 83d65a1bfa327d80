"""Tasks, threads, shielding and timers: what anyio and the event loops leave to us.

_threads         blocking work in a worker thread
_serial_thread   blocking work in a thread of its own, in order
_shielding       calls whose work finishes although the caller is cancelled
_loop_handle     an event loop as other threads can use it
_machine_clock   whether a loop's clock runs in step with the machine's
_wakeup          one task waits until another wakes it
_timer_heap      the timers of all waiters in one heap
_keyed_lock      a lock for each key
_state_folder    where the user's programs keep what they share

Glossary:

child task       a task that runs a call's work and that only the call can cancel
grace            seconds that shielded work may go on once its caller is cancelled
virtual clock    a loop's clock that jumps to the next deadline, in tests
void entry       a timer that was cancelled and is still in the heap
"""

from typing import TYPE_CHECKING

from finetuning_async._lazy import lazy_exports

if TYPE_CHECKING:
    from finetuning_async._runtime._keyed_lock import KeyedLock as KeyedLock
    from finetuning_async._runtime._loop_handle import LoopHandle as LoopHandle
    from finetuning_async._runtime._machine_clock import machine_now as machine_now
    from finetuning_async._runtime._serial_thread import (
        Job as Job,
        SerialThread as SerialThread,
    )
    from finetuning_async._runtime._shielding import (
        GRACE as GRACE,
        ShieldedCall as ShieldedCall,
        ShieldedGroup as ShieldedGroup,
        run_to_completion as run_to_completion,
    )
    from finetuning_async._runtime._state_folder import state_folder as state_folder
    from finetuning_async._runtime._threads import (
        has_virtual_clock as has_virtual_clock,
        in_thread as in_thread,
        in_thread_unshielded as in_thread_unshielded,
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
            "._serial_thread": ("Job", "SerialThread"),
            "._shielding": (
                "GRACE",
                "ShieldedCall",
                "ShieldedGroup",
                "run_to_completion",
            ),
            "._state_folder": ("state_folder",),
            "._threads": ("has_virtual_clock", "in_thread", "in_thread_unshielded"),
            "._timer_heap": ("TimerHeap",),
            "._wakeup": ("Wakeup",),
        },
    )
