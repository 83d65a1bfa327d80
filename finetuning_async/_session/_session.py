"""A client at work in its event loop: what is its own, and what its account shares.

Settings   (of `_settings`) what a client was given
Pool       (of `_transport`) its connections, shared by its `with_options` views
OpenCalls  the calls under way, so that closing the client can end them
Session    all of it bound to one event loop; made at the first call
"""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Final

import anyio
import attrs
from anyio.lowlevel import EventLoopToken, current_token

from finetuning_async._api import (
    Call,
    GenerationRequest,
    InstrumentalRequest,
    SoundEffectRequest,
    check_callback,
    check_timeout,
)
from finetuning_async._errors import (
    APITimeoutError,
    ClientClosedError,
    FinetuningError,
    InvalidRequestError,
    SubmissionUnknownError,
)
from finetuning_async._event_hook import NO_OPERATION
from finetuning_async._http import ClientPool, Pipeline, RetryPolicy, Transport
from finetuning_async._logging import log_exceptions
from finetuning_async._session._account_state import AccountState, rng
from finetuning_async._session._settings import Settings
from finetuning_async._session._waits import Waiting
from finetuning_async._submission import Submission, Submitter, create_events

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        Awaitable,
        Callable,
        Mapping,
    )
    from contextlib import AbstractContextManager
    from types import TracebackType

    from finetuning_async._api import AnyRequest, Generation, Response, SoundEffect
    from finetuning_async._event_hook import Hook
    from finetuning_async._polling import AnyTrack, Poller

logger = logging.getLogger("finetuning_async")

LARGEST_SEED: Final = 2**31 - 1

CHECKED: Final = {GenerationRequest, InstrumentalRequest, SoundEffectRequest}
"""Requests whose `to_body` checks each member; that of a subclass may not."""

CREATES: Final = {
    "music": ("/v1/generations", "creates"),
    "instrumental": ("/v1/instrumental", "instrumental"),
    "sound_effect": ("/v1/sound-effects", "sound_effects"),
}
"""Path and route of each create. No source settles the budget of the last two."""


_own: ContextVar[frozenset[anyio.CancelScope]] = ContextVar("_own", default=frozenset())
"""The calls that the running code is part of; a callback of a create is part of one."""


class _OneCall:
    """One call, while this block runs; a generator would cost more."""

    __slots__ = ("_ended", "_scope", "_token")

    def __init__(self, scope: anyio.CancelScope, ended: Callable[[], None]) -> None:
        self._scope = scope
        self._ended = ended

    def __enter__(self) -> anyio.CancelScope:
        self._scope.__enter__()
        self._token = _own.set(_own.get() | {self._scope})
        return self._scope

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        with suppress(ValueError):  # the garbage collector comes from elsewhere
            _own.reset(self._token)
        self._ended()
        return self._scope.__exit__(kind, error, trace)


class OpenCalls:
    """The calls under way of a client and its views."""

    def __init__(self) -> None:
        self._scopes: dict[anyio.CancelScope, bool] = {}
        self._pollers: dict[Poller, None] = {}
        self._one_left: anyio.Event | None = None
        self.is_closing: bool = False
        self.is_closed: bool = False

    def one(self, deadline: float = inf, *, spends: bool = False) -> _OneCall:
        """Run one call; it is cancelled at its deadline, or when the client closes.

        Args:
            deadline: On the loop's clock.
            spends: Whether it may cost a credit, so that it must not begin late.

        Raises:
            ClientClosedError: The client is closed already.
        """
        if self.is_closing:
            raise ClientClosedError("the client is closed; make a new AsyncClient")
        scope = anyio.CancelScope(deadline=deadline)
        self._scopes[scope] = spends
        return _OneCall(scope, partial(self._ended, scope))

    def _ended(self, scope: anyio.CancelScope) -> None:
        del self._scopes[scope]
        if self._one_left is not None:
            self._one_left.set()

    def polled_by(self, poller: Poller) -> None:
        """Say who keeps the waits of these calls; they end with the client, too."""
        self._pollers[poller] = None

    def end(self, pool: ClientPool, *, patience: float) -> None:
        """Let no call begin, end the waits and creates, and soon the others.

        Args:
            pool: Whose waits.
            patience: Seconds in which a read or a download may still come to its end.
        """
        self.is_closing = True
        for poller in self._pollers:
            poller.close(pool)
        latest = anyio.current_time() + patience
        for scope, spends in self._scopes.items():
            scope.deadline = min(scope.deadline, latest)
            if spends or patience <= 0:
                scope.cancel()

    async def close(self, pool: ClientPool) -> None:
        """Cancel the calls and wait for their end; a create on the wire is let through.

        A call that is one's own, as when a callback closes the client, is not waited
        for.
        """
        self.is_closed = True
        self.end(pool, patience=0.0)
        with anyio.move_on_after(CLOSING):
            while self._scopes.keys() - _own.get():
                self._one_left = anyio.Event()
                await self._one_left.wait()


CLOSING: Final = 6.0
"""Seconds that closing waits for calls; a create on the wire has 5 of them."""


