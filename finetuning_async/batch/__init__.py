"""Durable batches: thousands of tracks, across crashes, every credit accounted for.

    from finetuning_async.batch import Batch

    async with Batch(client, "album") as batch:
        await batch.add([GenerationRequest("rain"), GenerationRequest("wind")])
        async for item in batch.run():
            print(item.path or item.error)

It needs the extra ``batch`` (filelock). The states of an item, and the words for them,
are in `finetuning_async.journal`. The files, top down:

    _batch               Batch: one runner, one folder
    _runner              one run: prepare, then creates, completions and reconciling
    _reconcile_loop      lists tracks while something is in doubt, and decides
    _creator             sends creates in the order of the input
    _completion          waits for accepted tracks, downloads and reports them
    _run_context         what these share

    _batch_journal       BatchJournal: batches in a journal that many workers share
    _worker              Worker: one item of such a journal, for any job queue
    _item_processor      its steps: create, look up, wait, save
    _shared_reconciler   the same as _reconcile_loop, beside other workers

    _create              one create: how it is sent, and what its error says about it
    _reconciler          finds the tracks of creates in doubt, or proves them absent
    _matching            which listed track is whose, and when one is absent (pure)
    _credit_check        whether the credits rule out a charge (pure)

    _admin               reads and changes a folder without a client
    _binding             the account and the place that a journal belongs to
    _existing            results in the folder that the journal does not know
    _folder              paths, the lock, and the file system below
    _outputs             results.jsonl and errors.jsonl
    _audio_files         one track to its file; _id3: its tags
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
    from finetuning_async.batch._batch import Batch as Batch, Results as Results
    from finetuning_async.batch._batch_journal import (
        BatchJournal as BatchJournal,
        new_items as new_items,
    )
    from finetuning_async.batch._binding import (
        ACCOUNT as ACCOUNT,
        check_account as check_account,
    )
    from finetuning_async.batch._create import lookalike_key as lookalike_key
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
    from finetuning_async.batch._item_processor import Save as Save
    from finetuning_async.batch._options import Options as Options
    from finetuning_async.batch._worker import (
        Progress as Progress,
        Worker as Worker,
        into as into,
    )
    from finetuning_async.journal import (
        Added as Added,
        BatchError as BatchError,
        BatchInputError as BatchInputError,
        BatchLockedError as BatchLockedError,
        JournalError as JournalError,
        Row as Row,
        StaleItemError as StaleItemError,
        Summary as Summary,
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
            "._batch": ("Batch", "Results"),
            "._batch_journal": ("BatchJournal", "new_items"),
            "._binding": ("ACCOUNT", "check_account"),
            "._create": ("lookalike_key",),
            "._existing": ("Existing", "existing_error"),
            "._folder": ("Folder",),
            "._input": ("Format", "check_rows", "read_rows"),
            "._item": ("BatchItem",),
            "._item_processor": ("Save",),
            "._options": ("Options",),
            "._worker": ("Progress", "Worker", "into"),
            "..journal": (
                "Added",
                "BatchError",
                "BatchInputError",
                "BatchLockedError",
                "JournalError",
                "Row",
                "StaleItemError",
                "Summary",
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
