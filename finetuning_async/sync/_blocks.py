"""Iterators that need a ``with`` block: of outcomes, and of audio."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

from finetuning_async._api import (
    CompletedOutcome,
    FailedOutcome,
    RequestT_co,
    TrackT_co,
)
from finetuning_async._errors import ClientClosedError
from finetuning_async.sync._iterators import END, next_of

if TYPE_CHECKING:
    from types import TracebackType

    from finetuning_async.sync._call import Block
    from finetuning_async.sync._portal import Portal

T = TypeVar("T")


class BlockItems(Iterator[T]):
    """What an ``async with`` block of the async client iterates over.

    Several threads may share it.

    Args:
        portal: The way to the event loop.
        block: Where its steps run; it was not entered yet.
        target: The async one.
    """

    def __init__(self, portal: Portal, block: Block, target: Any) -> None:
        self._portal = portal
        self._block = block
        self._target = target
        self._was_entered = False

    def __repr__(self) -> str:
        return repr(self._target)

    def __enter__(self) -> Self:
        self._portal.check_same(self._block.thread)
        self._block.enter(self._target)
        self._was_entered = True
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with suppress(ClientClosedError):  # that has ended it
            self._block.leave(exc_type, exc, traceback)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        """Wait for the next one."""
        if not self._was_entered:
            raise RuntimeError("what is in a block comes after `with ... as NAME:`")
        self._portal.check_same(self._block.thread)
        item = self._block.run(next_of(self._target))
        if item is END:
            raise StopIteration
        return cast("T", item)


class Outcomes(
    BlockItems[
        CompletedOutcome[RequestT_co, TrackT_co] | FailedOutcome[RequestT_co, TrackT_co]
    ],
    Generic[RequestT_co, TrackT_co],
):
    """The outcomes of many requests, as they end; see `Client.generate_many`.

    Callbacks run, and requests that are no list are read, while a thread waits for the
    next outcome: so a long body of the loop delays them. An exception of either comes
    after the outcomes of all that was submitted before.

    Example:
        requests = [GenerationRequest(f"{mood} piano") for mood in ("calm", "bright")]
        with client.generate_many(requests) as outcomes:
            for outcome in outcomes:
                print(outcome.request.prompt, outcome.error or outcome.generation)
                break  # the service goes on with the other one
        print(outcomes.pending)
        for outcome in outcomes.in_doubt:
            print(outcome.error)  # it may have been charged: says what to look for
    """

    @property
    def pending(self) -> tuple[str, ...]:
        """The ids of accepted tracks whose outcome has not been yielded."""
        return cast("tuple[str, ...]", self._target.pending)

    @property
    def in_doubt(self) -> tuple[FailedOutcome[RequestT_co, TrackT_co], ...]:
        """The outcomes of creates that may have been charged, with no track known.

        Each has a `SubmissionUnknownError`. After a block that was left early, they
        include the creates that were in flight or being looked up; these outcomes are
        also yielded if the iteration continues.
        """
        in_doubt: tuple[FailedOutcome[RequestT_co, TrackT_co], ...]
        in_doubt = self._target.in_doubt
        return in_doubt


class AudioStream(BlockItems[bytes]):
    """The audio of a track, as it arrives; see `Client.open_audio`.

    A ``with`` block opens it, and its items are the bytes, in pieces of 64 KiB at most
    as they come off the network. Nothing is read ahead but the first piece.

    Example:
        track = client.generate("rain", duration=30)
        with client.open_audio(track, start=500) as audio:
            print(audio.content_type, audio.size)
            for chunk in audio:
                print(len(chunk))
    """

    @property
    def start(self) -> int:
        """The first byte of the file that it gives."""
        return cast("int", self._target.start)

    @property
    def end(self) -> int | None:
        """The byte before which it ends; `None` if the size is not known."""
        return cast("int | None", self._target.end)

    @property
    def size(self) -> int | None:
        """Of the whole file, in bytes; `None` if the host does not say."""
        return cast("int | None", self._target.size)

    @property
    def content_type(self) -> str:
        """What the host says it is, such as ``audio/mpeg``."""
        return cast("str", self._target.content_type)
