"""A client bound to its event loop.

_session         one client in one event loop: its requests, creates and waits
_settings        the client's options: checked, or read from the environment
_estimates       when creates will go out and be done, and how far a track is
_line_view       the line of the creates: who waits, and until when
_waits           waits for a track's end, for its states, for a slot in the queue
_account_state   what all clients of one account share in an event loop
_keyed_creates   creates that the client's journal records
_account_journal the account's part of that journal: its entries, what is left behind
_keyed_door      what a keyed call decides while the engine processes its entry
_journal_budgets budgets of a client that has a journal
_open_journal    a journal in an event loop: who holds its leases
_journal_source  what ``journal=`` was given
_open_calls      the calls in progress, so that closing the client can end them
_bound_loop      the one event loop that a client may be used in

Account      one API key at one base URL
Submission   one create, from the call to its end (of `_submission`)
Poller       the account's one poll loop (of `_polling`)
Queue slot   room for one track in the service's queue, which it says is full by
             ``QUEUE_FULL``
"""

from typing import TYPE_CHECKING

from finetuning_async._lazy import lazy_exports

if TYPE_CHECKING:
    from finetuning_async._session._bound_loop import BoundLoop as BoundLoop
    from finetuning_async._session._estimates import (
        Estimate as Estimate,
        Progress as Progress,
        estimate as estimate,
        progress as progress,
    )
    from finetuning_async._session._journal_source import (
        JournalSource as JournalSource,
        no_journal_error as no_journal_error,
    )
    from finetuning_async._session._keyed_creates import KeyedCreates as KeyedCreates
    from finetuning_async._session._open_calls import OpenCalls as OpenCalls
    from finetuning_async._session._session import (
        Session as Session,
        session_of as session_of,
    )
    from finetuning_async._session._settings import (
        Settings as Settings,
        read_secrets as read_secrets,
    )
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "._bound_loop": ("BoundLoop",),
            "._estimates": ("Estimate", "Progress", "estimate", "progress"),
            "._journal_source": ("JournalSource", "no_journal_error"),
            "._keyed_creates": ("KeyedCreates",),
            "._open_calls": ("OpenCalls",),
            "._session": ("Session", "session_of"),
            "._settings": ("Settings", "read_secrets"),
        },
    )
