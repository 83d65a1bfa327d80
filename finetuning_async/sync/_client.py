"""`Client`: the blocking client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Self

from finetuning_async._client import AsyncClient
from finetuning_async.sync import _methods as methods
from finetuning_async.sync._blocks import AudioStream
from finetuning_async.sync._portal import Portal
from finetuning_async.sync._resources import (
    ClientJournal,
    Generations,
    Instrumentals,
    Playlists,
    SoundEffects,
)

if TYPE_CHECKING:
    from types import TracebackType


@methods.described_by(AsyncClient, since="Args:")
class Client(methods.Blocking):
    """A blocking client of the finetuning.ai music API, for one account.

        with Client() as client:
            track = client.generate("lofi chill piano night", duration=120)
            client.download(track, "night.mp3")

    It has the methods of `finetuning_async.AsyncClient`, with the same arguments. Each
    blocks the thread that calls it; any number of threads may, at the same time. Behind
    it is one async client in the event loop of one daemon thread, which starts at the
    first call: so all threads share the rate limits and the poll loop.

    **Callbacks** run in the thread that made the call, while it waits, and may block
    or use the client. An async one runs in the event loop, as `on_event` does: both
    must return at once, and a call of the client from there raises `FinetuningError`.

    **Ctrl-C**, or any other exception that a signal handler raises, ends a call as a
    cancellation does: a wait at once, a create whose request has left within 5 s, so
    that its id is not lost. A second one ends it at once.

    **Forks**: a forked child may use the client of its parent, also if that has used it
    before; it starts an event loop of its own. What is open is not taken along: blocks,
    iterators, and an `http_client` that was used.

    Without ``with``, call `close` at the end. If that is forgotten, the exit of the
    interpreter closes the client, and so does the garbage collector.

    """

    @methods.like(AsyncClient.__init__)
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        may_fork = kwargs.get("http_client") is None
        try:
            client = AsyncClient(*args, **kwargs)
        finally:
            del args, kwargs  # secrets, and a traceback may show this frame
        self._begin(client, Portal(client.aclose, may_fork=may_fork))

    def _begin(self, client: AsyncClient, portal: Portal) -> None:
        self._target = client
        self._portal = portal
        self.generations: Generations = Generations(portal, client.generations)
        self.instrumentals: Instrumentals = Instrumentals(portal, client.instrumentals)
        self.sound_effects: SoundEffects = SoundEffects(portal, client.sound_effects)
        self.playlists: Playlists = Playlists(portal, client.playlists)

    def __repr__(self) -> str:
        target = getattr(self, "_target", "<AsyncClient, not initialized>")
        return str(target).replace("AsyncClient", "sync.Client", 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the client and its views. Another call does nothing.

        Calls that wait in other threads raise `ClientClosedError`. A create in flight
        gets up to 5 s to finish, so that its id is not lost. Tracks in progress are not
        cancelled.
        """
        self._portal.close()

    @property
    def is_closed(self) -> bool:
        """Whether `close` has been called."""
        return self._portal.is_closed

    @property
    def journal(self) -> ClientJournal:
        """What became of the creates of this account, as its journal knows it.

        Raises:
            InvalidRequestError: The client has no journal.

        Example:
            with Client(journal="tracks.db") as client:
                for entry in client.journal.entries("held"):
                    print(entry.key, entry.error)
        """
        return ClientJournal(self._portal, self._target.journal)

    @methods.like(AsyncClient.with_options)
    def with_options(self, **overrides: Any) -> Client:
        try:
            client = self._target.with_options(**overrides)
        finally:
            del overrides  # may hold an API key, and a traceback may show this frame
        view = object.__new__(type(self))
        view._begin(client, self._portal)
        return view

    me: Final = methods.blocking(AsyncClient.me)
    health: Final = methods.blocking(AsyncClient.health)
    generate: Final = methods.blocking(AsyncClient.generate)
    generate_many: Final = methods.outcomes(AsyncClient.generate_many)
    wait_for_completion: Final = methods.blocking(AsyncClient.wait_for_completion)
    watch: Final = methods.iteration(AsyncClient.watch)
    download: Final = methods.blocking(AsyncClient.download)
    open_audio: Final = methods.block(AsyncClient.open_audio, AudioStream)
    resume: Final = methods.blocking(AsyncClient.resume)
    resume_all: Final = methods.outcomes(AsyncClient.resume_all)
    estimate: Final = methods.in_loop(AsyncClient.estimate)
    progress: Final = methods.in_loop(AsyncClient.progress)
    rate_limit_status: Final = methods.in_loop(AsyncClient.rate_limit_status)
    mark_changed: Final = methods.in_loop(AsyncClient.mark_changed)
    publish_changes: Final = methods.blocking(AsyncClient.publish_changes)
