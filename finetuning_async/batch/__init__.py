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

from finetuning_async.batch._batch import Batch as Batch
from finetuning_async.batch._batch import Results as Results
from finetuning_async.batch._errors import BatchError as BatchError
from finetuning_async.batch._errors import BatchInputError as BatchInputError
from finetuning_async.batch._errors import BatchLockedError as BatchLockedError
from finetuning_async.batch._errors import JournalError as JournalError
from finetuning_async.batch._errors import StaleItemError as StaleItemError
from finetuning_async.batch._input import read_rows as read_rows
from finetuning_async.batch._item import BatchItem as BatchItem
from finetuning_async.batch._manage import read_summary as read_summary
from finetuning_async.batch._manage import release as release
from finetuning_async.batch._manage import retry_failed as retry_failed
from finetuning_async.batch._options import Options as Options
from finetuning_async.batch._records import Row as Row
from finetuning_async.batch._records import Summary as Summary
from finetuning_async.batch._store import Added as Added

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
