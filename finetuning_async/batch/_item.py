"""`BatchItem`: an item as callers see it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from finetuning_async.journal import Request, State

if TYPE_CHECKING:
    from finetuning_async.journal import Item


@attrs.frozen(kw_only=True)
class BatchItem:
    """An item of a batch, and its state.

    Attributes:
        custom_id: The caller's own name for it, if any.
        key: Unique in the batch.
        request: What was requested.
        file: The name of its MP3.
        state: ``downloaded``, ``failed`` or ``held`` once it has ended. One that is
            ``held`` may have been charged.
        generation_id: The id of its track, once accepted.
        seed: The seed that its create carried.
        path: Its file, once downloaded; `None` in an object store.
        code: The service's error code, or ``unknown``, ``held`` or ``missing``, if
            something is wrong.
        error: The same in words.
        result: Title, length, tempo, key and so on, once the track has ended.

    Example:
        from finetuning_async.batch import Batch

        async with Batch(client, "album") as batch:
            await batch.add([GenerationRequest("rain")])
            items = [item async for item in batch.run()]
            print([(item.path, item.result["duration"]) for item in items])
            held = [item.key for item in items if item.state == "held"]
            await batch.release(*held)  # after a look at the service
    """

    custom_id: str | None
    key: str
    request: Request
    file: str
    state: State
    generation_id: str | None = None
    seed: int | None = None
    path: Path | None = None
    code: str | None = None
    error: str | None = None
    result: dict[str, Any] = attrs.field(factory=dict)

    @classmethod
    def of(cls, item: Item, folder: Path | None = None) -> BatchItem:
        """An item of the journal as callers see it.

        Args:
            item: The journal's.
            folder: Where files are saved; `None` if the path is not known.
        """
        entry = item.entry
        is_saved = entry.state == "downloaded"
        return cls(
            custom_id=item.custom_id,
            key=item.key,
            request=item.request,
            file=item.saved_as,
            state=entry.state,
            generation_id=entry.track_id,
            seed=entry.seed,
            path=folder / item.saved_as if folder is not None and is_saved else None,
            code=entry.code,
            error=entry.error,
            result=item.result,
        )
