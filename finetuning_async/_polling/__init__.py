"""Waiting for tracks: one poll loop for all waiters of an account.

_poller            the poll loop: registration, and the waiter that drives it
_shared_polling    one process reads for all that share the account
_reader            one read: permit, choice, request, dispatch; and its failures
_dispatch          what a read shows: states to waiters, ends to the register
_missing_tracks    tracks whose GET responds 404, until they appear or do not exist
_absence           when a 404 means that a track does not exist
_reads_in_flight   the reads in flight, and when another may be sent beside them
_read_planner      which read shows most of what is due
_listing_health    which lists can be used, and what their pages prove
_watch_list        which tracks are watched, by whom, and when each is due
_waiters           what waits: one task each, with a deadline
_schedule          when to look: learned durations, and the slots of the read budget
_failure_tracker   reads that fail in a row: skip slots, warn, or end the waits
_webhook_hints     hints that something happened to a track

The path of `wait_for_completion`'s id, which `_session` makes a `Watcher` of:

    _poller          watch: on the watch list, with its deadline
                     wait: sleep, or drive: _next_step starts a read when one is due
    _reader          start, in a child task: take a permit, choose; then, shielded, send
    _read_planner    a page of the list covers up to 99 tracks; one track: its own GET
    _http            the pipeline sends it to the socket, and returns the response
    _dispatch        dispatch: each row to the watchers of its track, `Watcher.update`
    _poller          the watcher is ready: wait returns, another waiter drives

Glossary:

    waiter      a task that waits; a watcher waits for one track
    driver      the waiter that runs the loop at the moment
    promote     wake another waiter so that it becomes the driver
    look        a read that may show a track
    last look   the look that a wait gets when its deadline comes
    overtime    how long a wait goes on after its deadline for its last look
    due         worth a look now
    slot        the time at which the pacer allows the next read; urgent looks borrow
                later slots, last looks have reserved ones
    hint        a webhook, or a caller, says that something happened to a track
    row         a track as a list shows it
    missing     its ``GET`` responds 404; its absence is the checks of whether it exists
    whole list  all tracks of a family; the completed list shows only those that ended
"""

from typing import TYPE_CHECKING

from finetuning_async._lazy import lazy_exports

if TYPE_CHECKING:
    from finetuning_async._polling._poller import Poller as Poller
    from finetuning_async._polling._waiters import (
        OVERTIME as OVERTIME,
        AnyTrack as AnyTrack,
        Waiter as Waiter,
        Watcher as Watcher,
    )
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "._poller": ("Poller",),
            "._waiters": ("OVERTIME", "Waiter", "Watcher"),
        },
    )
