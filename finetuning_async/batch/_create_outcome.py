"""What an error says about a create, and which creates look alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from finetuning_async._errors import (
    BadRequestError,
    InternalServerError,
    InvalidRequestError,
    NotFoundError,
    SubmissionUnknownError,
)
from finetuning_async.journal import BatchError

if TYPE_CHECKING:
    from finetuning_async._errors import FinetuningError
    from finetuning_async.batch._client_access import Create
    from finetuning_async.journal import Item

Fate: TypeAlias = Literal["lost", "rejected", "refused"]
"""``lost``: it may be paid; ``rejected``: it is never taken; ``refused``: not now."""

PAUSES: Final = (5.0, 10.0, 20.0, 40.0, 60.0)
"""Seconds before what failed for a passing reason is tried again; then every 60 s."""

REFUSALS: Final = 5
"""Answers that a create was not queued, after which an item counts as failed."""


def fate_of(create: Create, error: FinetuningError) -> Fate:
    """What an error of `Create.send` says about the create.

    Raises:
        FinetuningError: It says nothing: the track was accepted, or the journal could
            not be written.
    """
    if create.is_accepted or isinstance(error, BatchError):
        raise error
    if isinstance(error, SubmissionUnknownError):
        return "lost"
    if create.is_in_doubt:  # even by the service's word that it was not queued
        return "lost"
    if isinstance(error, InvalidRequestError | BadRequestError):
        return "rejected"
    return "refused"


def is_numbered(error: FinetuningError) -> bool:
    """Whether a refusal that comes `REFUSALS` times ends its item.

    A 404 of a create is no word about the item: there is nothing that could be gone.
    """
    return isinstance(error, InternalServerError | NotFoundError)


def identity(item: Item) -> tuple[str, str, int] | None:
    """What items share whose tracks a list cannot tell apart; `None` for most."""
    if '"seed"' not in item.body:
        return None
    request = item.request
    return None if request.seed is None else (item.kind, request.prompt, request.seed)
