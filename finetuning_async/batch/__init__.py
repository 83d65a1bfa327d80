"""Durable batches: thousands of tracks, any crash, every credit accounted for.

    from finetuning_async.batch import Batch

    async with Batch(client, "album") as batch:
        await batch.add([GenerationRequest("rain"), GenerationRequest("wind")])
        async for item in batch.run():
            print(item.path or item.error)

It needs the extra ``batch`` (filelock). The modules, from the top down:

    _batch      Batch: what callers hold; _item: what they see; _manage: no client
    _worker     one item of a journal that many machines share, for any job queue;
                _turn: its steps; _settling: what is in doubt there
    _runner     one run; its parts are _creating, _following and _doubting
    _desk       what the parts share
    _doubts     looks for creates in doubt; _reconcile and _balance decide
    _core       how a create announces itself before its first byte leaves
    _ledger     events into the journal, one at a time, off the loop
    _binding    whose journal it is; _existing: what the folder knows beside it
    _store, _sqlite, _postgres   what keeps the journal; _columns is what they share
    _journal    its rules: (state, event) -> state, action
    _input, _outputs, _saving, _id3, _names, _lock   rows in, files out
"""

from typing import TYPE_CHECKING

from finetuning_async._lazy import lazy_exports

if TYPE_CHECKING:
    from finetuning_async.batch._admin import (
        plan_failed as plan_failed,
        plan_held as plan_held,
        read_held as read_held,
        read_summary as read_summary,
        release as release,
        retry_failed as retry_failed,
    )
    from finetuning_async.batch._batch import Batch as Batch, Results as Results
    from finetuning_async.batch._binding import (
        ACCOUNT as ACCOUNT,
        check_account as check_account,
    )
    from finetuning_async.batch._client_access import queue_is_full as queue_is_full
    from finetuning_async.batch._create_outcome import identity as identity
    from finetuning_async.batch._existing import (
        Existing as Existing,
        refusal as refusal,
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
    from finetuning_async.batch._worker import Worker as Worker, into as into
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
                "plan_failed",
                "plan_held",
                "read_held",
                "read_summary",
                "release",
                "retry_failed",
            ),
            "._batch": ("Batch", "Results"),
            "._binding": ("ACCOUNT", "check_account"),
            "._client_access": ("queue_is_full",),
            "._create_outcome": ("identity",),
            "._existing": ("Existing", "refusal"),
            "._folder": ("Folder",),
            "._input": ("Format", "check_rows", "read_rows"),
            "._item": ("BatchItem",),
            "._item_processor": ("Save",),
            "._options": ("Options",),
            "._worker": ("Worker", "into"),
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
    "BatchLockedError",
    "JournalError",
    "Options",
    "Results",
    "Row",
    "StaleItemError",
    "Summary",
    "read_rows",
    "read_summary",
    "release",
    "retry_failed",
]
