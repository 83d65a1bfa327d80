"""The journal: what was requested and what became of it, durably.

Top down:

    _engine          takes an item from where it stands to its end
    _door            Door, what one kind of program decides about an item
    _reconciliation  looks for what is in doubt, beside other processes
    _reconciler      finds the tracks of creates in doubt, or proves them absent
    _matching        which listed track is whose, and when one is absent (pure)
    _credit_check    whether the credits rule out a charge (pure)
    _create          one create: its seed, lookalikes, and what its error says about it
    _binding         the account that a journal belongs to
    _service         what these need of a client's session
    _sqlite_journal  SQLiteJournal, a client's journal in a file; JournalBackend
    _entries         JournalEntry, what callers see of an item
    _journal         Journal: records events, many in one commit, off the event loop
    _sqlite_store    the journals in one SQLite file; PostgreSQL's is in postgres/
    _sqlite_file     the file: WAL, each commit on disk before it returns; forks
    _sqlite_schema   its tables, and those of earlier versions
    _store           JournalStore, what a journal is kept in; one in memory
    _outcomes        what a change results in that is not made
    _sql_columns     the columns that both SQL stores share
    _spending        what entries have cost, as a budget counts it (pure)
    _records         rows as requested, items as recorded, and their numbers
    _file_names      names of audio files: stable, unique, safe
    _state_machine   the rules: (entry, event) -> entry, next action
    _errors          the errors of batches and journals

Glossary:

    item     one track to make; keyed by its custom_id or its content
    entry    an item's recorded progress: state, seed, times, track id, result
    state    planned, sending, unknown, held, accepted, completed, downloaded or failed
    sending  a create was committed to be sent and may be in flight now
    event    what happened to an item; the only way to change its entry
    doubt    it is not known whether a create was accepted: sending, unknown or held
    held     a doubt that no program can resolve; a person releases it
    fencing  a store refuses a change by a worker that has not seen the last one
    lease    the right to send an item's create. In a folder it is the file lock, for a
             job queue it is the job; for a client's journal the entry names its holder,
             who says every few seconds that it lives. Fencing makes a lease that was
             wrongly taken over harmless
    holder   one client in one event loop, as leases name it
    note     a named text in the journal: the account, the credits, and so on
"""

from typing import TYPE_CHECKING

from finetuning_async._lazy import lazy_exports

