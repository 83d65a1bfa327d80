"""The calls in progress of one client and its views, so that closing can end them."""

from __future__ import annotations

from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Final

import anyio
from anyio.lowlevel import current_token

from finetuning_async._errors import ClientClosedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from finetuning_async._api import Generation, SoundEffect
    from finetuning_async._http import ClientPool
    from finetuning_async._polling import Poller

CLOSE_TIMEOUT: Final = 6.0
"""Seconds that closing waits for calls; a create in flight has 5 of them."""

_own_scopes: ContextVar[frozenset[anyio.CancelScope]] = ContextVar(
    "_own_scopes", default=frozenset()
)
"""The calls that the running code is part of: a callback of a create is part of one."""


class _CallScope:
    """The cancel scope of one call, registered until its block ends.

    A class, because a generator-based context manager would cost every call more.
    """

    __slots__ = ("_remove", "_scope", "_token")

    def __init__(self, scope: anyio.CancelScope, remove: Callable[[], None]) -> None:
        self._scope = scope
        self._remove = remove

    def __enter__(self) -> anyio.CancelScope:
        self._scope.__enter__()
        self._token = _own_scopes.set(_own_scopes.get() | {self._scope})
        return self._scope

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        # `reset` fails in another context, as when the garbage collector closes the
        # caller's generator. Then the variable dies with its own context, so there is
        # nothing to restore.
        with suppress(ValueError):
            _own_scopes.reset(self._token)
        self._remove()
        return self._scope.__exit__(kind, error, trace)


class OpenCalls:
    """The calls in progress of a client and its views."""

    def __init__(self) -> None:
        self._spends_by_scope: dict[anyio.CancelScope, bool] = {}
        self._pollers: dict[Poller, None] = {}
        self._call_ended: anyio.Event | None = None
        self._loop: object = None
        self.is_closing: bool = False
        self.is_closed: bool = False

    def enter_loop(self) -> None:
        """Forget the calls of an event loop that has ended, or is a parent's."""
        loop = current_token().native_token
        if loop is not self._loop:
            self._loop = loop
            self._spends_by_scope.clear()
            self._pollers.clear()

    def scope(self, deadline: float = inf, *, spends: bool = False) -> _CallScope:
        """Run one call; it is cancelled at its deadline, or when the client closes.

        Args:
            deadline: On the loop's clock.
            spends: Whether it may cost a credit, so that it must not start late.

        Raises:
            ClientClosedError: The client is already closed.
        """
        if self.is_closing:
            raise ClientClosedError("the client is closed; make a new AsyncClient")
        scope = anyio.CancelScope(deadline=deadline)
        self._spends_by_scope[scope] = spends
        return _CallScope(scope, partial(self._remove, scope))

    def _remove(self, scope: anyio.CancelScope) -> None:
        self._spends_by_scope.pop(scope, None)
        if self._call_ended is not None:
            self._call_ended.set()

    def add_poller(self, poller: Poller) -> None:
        """Add a poll loop that serves waits of this client; closing ends them."""
        self._pollers[poller] = None

    def begin_closing(self, pool: ClientPool, *, grace: float) -> None:
        """Refuse new calls, end waits and creates now, and all others after a while.

        Args:
            pool: The client's connections: a poll loop is shared by several clients,
                and only the waits that use this pool end.
            grace: Seconds that a read or a download may still take.
        """
        self.is_closing = True
        for poller in self._pollers:
            poller.close(pool)
        latest = anyio.current_time() + grace
        for scope, spends in self._spends_by_scope.items():
            scope.deadline = min(scope.deadline, latest)
            # A create that still waits for its permit must not spend a credit now. One
            # in flight is shielded: it gets up to 5 s to learn the id that it paid for.
            if spends or grace <= 0:
                scope.cancel()

    async def close(self, pool: ClientPool) -> None:
        """Cancel all calls and wait for their end; a create in flight completes first.

        It does not wait for a call that it is itself part of, as when a callback closes
        the client: that would be a deadlock.
        """
        self.is_closed = True
        self.begin_closing(pool, grace=0.0)
        with anyio.move_on_after(CLOSE_TIMEOUT):
            while self._spends_by_scope.keys() - _own_scopes.get():
                self._call_ended = anyio.Event()
                await self._call_ended.wait()


def closed_error(
    track: Generation | SoundEffect | str | None = None,
) -> ClientClosedError:
    """The error of a call that the end of its client has ended.

    Args:
        track: The track that it waited for, if any.
    """
    if track is None:
        return ClientClosedError(
            "the client was closed while this call waited; make a new AsyncClient"
        )
    return ClientClosedError(
        "the client is closed; a track in progress continues at the service: wait for"
        " it by its id with a new AsyncClient",
        generation_id=track if isinstance(track, str) else getattr(track, "id", None),
    )
