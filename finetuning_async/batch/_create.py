"""One create of an item: sending it, and what its error says about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias, cast

import attrs

from finetuning_async._errors import (
    BadRequestError,
    InternalServerError,
    InvalidRequestError,
    NotFoundError,
    SubmissionUnknownError,
)
from finetuning_async._session import session_of
from finetuning_async.journal import BatchError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from finetuning_async._api import Generation
    from finetuning_async._client import AsyncClient
    from finetuning_async._errors import FinetuningError
    from finetuning_async.journal import Item, Request

Outcome: TypeAlias = Literal["lost", "rejected", "refused"]
"""``lost``: it may have been charged; ``rejected``: it will never be accepted;
``refused``: it was not accepted this time."""

RETRY_DELAYS: Final = (5.0, 10.0, 20.0, 40.0, 60.0)
"""Seconds before a create is sent again after a transient failure; then every 60 s."""

MAX_REFUSALS: Final = 5
"""Refusals of the kind `ends_item_if_repeated` after which an item counts as failed."""


class Create:
    """One create of an item, whose steps the journal has to know.

    The intent must be committed when the rate limit allows the request, not when the
    create begins to wait for it: then an item in doubt is one whose create was really
    in flight, and not one that waited for minutes and never left.

    Args:
        client: Sends it.
        request: What to create.
        seed: The seed to send; `None` to draw one.
        before_wait: Awaited before each attempt waits for its permit. The attempt
            before it, if any, is then known not to have been accepted.
        before_send: Awaited with the permit taken, before the first byte of each
            attempt leaves.
        on_accepted: Awaited with the accepted state, before `send` returns.
    """

    def __init__(
        self,
        client: AsyncClient,
        request: Request,
        seed: int | None,
        *,
        before_wait: Callable[[], Awaitable[None]],
        before_send: Callable[[], Awaitable[None]],
        on_accepted: Callable[[Generation], Awaitable[None]],
    ) -> None:
        self._session = session_of(client)
        self._submission = self._session.new_submission(
            request,
            validate=False,  # `add` has checked it
            priority="low",  # a person comes before a batch
            on_submitted=on_accepted,
            before_wait=before_wait,
            before_send=before_send,
        )
        # An item that is sent again carries the seed of its first create, so that the
        # track of either create is recognized as the item's.
        if seed is not None and request.seed is None:
            body = request.to_body(seed=seed)
            self._submission.call = attrs.evolve(self._submission.call, body=body)
            self._submission.seed = seed

    @property
    def seed(self) -> int:
        """The seed that it sends."""
        return cast("int", self._submission.seed)

    @property
    def is_accepted(self) -> bool:
        """Whether the service accepted it."""
        return self._submission.accepted is not None

    @property
    def is_in_doubt(self) -> bool:
        """Whether an attempt may have been accepted, though no response says so."""
        return not self.is_accepted and self._submission.in_doubt_since is not None

    async def send(self) -> Generation:
        """Wait for the queue and the rate limit, then send it.

        Raises:
            FinetuningError: As ``client.generations.create``.
            Exception: What one of the callbacks raised.
        """
        return cast("Generation", await self._session.submit(self._submission, None))


def outcome_of(create: Create, error: FinetuningError) -> Outcome:
    """What an error of `Create.send` says about the create.

    Raises:
        FinetuningError: It says nothing about the create: the track was accepted, or
            the journal could not be written.
    """
    if create.is_accepted or isinstance(error, BatchError):
        raise error
    if isinstance(error, SubmissionUnknownError):
        return "lost"
    # Even a response that says the create was not queued does not prove it: services
    # have queued a create and answered with an error (see test_absence.py).
    if create.is_in_doubt:
        return "lost"
    if isinstance(error, InvalidRequestError | BadRequestError):
        return "rejected"
    return "refused"


def ends_item_if_repeated(error: FinetuningError) -> bool:
    """Whether an item counts as failed after `MAX_REFUSALS` such refusals.

    A 404 is among them: a create names nothing that could have been deleted, so the
    response says nothing about the item itself.
    """
    return isinstance(error, InternalServerError | NotFoundError)


def lookalike_key(item: Item) -> tuple[str, str, int] | None:
    """A key shared by items whose tracks look the same in a listing.

    Such items have the same kind, prompt and seed, chosen by the caller. They go one at
    a time. `None` for an item whose seed is drawn here.
    """
    if '"seed"' not in item.body:  # cheaper than to build the request
        return None
    request = item.request
    return None if request.seed is None else (item.kind, request.prompt, request.seed)
