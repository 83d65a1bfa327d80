"""Errors of batches and journals, beside those of the service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from finetuning_async._api import is_in_own_form
from finetuning_async._errors import (
    AuthenticationError,
    ClientClosedError,
    FinetuningError,
    PermissionDeniedError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_SHOWN: Final = 20
"""Problems of an input that its message shows; `problems` has them all."""


class BatchError(FinetuningError):
    """A batch cannot continue, or a call is not possible in its present state.

    Example:
        from finetuning_async.batch import BatchError, read_summary

        try:
            read_summary("no-batch-here")
        except BatchError as error:
            print(error)
    """


class BatchLockedError(BatchError):
    """Another runner is working in the same folder.

    Example:
        from finetuning_async.batch import Batch, BatchLockedError

        async with Batch(client, "album"):
            try:
                async with Batch(client, "album"):
                    pass
            except BatchLockedError as error:
                print(error)
    """


class JournalError(BatchError):
    """The journal cannot be read or written, or does not allow the change.

    Imported from `finetuning_async.journal` or `finetuning_async.batch`. A create whose
    entry cannot be written is not sent. One that was sent before the journal failed has
    the `generation_id` of its track, if it was accepted; with an idempotency key the
    same call cannot pay twice in any case.

    Example:
        from finetuning_async.batch import Batch, JournalError, Row

        async with Batch(client, "album") as batch:
            await batch.add([Row(request=GenerationRequest("rain"), custom_id="1")])
            try:
                await batch.add([Row(request=GenerationRequest("wind"), custom_id="1")])
            except JournalError as error:
                print(error)
    """


class StaleItemError(JournalError):
    """Another worker has changed the item since it was read; read it again.

    Example:
        from finetuning_async.batch import Batch, StaleItemError

        async with Batch(client, "album") as batch:
            try:
                await batch.release()
            except StaleItemError:
                print("another process works on them")
            print(batch.summary.as_dict())
    """


class BatchInputError(BatchError, ValueError):
    """Some rows of the input are invalid; none was added, and nothing was charged.

    Attributes:
        problems: One line for each problem; it begins with where the problem is.

    Example:
        from finetuning_async.batch import BatchInputError, read_rows

        try:
            list(read_rows(['{"tags": "rain", "bpm": 500}', '{"tag": "wind"}']))
        except BatchInputError as error:
            print(*error.problems, sep="; ")
    """

    def __init__(self, problems: Sequence[str]) -> None:
        shown = list(problems[:MAX_SHOWN])
        if len(problems) > MAX_SHOWN:
            shown.append(f"and {len(problems) - MAX_SHOWN} more")
        super().__init__("\n".join(shown))
        self.problems: tuple[str, ...] = tuple(problems)


def is_fatal(error: FinetuningError) -> bool:
    """Whether every other call would fail too: key, plan, client or journal.

    A 401 or 403 that is not in the service's own form may come from a gateway, and is
    treated as transient.
    """
    if isinstance(error, AuthenticationError | PermissionDeniedError):
        return is_in_own_form(error)
    return isinstance(error, ClientClosedError | BatchError)
