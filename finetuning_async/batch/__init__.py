"""Durable batches: thousands of tracks, across crashes, every credit accounted for.

    from finetuning_async.batch import Batch

    async with Batch(client, "album") as batch:
        await batch.add([GenerationRequest("rain"), GenerationRequest("wind")])
        async for item in batch.run():
            print(item.path or item.error)

How a job queue of your own makes batches is in ``guides/job-queues.md``.

It needs the extra ``batch`` (filelock). The states of an item, and the words for them,
are in `finetuning_async.journal`. The files, top down:

    _batch               Batch: one folder, one run at a time
    _runner              one run: brings journal and folder up to date, then runs it
    _run                 its items, side by side: order, slots, pauses, downloads
    _worker              Worker: one item of a journal that many machines share
    _batch_journal       BatchJournal: adds such items and reads them

`Run` and `Worker` are doors to the engine of `finetuning_async.journal`, which takes an
item through its steps.

    _admin               reads and changes a folder without a client
    _existing            results in the folder that the journal does not know
    _object_folder       files in an object store, such as S3
    _folder              paths, the lock, the place, and the file system below
    _outputs             results.jsonl and errors.jsonl
    _audio_files         one track to its file, with tags
    _input               rows from JSONL and CSV
    _item, _options      BatchItem, Options
"""

from typing import TYPE_CHECKING

from finetuning_async._lazy import lazy_exports

if TYPE_CHECKING:
    from finetuning_async.batch._admin import (
        read_held as read_held,
        read_summary as read_summary,
        release as release,
        release_items as release_items,
        retry_failed as retry_failed,
        retry_items as retry_items,
    )
    from finetuning_async.batch._audio_files import Save as Save, into as into
    from finetuning_async.batch._batch import Batch as Batch, Results as Results
    from finetuning_async.batch._batch_journal import (
        BatchJournal as BatchJournal,
        new_items as new_items,
    )
    from finetuning_async.batch._existing import (
        Existing as Existing,
        existing_error as existing_error,
    )
    from finetuning_async.batch._folder import Folder as Folder
    from finetuning_async.batch._input import (
        Format as Format,
        check_rows as check_rows,
        read_rows as read_rows,
    )
    from finetuning_async.batch._item import BatchItem as BatchItem
    from finetuning_async.batch._object_folder import folder_of as folder_of
    from finetuning_async.batch._options import Options as Options
    from finetuning_async.batch._worker import (
        Progress as Progress,
        Worker as Worker,
    )
    from finetuning_async.journal import (
        ACCOUNT as ACCOUNT,
        Added as Added,
        BatchError as BatchError,
        BatchInputError as BatchInputError,
        BatchLockedError as BatchLockedError,
        JournalError as JournalError,
        Row as Row,
        StaleItemError as StaleItemError,
        Summary as Summary,
        check_account as check_account,
    )
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "._admin": (
                "read_held",
                "read_summary",
                "release",
                "release_items",
                "retry_failed",
                "retry_items",
            ),
            "._audio_files": ("Save", "into"),
            "._batch": ("Batch", "Results"),
            "._batch_journal": ("BatchJournal", "new_items"),
            "._existing": ("Existing", "existing_error"),
            "._folder": ("Folder",),
            "._input": ("Format", "check_rows", "read_rows"),
            "._item": ("BatchItem",),
            "._object_folder": ("folder_of",),
            "._options": ("Options",),
            "._worker": ("Progress", "Worker"),
            "..journal": (
                "ACCOUNT",
                "Added",
                "BatchError",
                "BatchInputError",
                "BatchLockedError",
                "JournalError",
                "Row",
                "StaleItemError",
                "Summary",
                "check_account",
            ),
        },
    )

__all__ = [
    "Added",
    "Batch",
    "BatchError",
    "BatchInputError",
    "BatchItem",
    "BatchJournal",
    "BatchLockedError",
    "JournalError",
    "Options",
    "Progress",
    "Results",
    "Row",
    "Save",
    "StaleItemError",
    "Summary",
    "Worker",
    "into",
    "read_rows",
    "read_summary",
    "release",
    "retry_failed",
]
