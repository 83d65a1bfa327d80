"""What was asked for and what became of it, durable.

_state_machine   (state, event) -> state, action: the rules
_journal         events in, states and counts out, one at a time
_store           what a store has to do, and one in memory
_sqlite_store    one SQLite file: WAL, each commit on disk before it returns
_sql_columns     the columns that all SQL stores share
_records         rows as asked for, and items as they stand
_file_names      names of audio files: stable, unique, harmless
_errors          errors of batches and journals
"""

from typing import TYPE_CHECKING

from finetuning_async._lazy import lazy_exports

if TYPE_CHECKING:
    from finetuning_async.journal._errors import (
        BatchError as BatchError,
        BatchInputError as BatchInputError,
        BatchLockedError as BatchLockedError,
        JournalError as JournalError,
        StaleItemError as StaleItemError,
        is_fatal as is_fatal,
    )
    from finetuning_async.journal._file_names import (
        Taken as Taken,
        fold as fold,
        other_names as other_names,
    )
    from finetuning_async.journal._journal import Journal as Journal
    from finetuning_async.journal._records import (
        DIGEST as DIGEST,
        FIELDS as FIELDS,
        REQUESTS as REQUESTS,
        SHORT as SHORT,
        Item as Item,
        Keys as Keys,
        NewItem as NewItem,
        Request as Request,
        Row as Row,
        Summary as Summary,
    )
    from finetuning_async.journal._sql_columns import (
        ALL as ALL,
        ENTRY as ENTRY,
        MISTAKEN as MISTAKEN,
        NEW as NEW,
        entry_values as entry_values,
        item_of as item_of,
        new_values as new_values,
        summary_of as summary_of,
        tracks_of as tracks_of,
    )
    from finetuning_async.journal._sqlite_store import SQLiteStore as SQLiteStore
    from finetuning_async.journal._state_machine import (
        NEXT as NEXT,
        STATES as STATES,
        Absent as Absent,
        Accepted as Accepted,
        Action as Action,
        Adopted as Adopted,
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
        SETTLED as SETTLED,
        Added as Added,
        JournalStore as JournalStore,
        check_same as check_same,
        named as named,
        not_there as not_there,
        stale as stale,
    )
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "._errors": (
                "BatchError",
                "BatchInputError",
                "BatchLockedError",
                "JournalError",
                "StaleItemError",
                "is_fatal",
            ),
            "._file_names": ("Taken", "fold", "other_names"),
            "._journal": ("Journal",),
            "._records": (
                "DIGEST",
                "FIELDS",
                "Item",
                "Keys",
                "NewItem",
                "REQUESTS",
                "Request",
                "Row",
                "SHORT",
                "Summary",
            ),
            "._sql_columns": (
                "ALL",
                "ENTRY",
                "MISTAKEN",
                "NEW",
                "entry_values",
                "item_of",
                "new_values",
                "summary_of",
                "tracks_of",
            ),
            "._sqlite_store": ("SQLiteStore",),
            "._state_machine": (
                "Absent",
                "Accepted",
                "Action",
                "Adopted",
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
                "Added",
                "JournalStore",
                "SETTLED",
                "check_same",
                "named",
                "not_there",
                "stale",
            ),
        },
    )

__all__: list[str] = ["JournalError", "StaleItemError"]
