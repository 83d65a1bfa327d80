"""`generate_many`: create many tracks concurrently, yield each outcome as it ends.

A feeder task reads the requests one by one, and only while fewer than
`MAX_SUBMITTING` of them are being submitted, so that an endless source is read no
faster than tracks are accepted. Each request has a task of its own, from its create to
its end. All tasks live in the task group of the caller's ``async with`` block.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
)
from contextlib import aclosing
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Final,
    Generic,
    Self,
    TypeAlias,
    TypedDict,
    TypeVar,
    cast,
)

import anyio
import anyio.lowlevel

from finetuning_async._api import (
    AnyRequest,
    CompletedOutcome,
    FailedOutcome,
    GenerationRequest,
    InstrumentalRequest,
    Outcome,
    RequestT_co,
    TrackT_co,
    as_request,
    check_callback,
    check_retries,
    check_timeout,
)
from finetuning_async._errors import (
    FinetuningError,
    SubmissionUnknownError,
    WaitTimeoutError,
)
from finetuning_async._resources._common import failed_error
from finetuning_async._resources._track_progress import ProgressReports

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from types import TracebackType

    from anyio.abc import TaskGroup

    from finetuning_async._api import Generation, SoundEffect
    from finetuning_async._events import CreateWaiting
    from finetuning_async._resources._track_progress import ProgressCallback
    from finetuning_async._session import Session
    from finetuning_async._submission import Submission
    from finetuning_async._types import OnUnknown, Priority, UpdateCallback

T = TypeVar("T")
Requests: TypeAlias = Iterable[T] | AsyncIterable[T]

MusicRequestT = TypeVar("MusicRequestT", bound=GenerationRequest | InstrumentalRequest)
"""A request whose track is a `Generation`."""

MAX_SUBMITTING: Final = 4
"""Requests being submitted at a time, those that wait for the rate limit included. At
10 creates a minute two are enough to keep the rate; more only shorten the first
burst. Of low priority twice a burst of them wait, so that they go out evenly."""


class ManyOptions(TypedDict, total=False):
    """The options of `generate_many`, once for all of its overloads."""

    on_unknown: OnUnknown
    on_submitted: Callable[[Any], Awaitable[None] | None] | None
    validate: bool
    timeout: float | None
    max_retries: int | None
    wait_timeout: float | None
    on_update: UpdateCallback | None
    priority: Priority | None
    share: str | None
    max_wait: float | None
    on_waiting: Callable[[CreateWaiting], object] | None
    on_track_progress: ProgressCallback | None


class Outcomes(
    AsyncIterator[
        CompletedOutcome[RequestT_co, TrackT_co] | FailedOutcome[RequestT_co, TrackT_co]
    ],
    Generic[RequestT_co, TrackT_co],
):
    """The outcomes of many requests, as they end; see `AsyncClient.generate_many`.

    Args:
        session: The client, bound to the running event loop.
        requests: What to create.
        on_unknown: As for `Generations`.
        on_submitted: Called with each track as accepted.
        validate: Whether to check the parameters before sending them.
        timeout: Seconds for each create; `None` for no limit.
        max_retries: Retries of each create; `None` for the client's number.
        wait_timeout: Seconds from each acceptance on; `None` for no limit.
        on_update: Called with each changed state of each track.
        on_track_progress: Called with each track and its `Progress`, once a second.

    Example:
        requests = (GenerationRequest(f"{mood} piano") for mood in ("calm", "bright"))
        async with client.generate_many(requests) as outcomes:
            async for outcome in outcomes:
                print(outcome.request.prompt, outcome.error or outcome.generation)
                break  # the service goes on with the other one
        print(outcomes.pending)
        for outcome in outcomes.in_doubt:
            print(outcome.error)  # it may have been charged: says what to look for
    """

    _method: ClassVar[str] = "generate_many"

    def __init__(
        self,
        session: Session,
        requests: Requests[Any],
        *,
        on_unknown: OnUnknown,
        on_submitted: Callable[[Any], Awaitable[None] | None] | None,
        validate: bool,
        timeout: float | None,
        max_retries: int | None,
        wait_timeout: float | None,
        on_update: UpdateCallback | None,
        priority: Priority | None = None,
        share: str | None = None,
        max_wait: float | None = None,
        on_waiting: Callable[[CreateWaiting], object] | None = None,
        on_track_progress: ProgressCallback | None = None,
    ) -> None:
        self._session = session
        self._progress: ProgressReports | None = None
        if on_track_progress is not None:
            self._progress = ProgressReports(session, on_track_progress, on_update)
            on_update = self._progress.update
        self._requests = requests
        self._submission_options: dict[str, Any] = {
            "on_unknown": on_unknown,
            "validate": validate,
            "max_retries": max_retries,
            "priority": priority,
            "share": share,
            "max_wait": max_wait,
            "on_waiting": on_waiting,
        }
        self._timeout = timeout
        self._on_submitted = on_submitted
        self._wait_options = {"timeout": wait_timeout, "on_update": on_update}
        self._tasks: TaskGroup | None = None
        self._slots = anyio.Semaphore(MAX_SUBMITTING)
        # Those of low priority go out evenly, if more wait than a burst holds.
        self._low_slots = anyio.Semaphore(2 * session.burst)
        self._running = 0
        # The outcomes not yet yielded, each with the id to take out of `_pending`.
        self._ended: deque[tuple[Any, str | None]] = deque()
        self._pending: dict[str, None] = {}
        self._in_doubt: list[Outcome] = []
        self._error: Exception | None = None
        self._changed: anyio.Event | None = None

    def __repr__(self) -> str:
        return (
            f"<Outcomes running={self._running} ended={len(self._ended)}"
            f" pending={len(self._pending)}>"
        )

    @property
    def pending(self) -> tuple[str, ...]:
        """The ids of accepted tracks whose outcome has not been yielded."""
        return tuple(self._pending)

    @property
    def in_doubt(self) -> tuple[FailedOutcome[RequestT_co, TrackT_co], ...]:
        """The outcomes of creates that may have been charged, with no track known.

        Each has a `SubmissionUnknownError`. After a block that was left early, they
        include the creates that were in flight or being looked up; these outcomes are
        also yielded if the iteration continues.
        """
        return tuple(cast("list[Any]", self._in_doubt))

    async def __aenter__(self) -> Self:
        if self._tasks is not None:
            raise RuntimeError(
                f"{self._method} can be entered only once; call it again"
            )
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._running += 1
        self._tasks.start_soon(self._feed, self._tasks)
        if self._progress is not None:
            self._tasks.start_soon(self._progress.run)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._tasks is not None:
            self._tasks.cancel_scope.cancel()
            # Given to the task group, the body's exception would come out in a group.
            try:
                await self._tasks.__aexit__(None, None, None)
            finally:  # of a task that was cancelled before it began, no one heard
                self._running = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(
        self,
    ) -> (
        CompletedOutcome[RequestT_co, TrackT_co] | FailedOutcome[RequestT_co, TrackT_co]
    ):
        """Wait for the next outcome.

        Raises:
            Exception: An exception of the source of the requests or of a callback; it
                comes after the outcomes of all that was submitted before.
        """
        if self._tasks is None:
            raise RuntimeError(
                f"{self._method} was not entered; write"
                f" `async with client.{self._method}(...) as outcomes`"
            )
        await anyio.lowlevel.checkpoint()
        while not self._ended:
            if not self._running:
                error, self._error = self._error, None
                raise error or StopAsyncIteration
            if self._changed is None:
                self._changed = anyio.Event()
            await self._changed.wait()
        outcome: (
            CompletedOutcome[RequestT_co, TrackT_co]
            | FailedOutcome[RequestT_co, TrackT_co]
        )
        outcome, track_id = self._ended.popleft()
        if track_id is not None:
            # Two requests with one idempotency key have one track.
            self._pending.pop(track_id, None)
        return outcome

    async def _feed(self, tasks: TaskGroup) -> None:
        try:
            async with aclosing(_iterate(self._requests)) as requests:
                # There is a slot before a request is read, and it is released when its
                # create has ended: so the source is never read ahead of the rate limit.
                await self._wait_for_slots()
                async for given in requests:
                    request = as_request(given)
                    self._running += 1
                    self._slots_of(request).acquire_nowait()
                    # Waits until the task runs, so that creates queue for the rate
                    # limit in the order of the requests. `tasks.start` would do so for
                    # ever if `asyncio.run` ends and cancels both tasks before.
                    begun = anyio.Event()
                    tasks.start_soon(self._process, request, begun)
                    await begun.wait()
                    await self._wait_for_slots()
                    if self._error is not None:
                        break
        except Exception as error:
            self._error = self._error or error
        finally:
            self._task_ended()

    async def _wait_for_slots(self) -> None:
        """Wait until there is one for the next request, whatever its priority."""
        for slots in (self._slots, self._low_slots):
            async with slots:
                pass  # only the feeder takes them

    def _slots_of(self, request: AnyRequest) -> anyio.Semaphore:
        given = self._submission_options["priority"], request.priority
        default = self._session.settings.priority
        priority = next((each for each in given if each is not None), default)
        return self._low_slots if priority == "low" else self._slots

    async def _process(self, request: AnyRequest, begun: anyio.Event) -> None:
        # Holds the accepted track as soon as there is one: if the wait for its end
        # fails, the outcome still names it.
        accepted: list[Any] = []
        try:
            begun.set()
            outcome = await self._outcome(request, accepted)
            track_id = accepted[0].id if accepted else None
            self._ended.append((outcome, track_id))
        except Exception as error:
            self._error = self._error or error
        finally:
            self._task_ended()

    async def _outcome(self, request: AnyRequest, accepted: list[Any]) -> Outcome:
        error: FinetuningError | None = None
        try:
            track = await self._submit(request, accepted)
            if self._progress is not None:
                self._progress.add(track)
            track = await self._session.wait(track, **self._wait_options)
            if track.status == "failed":
                has_key = request.idempotency_key is not None
                error = failed_error(track, has_key=has_key)
        except FinetuningError as raised:
            error = raised
            track = accepted[0] if accepted else None
        if self._progress is not None and track is not None:
            self._progress.drop(track.id)
        if isinstance(error, WaitTimeoutError):
            # Without a key, the same call would create it again.
            error.safe_to_retry = request.idempotency_key is not None
            track = error.generation or track
        outcome = Outcome(request=request, generation=track, error=error)
        if isinstance(error, SubmissionUnknownError):
            self._in_doubt.append(outcome)
        return outcome

    async def _submit(self, request: AnyRequest, accepted: list[Any]) -> Any:
        async def on_accepted(track: Generation | SoundEffect) -> None:
            accepted.append(track)
            self._pending[track.id] = None
            if self._on_submitted is not None:
                result = self._on_submitted(track)
                if inspect.isawaitable(result):
                    await result

        submission: Submission | None = None
        try:
            submission = self._session.new_submission(
                request, on_submitted=on_accepted, **self._submission_options
            )
            return await self._session.create(submission, self._timeout)
        except anyio.get_cancelled_exc_class():
            if submission is not None:
                self._record_in_doubt(request, submission)
            raise
        finally:
            self._slots_of(request).release()

    def _record_in_doubt(self, request: AnyRequest, submission: Submission) -> None:
        """Record a cancelled create that may have been charged."""
        error = self._session.unknown_error(submission, "generate_many was left")
        if error is not None:
            outcome = Outcome(request=request, generation=None, error=error)
            self._in_doubt.append(outcome)
            self._ended.append((outcome, None))

    def _task_ended(self) -> None:
        self._running -= 1
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.set()


async def _iterate(requests: Requests[T]) -> AsyncGenerator[T]:
    """Iterate over a plain or an async source; an async generator is closed."""
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


def check_options(
    *,
    timeout: float | None,
    wait_timeout: float | None,
    max_retries: int | None,
    on_submitted: object,
    on_update: object,
    on_track_progress: object,
) -> None:
    """Check the options of `generate_many` at the call, not at its first request.

    Raises:
        InvalidRequestError: A number is out of its range, or a callback is not
            callable.
    """
    check_callback(on_submitted, "on_submitted")
    check_callback(on_update, "on_update")
    if timeout is not None:
        check_timeout(timeout)
    if max_retries is not None:
        check_retries(max_retries)
    if wait_timeout is not None:
        check_timeout(wait_timeout, "wait_timeout")
    check_callback(on_track_progress, "on_track_progress")
