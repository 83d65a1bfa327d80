"""Many requests at once: created as their turns come, told as they end.

A feeder reads the requests one by one, and only while fewer than `SUBMITTING` of them
are being submitted; so an endless source is read no faster than tracks are accepted.
Each request has a task of its own, from its create to its end. All of them live in the
caller's ``async with`` block and end with it.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

import anyio
import anyio.lowlevel

from finetuning_async._api import (
    AnyRequest,
    GenerationRequest,
    InstrumentalRequest,
    Outcome,
    SoundEffectRequest,
)
from finetuning_async._errors import (
    FinetuningError,
    GenerationFailedError,
    InvalidRequestError,
    SubmissionUnknownError,
    WaitTimeoutError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from types import TracebackType

    from anyio.abc import TaskGroup, TaskStatus

    from finetuning_async._api import Generation, SoundEffect
    from finetuning_async._session import Session
    from finetuning_async._submission import Submission
    from finetuning_async._types import OnUnknown, UpdateCallback

Requests: TypeAlias = Iterable[AnyRequest] | AsyncIterable[AnyRequest]

SUBMITTING: Final = 4
"""Requests that are being submitted at a time, waiting for their turn included. With
10 creates a minute two keep the rate; more only shorten the first burst."""


class Outcomes(AsyncIterator[Outcome]):
    """The ends of many requests, as they come; see `AsyncClient.generate_many`.

    Args:
        session: The client, bound to the running event loop.
        requests: What to create.
        on_unknown: As for `Generations.create`.
        on_submitted: Called with each accepted state.
        validate: Whether the parameters are checked here first.
        timeout: Seconds for each create; `None` for no limit.
        max_retries: Repetitions of each; `None` for the client's own number.
        wait_timeout: Seconds from each acceptance on; `None` for no limit.
        on_update: Called with each changed state of each track.

    Example:
        wishes = (GenerationRequest(f"{mood} piano") for mood in ("calm", "bright"))
        async with client.generate_many(wishes) as outcomes:
            async for outcome in outcomes:
                print(outcome.request.prompt, outcome.error or outcome.generation)
                break  # the other one goes on at the service
        print(outcomes.pending)
        for outcome in outcomes.in_doubt:
            print(outcome.error)  # it may be paid: it says what to look for
    """

    def __init__(
        self,
        session: Session,
        requests: Requests,
        *,
        on_unknown: OnUnknown,
        on_submitted: Callable[[Any], Awaitable[None] | None] | None,
        validate: bool,
        timeout: float | None,
        max_retries: int | None,
        wait_timeout: float | None,
        on_update: UpdateCallback | None,
    ) -> None:
        self._session = session
        self._requests = requests
        self._order: dict[str, Any] = {
            "on_unknown": on_unknown,
            "validate": validate,
            "max_retries": max_retries,
        }
        self._timeout = timeout
        self._on_submitted = on_submitted
        self._wait = {"timeout": wait_timeout, "on_update": on_update}
        self._tasks: TaskGroup | None = None
        self._slots = anyio.Semaphore(SUBMITTING)
        self._working = 0
        self._ended: deque[tuple[Outcome, str | None]] = deque()
        self._pending: dict[str, None] = {}
        self._in_doubt: list[Outcome] = []
        self._broken: Exception | None = None
        self._changed: anyio.Event | None = None

    def __repr__(self) -> str:
        return (
            f"<Outcomes working={self._working} ended={len(self._ended)}"
            f" pending={len(self._pending)}>"
        )

    @property
    def pending(self) -> tuple[str, ...]:
        """The ids that were accepted and whose outcome has not been handed out."""
        return tuple(self._pending)

    @property
    def in_doubt(self) -> tuple[Outcome, ...]:
        """The creates so far that may be paid and whose track is not known.

        Each has a `SubmissionUnknownError`. After a block that was left early, those
        are among them that were on the wire or being looked up; such an outcome is
        handed out as well to whoever goes on iterating.
        """
        return tuple(self._in_doubt)

    async def __aenter__(self) -> Self:
        if self._tasks is not None:
            raise RuntimeError("a generate_many block can be entered only once")
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._working += 1
        self._tasks.start_soon(self._feed, self._tasks)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._tasks is not None:
            self._tasks.cancel_scope.cancel()
            # The body's own exception goes on as it is, not inside a group.
            await self._tasks.__aexit__(None, None, None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Outcome:
        """The next end.

        Raises:
            Exception: What the source of the requests, or a callback, has raised; after
                the ends of all that was submitted before.
        """
        if self._tasks is None:
            raise RuntimeError("use it as: async with client.generate_many(...) as ...")
        await anyio.lowlevel.checkpoint()
        while not self._ended:
            if not self._working:
                broken, self._broken = self._broken, None
                raise broken or StopAsyncIteration
            if self._changed is None:
                self._changed = anyio.Event()
            await self._changed.wait()
        outcome, track_id = self._ended.popleft()
        if track_id is not None:
            del self._pending[track_id]
        return outcome

    async def _feed(self, tasks: TaskGroup) -> None:
        try:
            async with aclosing(_each(self._requests)) as requests:
                await self._slots.acquire()
                async for request in requests:
                    _check(request)
                    self._working += 1
                    await tasks.start(self._one, request)
                    await self._slots.acquire()
                    if self._broken is not None:
                        break
        except Exception as error:
            self._broken = self._broken or error
        finally:
            self._leave()

    async def _one(self, request: AnyRequest, *, task_status: TaskStatus[None]) -> None:
        accepted: list[Any] = []
        try:
            outcome = await self._outcome(request, accepted, task_status)
            track_id = accepted[0].id if accepted else None
            self._ended.append((outcome, track_id))
        except Exception as error:
            self._broken = self._broken or error
        finally:
            self._leave()

    async def _outcome(
        self, request: AnyRequest, accepted: list[Any], task_status: TaskStatus[None]
    ) -> Outcome:
        error: FinetuningError | None = None
        try:
            track = await self._submit(request, accepted, task_status)
            track = await self._session.wait(track, **self._wait)
            if track.status == "failed":
                error = _failure(track)
        except FinetuningError as raised:
            error = raised
            track = accepted[0] if accepted else None
        if isinstance(error, WaitTimeoutError):
            error.safe_to_retry = False  # the same call would create it again
            track = error.generation or track
        outcome = Outcome(request=request, generation=track, error=error)
        if isinstance(error, SubmissionUnknownError):
            self._in_doubt.append(outcome)
        return outcome

    async def _submit(
        self, request: AnyRequest, accepted: list[Any], task_status: TaskStatus[None]
    ) -> Any:
        async def note(track: Generation | SoundEffect) -> None:
            accepted.append(track)
            self._pending[track.id] = None
            if self._on_submitted is not None:
                told = self._on_submitted(track)
                if inspect.isawaitable(told):
                    await told

        order: Submission | None = None
        try:
            task_status.started()  # first here, first in line
            order = self._session.order(request, on_submitted=note, **self._order)
            return await self._session.submit(order, self._timeout)
        except anyio.get_cancelled_exc_class():
            if order is not None:
                self._leave_in_doubt(request, order)
            raise
        finally:
            self._slots.release()

    def _leave_in_doubt(self, request: AnyRequest, order: Submission) -> None:
        """Keep what the block was left with, if it may be paid."""
        error = self._session.in_doubt(order, "generate_many was left")
        if error is not None:
            outcome = Outcome(request=request, generation=None, error=error)
            self._in_doubt.append(outcome)
            self._ended.append((outcome, None))

    def _leave(self) -> None:
        self._working -= 1
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.set()


async def _each(requests: Requests) -> AsyncGenerator[AnyRequest]:
    """The requests of either kind of source; a generator is closed at the end."""
    if not isinstance(requests, AsyncIterable):
        for request in requests:
            yield request
        return
    try:
        async for request in requests:
            yield request
    finally:
        if inspect.isasyncgen(requests):
            await requests.aclose()


def _check(request: object) -> None:
    known = GenerationRequest | InstrumentalRequest | SoundEffectRequest
    if not isinstance(request, known):
        allowed = "GenerationRequest, InstrumentalRequest or SoundEffectRequest objects"
        raise InvalidRequestError("requests", request, allowed)


def _failure(track: Generation | SoundEffect) -> GenerationFailedError:
    return GenerationFailedError(
        f"{track.id} failed: {track.error_message or 'no reason was given'}",
        generation=track,
    )