@attrs.frozen(kw_only=True, eq=False)
class Session:
    """A client in one event loop."""

    settings: Settings
    calls: OpenCalls
    account: AccountState
    pipeline: Pipeline
    waiting: Waiting
    submitter: Submitter

    @classmethod
    def begin(cls, settings: Settings, pool: ClientPool, calls: OpenCalls) -> Session:
        """Bind a client to the running event loop."""
        account = AccountState.of(
            settings.base_url,
            settings.api_key,
            settings.rate_limits,
            settings.rate_limiter,
            is_given=pool.is_external,
        )
        pipeline = Pipeline(
            transport=Transport(
                pool=pool,
                base_url=settings.base_url,
                key=settings.api_key,
                timeout=settings.request_timeout,
                headers=settings.headers or None,
                concurrency=account.concurrency,
            ),
            limiter=account.limiter,
            retry=RetryPolicy(
                max_retries=settings.max_retries,
                max_retry_wait=settings.max_retry_wait,
                rng=rng,
            ),
            clock=account.clock,
            hook=settings.on_event,
            header_warnings=account.header_warnings,
        )
        calls.polled_by(account.poller)
        waiting = Waiting(pipeline, account.inflight, account.poller)
        submitter = Submitter(
            pipeline,
            account.inflight,
            park=waiting.for_a_place,
            one_by_one=account.one_by_one,
        )
        return cls(
            settings=settings,
            calls=calls,
            account=account,
            pipeline=pipeline,
            waiting=waiting,
            submitter=submitter,
        )

    async def ask(
        self, call: Call, timeout: float | None, max_retries: int | None = None
    ) -> Response:
        """Make a request that may be repeated.

        Args:
            call: What to ask.
            timeout: Seconds for all of it, waiting for a turn included; `None` for no
                limit.
            max_retries: How often it is repeated; `None` for the client's own number.

        Raises:
            InvalidRequestError: One of these is out of its range.
            FinetuningError: As `Pipeline.request`.
        """
        deadline = inf
        if timeout is not None:
            deadline = anyio.current_time() + check_timeout(timeout)
        with self.calls.one(deadline):
            return await self.pipeline.request(
                call, deadline=deadline, max_retries=max_retries
            )
        await self.pipeline.limiter.flush()
        if self.calls.is_closing:
            raise _closed()
        raise APITimeoutError(
            f"{call.method} {call.path} was not answered within timeout={timeout:g} s,"
            " waiting for a turn included",
            generation_id=call.track_id,
            safe_to_retry=True,
        )

    def order(
        self,
        request: AnyRequest,
        *,
        validate: bool,
        max_retries: int | None = None,
        on_submitted: Callable[[Any], Awaitable[None] | None] | None = None,
        **options: Any,
    ) -> Submission:
        """Make an order of a request: check it, and draw its seed.

        Raises:
            InvalidRequestError: A parameter is outside its documented range, or cannot
                be sent at all; `on_submitted` cannot be called.
        """
        check_callback(on_submitted, "on_submitted")
        if validate:
            request.validate(allow_http_webhook=self.settings.is_on_loopback)
        path, route = CREATES[request.kind]
        seed: int | None = None
        if request.kind != "sound_effect":
            given = getattr(request, "seed", None)
            seed = rng.randint(1, LARGEST_SEED) if given is None else given
        body = request.to_body(seed=seed)
        if type(request) not in CHECKED:
            _check_json(body)
        call = Call(method="POST", path=path, route=route, body=body, repeatable=False)
        retry = self.pipeline.retry.with_max_retries(max_retries)
        return Submission(
            request=request,
            call=call,
            retry=retry,
            seed=seed,
            on_submitted=on_submitted,
            **options,
        )

    def submit(self, order: Submission, timeout: float | None) -> Awaitable[Any]:
        """Send an order.

        Args:
            order: What to create.
            timeout: Seconds for all of it, waiting for a turn included; `None` for no
                limit.

        Raises:
            APITimeoutError: Time was over before a byte left.
            SubmissionUnknownError: Time was over later, and nobody knows.
            ClientClosedError: The client was closed before a byte left.
            FinetuningError: As `Submitter.submit`.
        """
        hook = self.pipeline.hook
        if hook is None or not hook.traces_operations:
            return self._submit(order, timeout)
        return self._submit_told(order, timeout, hook)

    async def _submit_told(
        self, order: Submission, timeout: float | None, hook: Hook
    ) -> Any:
        with hook.operation("create", **_facts(order)) as tell:
            accepted = await self._submit(order, timeout)
            tell(accepted)
        return accepted

    async def _submit(self, order: Submission, timeout: float | None) -> Any:
        if timeout is not None:
            order.deadline = anyio.current_time() + check_timeout(timeout)
        with self.calls.one(order.deadline, spends=True):
            try:
                return await self.submitter.submit(order)
            finally:
                with log_exceptions("reporting a create to the rate limiter"):
                    await self.pipeline.limiter.flush()
        await self.pipeline.limiter.flush()
        if order.accepted is not None:
            return order.accepted
        doubt = self.in_doubt(order, "time was over")
        if doubt is not None:
            raise doubt
        if self.calls.is_closing:
            raise _closed()
        raise APITimeoutError(
            f"timeout={timeout:g} s was over before the create had its turn; nothing"
            " was sent",
            safe_to_retry=True,
        )

    def saw(self, track: AnyTrack) -> None:
        """A caller's own read showed a track; it may have been waited for to end."""
        if track.is_final and self.account.inflight.is_in_progress(track.id):
            self.account.inflight.observe_final(track)

    def in_doubt(self, order: Submission, why: str) -> SubmissionUnknownError | None:
        """The error for a create that was given up; `None` if nothing is in doubt.

        Args:
            order: Which.
            why: What ended it, in words.
        """
        since = order.in_doubt_since
        if order.accepted is not None or since is None:
            return None
        reason = f"{why} while it was on the wire or being looked up"
        if self.pipeline.hook is not None:
            create_events.unknown(self.pipeline.hook, order, reason, given_up=True)
        where = f"seed={order.seed} in generations.list()"
        if order.seed is None:
            where = "its prompt in sound_effects.list()"
        said = f" ({order.doubt})" if order.doubt else ""
        return SubmissionUnknownError(
            f"the fate of a create is not known: {reason}{said}; it may be paid: look"
            f" for {where} before creating it again",
            prompt=order.request.prompt,
            seed=order.seed,
            sent_at=self.account.clock.not_before(since),
        )

    def wait(
        self, track: Generation | SoundEffect | str, **options: Any
    ) -> Awaitable[Any]:
        """Wait for a final state, as `Waiting.for_completion`.

        Raises:
            ClientClosedError: The client is closed already.
        """
        if self.calls.is_closing:
            raise _closed(track)
        # Not awaited here: with thousands of waiters each frame counts.
        hook = self.pipeline.hook
        if hook is None or not hook.traces_operations:
            return self.waiting.for_completion(track, **options)
        return self._wait_told(track, options, hook)

    async def _wait_told(
        self,
        track: Generation | SoundEffect | str,
        options: dict[str, Any],
        hook: Hook,
    ) -> Any:
        track_id = track if isinstance(track, str) else track.id
        with hook.operation("wait", track_id=track_id) as tell:
            final = await self.waiting.for_completion(track, **options)
            tell(final)
        return final

    def generating(
        self, order: Submission
    ) -> AbstractContextManager[Callable[[Any], None]]:
        """What is around the create and the wait of one call, for the hook."""
        hook = self.pipeline.hook
        if hook is None:
            return NO_OPERATION
        return hook.operation("generate", **_facts(order))

    def downloading(
        self, track: object
    ) -> AbstractContextManager[Callable[[Any], None]]:
        """What is around a download, for the hook."""
        hook = self.pipeline.hook
        if hook is None:
            return NO_OPERATION
        return hook.operation("download", track_id=getattr(track, "id", None))

    def states(
        self, track: Generation | SoundEffect | str, *, timeout: float | None
    ) -> AsyncGenerator[AnyTrack]:
        """The states as they change, as `Waiting.states`.

        Raises:
            ClientClosedError: The client is closed already.
        """
        if self.calls.is_closing:
            raise _closed(track)
        return self.waiting.states(track, timeout=timeout)


