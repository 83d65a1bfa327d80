"""How one request of `generate_many` ended.

There is one class. To a type checker an outcome is one of two, told apart by `error`:
an ``if`` is all that it takes to know that there is a track.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeAlias

import attrs

from finetuning_async._api._models import NotForBrowsers
from finetuning_async._errors import FinetuningError

if TYPE_CHECKING:
    # `typing` has defaults from Python 3.13 on. With them `Outcome` without brackets
    # stands for any outcome.
    from typing_extensions import TypeVar

    from finetuning_async._api._models import Generation, SoundEffect
    from finetuning_async._api._requests import AnyRequest

    RequestT = TypeVar("RequestT", bound=AnyRequest, default=AnyRequest)
    TrackT = TypeVar(
        "TrackT", bound=Generation | SoundEffect, default=Generation | SoundEffect
    )
    RequestT_co = TypeVar(
        "RequestT_co", bound=AnyRequest, default=AnyRequest, covariant=True
    )
    TrackT_co = TypeVar(
        "TrackT_co",
        bound=Generation | SoundEffect,
        default=Generation | SoundEffect,
        covariant=True,
    )
    LastSeenT_co = TypeVar(
        "LastSeenT_co",
        bound=Generation | SoundEffect | None,
        default=Generation | SoundEffect | None,
        covariant=True,
    )
    ErrorT_co = TypeVar(
        "ErrorT_co",
        bound=FinetuningError | None,
        default=FinetuningError | None,
        covariant=True,
    )
else:
    from typing import TypeVar

    RequestT, TrackT = map(TypeVar, ("RequestT", "TrackT"))
    RequestT_co, TrackT_co = map(TypeVar, ("RequestT_co", "TrackT_co"))
    LastSeenT_co, ErrorT_co = map(TypeVar, ("LastSeenT_co", "ErrorT_co"))


@attrs.frozen(kw_only=True)
class Outcome(NotForBrowsers, Generic[RequestT_co, LastSeenT_co, ErrorT_co]):
    """One request of `AsyncClient.generate_many`, and how it ended.

    To a type checker an outcome of `generate_many` is a `CompletedOutcome` or a
    `FailedOutcome`: after ``if outcome.error is None:`` it knows that there is a track,
    and of which kind, if all requests are of one.

    Attributes:
        request: The request.
        generation: The last state seen of its track; `None` if it was not accepted.
        error: Why there is no completed track; `None` if there is one.

    Example:
        requests = [GenerationRequest("rain"), SoundEffectRequest("a door")]
        async with client.generate_many(requests) as outcomes:
            async for outcome in outcomes:
                if outcome.error is None:
                    print(outcome.request.prompt, outcome.generation.audio_url)
                else:
                    print(outcome.request.prompt, outcome.error.code)

        async with client.generate_many(["wind", "snow"]) as outcomes:
            tracks = [outcome.result() async for outcome in outcomes]  # or its error
    """

    request: RequestT_co
    generation: LastSeenT_co = attrs.field(default=None)
    error: ErrorT_co = attrs.field(default=None)

    def result(self: Outcome[Any, TrackT | None, Any]) -> TrackT:
        """Return the completed track, or raise `error`.

        Raises:
            FinetuningError: There is no completed track.
        """
        if self.error is not None:
            raise self.error
        if self.generation is None:
            raise FinetuningError("this outcome has neither a generation nor an error")
        return self.generation


CompletedOutcome: TypeAlias = Outcome[RequestT, TrackT, None]
"""An `Outcome` with a completed track, and no error; for annotations only.

Example:
    def show(outcome: "CompletedOutcome | FailedOutcome") -> None:
        if outcome.error is None:
            print(outcome.generation.audio_url)

    async with client.generate_many(["rain", "wind"]) as outcomes:
        async for outcome in outcomes:
            show(outcome)
"""

FailedOutcome: TypeAlias = Outcome[RequestT, TrackT | None, FinetuningError]
"""An `Outcome` with an error, and a track only if one was accepted; for annotations.

Example:
    failed: "list[FailedOutcome[GenerationRequest]]" = []
    async with client.generate_many(["rain", "wind"]) as outcomes:
        async for outcome in outcomes:
            if outcome.error is not None:
                failed.append(outcome)
    print([outcome.request.prompt for outcome in failed])
"""
