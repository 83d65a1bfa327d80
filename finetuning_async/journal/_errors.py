"""What can go wrong with a batch, beside what can go wrong with the service."""

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

SHOWN: Final = 20
"""Problems of an input that its message repeats; `problems` has them all."""


class BatchError(FinetuningError):
    """A batch cannot go on, or was used in a way that it cannot be.

    Example:
        from finetuning_async.batch import BatchError, read_summary

        try:
            read_summary("no-batch-here")
        except BatchError as error:
            print(error)
    """


class BatchLockedError(BatchError):
    """Another runner works in the same folder.

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
    """The journal cannot be read or written, or was asked for what cannot be.

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
    """Somebody else has moved the item on meanwhile; look again where it stands.

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
    """The input is wrong in some rows; nothing was taken in and nothing was paid.

    Attributes:
        problems: Each as one line that begins with where it is.

    Example:
        from finetuning_async.batch import BatchInputError, read_rows

        try:
            list(read_rows(['{"tags": "rain", "bpm": 500}', '{"tag": "wind"}']))
        except BatchInputError as error:
            print(*error.problems, sep="; ")
    """

    def __init__(self, problems: Sequence[str]) -> None:
        shown = list(problems[:SHOWN])
        if len(problems) > SHOWN:
            shown.append(f"and {len(problems) - SHOWN} more")
        super().__init__("\n".join(shown))
        self.problems: tuple[str, ...] = tuple(problems)


def is_fatal(error: FinetuningError) -> bool:
    """Whether nothing else will go better: key, plan, client or journal.

    A 401 or 403 that is not in the service's own form may be a gateway's, and passes.
    """
    if isinstance(error, AuthenticationError | PermissionDeniedError):
        return is_in_own_form(error)
    return isinstance(error, ClientClosedError | BatchError)