if TYPE_CHECKING:
    from finetuning_async.journal._binding import (
        ACCOUNT as ACCOUNT,
        bind_account as bind_account,
        check_account as check_account,
    )
    from finetuning_async.journal._create import (
        Pause as Pause,
        Retry as Retry,
        end_of as end_of,
        is_in_doubt as is_in_doubt,
        lookalike_key as lookalike_key,
        retry_delay as retry_delay,
        reuse_seed as reuse_seed,
        usual_reply as usual_reply,
    )
    from finetuning_async.journal._door import Door as Door
    from finetuning_async.journal._engine import Engine as Engine
    from finetuning_async.journal._entries import JournalEntry as JournalEntry
    from finetuning_async.journal._errors import (
        BatchError as BatchError,
        BatchInputError as BatchInputError,
        BatchLockedError as BatchLockedError,
        JournalError as JournalError,
        StaleItemError as StaleItemError,
        is_fatal as is_fatal,
    )
    from finetuning_async.journal._file_names import (
        UsedNames as UsedNames,
        fold as fold,
        other_names as other_names,
    )
    from finetuning_async.journal._journal import THREAD as THREAD, Journal as Journal
    from finetuning_async.journal._outcomes import (
        check_same_content as check_same_content,
        not_found_error as not_found_error,
        not_storable_error as not_storable_error,
        stale_error as stale_error,
        taken_error as taken_error,
        version as version,
        with_free_name as with_free_name,
    )
    from finetuning_async.journal._records import (
        BATCH_REQUESTS as BATCH_REQUESTS,
        DIGEST_LENGTH as DIGEST_LENGTH,
        FIELDS as FIELDS,
        SHORT_LENGTH as SHORT_LENGTH,
        Added as Added,
        Item as Item,
        ItemFactory as ItemFactory,
        NewItem as NewItem,
        Request as Request,
        Row as Row,
        RowLike as RowLike,
        Summary as Summary,
        body_of as body_of,
        has_secrets as has_secrets,
        without_secrets as without_secrets,
    )
    from finetuning_async.journal._service import (
        EngineOptions as EngineOptions,
        OnDoubt as OnDoubt,
        Service as Service,
        read_account as read_account,
    )
    from finetuning_async.journal._spending import (
        BOOK as BOOK,
        LATE as LATE,
        LONGEST_LEASE as LONGEST_LEASE,
        SPENT_AT as SPENT_AT,
        UNBOOK as UNBOOK,
        USAGE as USAGE,
        Booking as Booking,
        Usage as Usage,
        booking_of as booking_of,
        charge_delay as charge_delay,
        first_refusal as first_refusal,
        parameters as parameters,
        sql as sql,
    )
    from finetuning_async.journal._sql_columns import (
        ALL_COLUMNS as ALL_COLUMNS,
        COUNTS as COUNTS,
        ENTRY_COLUMNS as ENTRY_COLUMNS,
        NEW_COLUMNS as NEW_COLUMNS,
        REVIVE_404 as REVIVE_404,
        entry_values as entry_values,
        item_of as item_of,
        new_values as new_values,
        summary_of as summary_of,
        tracks_of as tracks_of,
    )
    from finetuning_async.journal._sqlite_journal import (
        LOOK_EVERY as LOOK_EVERY,
        SETTLE as SETTLE,
        JournalBackend as JournalBackend,
        SQLiteJournal as SQLiteJournal,
        check_seconds as check_seconds,
        close_stores as close_stores,
    )
    from finetuning_async.journal._sqlite_store import SQLiteStore as SQLiteStore
    from finetuning_async.journal._state_machine import (
        NEXT as NEXT,
        STATES as STATES,
        Absent as Absent,
        Accepted as Accepted,
        Action as Action,
        Adopted as Adopted,
        Claimed as Claimed,
        Ended as Ended,
        Entry as Entry,
        Event as Event,
        Found as Found,
        Held as Held,
        Lost as Lost,
        Missing as Missing,
        NotSent as NotSent,
        Rejected as Rejected,
        Released as Released,
        Restarted as Restarted,
        Retried as Retried,
        Saved as Saved,
        Sending as Sending,
        State as State,
        step as step,
    )
    from finetuning_async.journal._store import (
        NOT_PENDING as NOT_PENDING,
        Change as Change,
        Committed as Committed,
        Delete as Delete,
        Insert as Insert,
        JournalStore as JournalStore,
        MemoryStore as MemoryStore,
        Update as Update,
        commit_update as commit_update,
    )
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "._binding": ("ACCOUNT", "bind_account", "check_account"),
            "._create": (
                "Pause",
                "Retry",
                "end_of",
                "is_in_doubt",
                "lookalike_key",
                "retry_delay",
                "reuse_seed",
                "usual_reply",
            ),
            "._door": ("Door",),
            "._engine": ("Engine",),
            "._errors": (
                "BatchError",
                "BatchInputError",
                "BatchLockedError",
                "JournalError",
                "StaleItemError",
                "is_fatal",
            ),
            "._entries": ("JournalEntry",),
            "._file_names": ("UsedNames", "fold", "other_names"),
            "._journal": ("Journal", "THREAD"),
            "._outcomes": (
                "check_same_content",
                "not_found_error",
                "not_storable_error",
                "stale_error",
                "taken_error",
                "version",
                "with_free_name",
            ),
            "._records": (
                "Added",
                "BATCH_REQUESTS",
                "DIGEST_LENGTH",
                "FIELDS",
                "Item",
                "ItemFactory",
                "NewItem",
                "Request",
                "Row",
                "RowLike",
                "SHORT_LENGTH",
                "Summary",
                "body_of",
                "has_secrets",
                "without_secrets",
            ),
            "._service": ("EngineOptions", "OnDoubt", "Service", "read_account"),
            "._spending": (
                "BOOK",
                "Booking",
                "LATE",
                "LONGEST_LEASE",
                "SPENT_AT",
                "UNBOOK",
                "USAGE",
                "Usage",
                "booking_of",
                "charge_delay",
                "first_refusal",
                "parameters",
                "sql",
            ),
            "._sql_columns": (
                "ALL_COLUMNS",
                "COUNTS",
                "ENTRY_COLUMNS",
                "REVIVE_404",
                "NEW_COLUMNS",
                "entry_values",
                "item_of",
                "new_values",
                "summary_of",
                "tracks_of",
            ),
            "._sqlite_journal": (
                "JournalBackend",
                "LOOK_EVERY",
                "SETTLE",
                "SQLiteJournal",
                "check_seconds",
                "close_stores",
            ),
            "._sqlite_store": ("SQLiteStore",),
            "._state_machine": (
                "Absent",
                "Accepted",
                "Action",
                "Adopted",
                "Claimed",
                "Ended",
                "Entry",
                "Event",
                "Found",
                "Held",
                "Lost",
                "Missing",
                "NEXT",
                "NotSent",
                "Rejected",
                "Released",
                "Restarted",
                "Retried",
                "STATES",
                "Saved",
                "Sending",
                "State",
                "step",
            ),
            "._store": (
                "Change",
                "Committed",
                "Delete",
                "Insert",
                "JournalStore",
                "MemoryStore",
                "NOT_PENDING",
                "Update",
                "commit_update",
            ),
        },
    )

__all__ = [
    "JournalBackend",
    "JournalEntry",
    "JournalError",
    "JournalStore",
    "SQLiteJournal",
    "StaleItemError",
]