def _check_json(body: Mapping[str, Any]) -> None:
    """Check that a body can be sent, before a turn is taken for it.

    Raises:
        InvalidRequestError: It holds what JSON has no form for.
    """
    if _is_json(body):
        return
    wrong = next(name for name, value in body.items() if not _is_json(value))
    raise InvalidRequestError(wrong, body[wrong], "a value that JSON can hold")


_STRICT: Final = json.JSONEncoder(allow_nan=False)


def _is_json(value: object) -> bool:
    try:
        _STRICT.encode(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _facts(order: Submission) -> dict[str, Any]:
    """What an operation is about."""
    request = order.request
    return {
        "kind": request.kind,
        "prompt": request.prompt,
        "duration": request.duration,
    }


def _closed(track: Generation | SoundEffect | str | None = None) -> ClientClosedError:
    if track is None:
        return ClientClosedError("the client was closed while this call waited")
    return ClientClosedError(
        "the client is closed; a track under way goes on and can be waited for again by"
        " its id",
        generation_id=track if isinstance(track, str) else getattr(track, "id", None),
    )


class BoundLoop:
    """The event loop a client is bound to; a dead one is left behind."""

    def __init__(self) -> None:
        self._token: EventLoopToken | None = None

    def is_new(self) -> bool:
        """Whether the running loop is another than the last one, which has ended.

        Raises:
            FinetuningError: The last one still lives.
        """
        token = current_token()
        if self._token is None or token.native_token is not self._token.native_token:
            if self._token is not None and _is_alive(self._token):
                raise FinetuningError(
                    "this AsyncClient belongs to another event loop, which is still"
                    " alive; make one client per loop"
                )
            self._token = token
            return True
        return False


def _is_alive(token: EventLoopToken) -> bool:
    native: Any = token.native_token
    if hasattr(native, "is_closed"):
        return not native.is_closed()
    try:
        native.run_sync_soon(lambda: None)
    except RuntimeError:  # trio.RunFinishedError is one
        return False
    return True
