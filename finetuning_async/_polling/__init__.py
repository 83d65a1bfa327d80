"""Watching tracks: one poll loop for all who wait.

_poller            the poll loop: one of those who wait drives it
_watch_list        which tracks are watched, by whom, and when each is due
_schedule          when to look: learned durations, and the read budget
_read_planner      the one read that shows most of what is due
_reads_in_flight   reads under way, and when another may begin beside them
_dispatch          what a read shows, and which waiters are told
_listing_health    which list pages can be used
_absence           when a 404 means that a track is gone
_missing_tracks    tracks whose GET is a 404, until they are there or gone
_failure_tracker   reads that fail in a row: retry, warn, or give up
_webhook_hints     what webhooks said about tracks
_shared_polling    one process polls for all
"""

from typing import TYPE_CHECKING

from finetuning_async._lazy import lazy_exports

if TYPE_CHECKING:
    from finetuning_async._polling._poller import Poller as Poller
    from finetuning_async._polling._watch_list import (
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
            "._watch_list": ("OVERTIME", "Waiter", "Watcher"),
        },
    )
