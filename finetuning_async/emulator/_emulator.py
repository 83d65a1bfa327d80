"""The `Emulator`: enter it, reach it by transport or port, inspect what happened."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Self

import anyio

from finetuning_async.emulator._app import build_app
from finetuning_async.emulator._middleware import Front
from finetuning_async.emulator._records import Playlist
from finetuning_async.emulator._service import Service
from finetuning_async.emulator._settings import EmulatorSettings
from finetuning_async.emulator._transport import EmulatorTransport
from finetuning_async.emulator._webhooks import deliver

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    import httpx
    from anyio.abc import TaskGroup

    from finetuning_async.emulator._faults import Fault
    from finetuning_async.emulator._in_process import Exchange
    from finetuning_async.emulator._records import (
        Account,
        Job,
        LedgerEntry,
        RequestRecord,
        WebhookRecord,
    )


class Emulator(EmulatorSettings):
    """The whole service in this process; costs nothing, plays real audio.

    Enter it, then reach it by `transport`, or on a port by `serve`::

        import httpx
        from finetuning_async.emulator import Emulator

        async with Emulator(speed=10) as emulator:
            http = httpx.AsyncClient(transport=emulator.transport())
            async with http, AsyncClient(emulator.api_key, http_client=http) as client:
                await client.generate("rain")

    Settings are keyword arguments and attributes; `EmulatorSettings` describes them.
    All waiting uses the event loop's clock. Leaving the block cancels work in progress.

    Raises:
        ValueError: A setting is out of range.

    Example:
        import httpx
        from finetuning_async.emulator import Emulator, Fault

        async with Emulator() as emulator:
            emulator.add_key("ft_live_" + 32 * "b")  # a second key of the account
            emulator.add_fault(Fault("fail", times=None))
            async with httpx.AsyncClient(transport=emulator.transport()) as http:
                client = AsyncClient("ft_live_" + 32 * "b", http_client=http)
                track = await client.generations.create("rain")
                await client.wait_for_completion(track)
            print(emulator.status(track.id), emulator.count(method="POST"))
            emulator.clear_faults()
            emulator.set_public(track.id)
            emulator.add_playlist("Rain", [track.id], public=True)
    """

    _service: Service | None = None
    _front: Front | None = None
    _tasks: TaskGroup | None = None

    def __repr__(self) -> str:
        if self._service is None:
            return "<Emulator, not entered>"
        requests, jobs = len(self.requests), len(self.tracks)
        return f"<Emulator: {requests} requests, {jobs} tracks, speed {self.speed:g}>"

    async def __aenter__(self) -> Self:
        self._service = Service(self, anyio.current_time())
        self._front = Front(self._service, build_app(self._service))
        self._service.on_webhook = self._start_webhook
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        tasks, self._tasks = self._running(), None
        tasks.cancel_scope.cancel()
        return await tasks.__aexit__(kind, error, traceback)

    # Reaching it.

    @property
    def creates_limit(self) -> tuple[int, float]:
        """Creates allowed, and in how many seconds, at this speed."""
        return self.creates_per_minute, 60.0 / self.speed

    @property
    def reads_limit(self) -> tuple[int, float]:
        """Other requests allowed, and in how many seconds, at this speed."""
        return self.reads_per_minute, 60.0 / self.speed

    @property
    def app(self) -> Front:
        """The ASGI app."""
        self._state()
        assert self._front is not None  # noqa: S101 - made together with the state
        return self._front

    def transport(self) -> httpx.AsyncBaseTransport:
        """A transport that connects an `httpx.AsyncClient` to this emulator."""
        return EmulatorTransport(self)

    def add_account(
        self, api_key: str, *, tier: str = "pro", credits: int = 2000, pack: int = 0
    ) -> Account:
        """Add an account.

        Args:
            api_key: The key that authenticates it: ``ft_live_`` and 32 visible ASCII
                characters.
            tier: Its plan; only ``pro`` and ``lifetime`` may use the API.
            credits: Its monthly allowance.
            pack: Credits bought in addition.

        Raises:
            ValueError: The key cannot work, or is another account's.
        """
        return self._state().add_account(api_key, tier, credits, pack)

    def add_key(self, api_key: str, account: Account | None = None) -> None:
        """Add a key to an account.

        Args:
            api_key: ``ft_live_`` and 32 visible ASCII characters.
            account: The account, by default the first one.

        Raises:
            ValueError: The key cannot work, or is another account's.
        """
        self._state().add_key(api_key, account or self.account)

    # What users do in the web app.

    def add_playlist(
        self,
        name: str,
        tracks: Iterable[str] = (),
        *,
        description: str | None = None,
        public: bool = False,
        account: Account | None = None,
    ) -> str:
        """Create a playlist of existing tracks, which the API cannot do.

        Args:
            name: Its name.
            tracks: Ids of its tracks.
            description: Its description.
            public: Whether others see it; a public one accepts public tracks only.
            account: Its owner, by default the first account.

        Returns:
            Its id.

        Raises:
            KeyError: No track has this id.
        """
        state, now = self._state(), anyio.current_time()
        jobs = [state.jobs[track_id] for track_id in tracks]
        entry = Playlist(
            id=state.new_id("playlist"),
            owner=account or state.account,
            name=name,
            description=description,
            is_public=public,
            created_at=now,
            updated_at=now,
            tracks=jobs,
        )
        state.playlists[entry.id] = entry
        return entry.id

    def set_public(self, track_id: str, *, public: bool = True) -> None:
        """Change a track's visibility, which the API cannot do.

        Args:
            track_id: Its id.
            public: Whether others see it.

        Raises:
            KeyError: No track has this id.
        """
        self._state().jobs[track_id].is_public = public

    # What happened.

    @property
    def account(self) -> Account:
        """The first account."""
        return self._state().account

    @property
    def tracks(self) -> dict[str, Job]:
        """Tracks and sound effects by id, oldest first."""
        return self._state().jobs

    @property
    def ledger(self) -> list[LedgerEntry]:
        """Every credit charged or refunded so far."""
        self._state().settle(anyio.current_time())
        return self._state().ledger

    @property
    def requests(self) -> list[RequestRecord]:
        """Every request, in order of arrival."""
        return self._state().requests

    @property
    def webhooks(self) -> list[WebhookRecord]:
        """Every webhook delivery, in order."""
        return self._state().webhooks

    def status(self, track_id: str) -> str:
        """A track's status now.

        Args:
            track_id: Its id.

        Raises:
            KeyError: No track has this id.
        """
        return self.tracks[track_id].status_at(anyio.current_time())

    def count(self, **wanted: Any) -> int:
        """Count the requests that have these values, as in ``count(status=429)``.

        Args:
            wanted: Attributes of `RequestRecord`, and their values.
        """
        return sum(
            all(getattr(record, name) == value for name, value in wanted.items())
            for record in self.requests
        )

    # Faults.

    def add_fault(self, fault: Fault) -> Fault:
        """Add a fault for future requests; returns the copy that counts its hits."""
        fault = copy.copy(fault)
        self._state().faults.add(fault)
        return fault

    def clear_faults(self) -> None:
        """Remove all faults."""
        self._state().faults.clear()

    def fault_at_connect(self, method: str, path: str) -> Fault | None:
        """The fault that prevents this connection, if there is one."""
        return self._state().faults.pick(method, path, connecting=True)

    def start_exchange(self, scope: dict[str, Any], exchange: Exchange) -> None:
        """Handle one request in the emulator's own task group.

        So a client that hangs up does not stop the service, as on a real socket.
        """
        self._running().start_soon(self._handle, scope, exchange)

    def _start_webhook(self, job: Job) -> None:
        self._running().start_soon(deliver, self._state(), job)

    async def _handle(self, scope: dict[str, Any], exchange: Exchange) -> None:
        try:
            await self.app(scope, exchange.receive, exchange.send)
        finally:
            exchange.end()

    def _state(self) -> Service:
        if self._service is None:
            raise RuntimeError(
                "the emulator is not entered: use `async with Emulator() as emulator:`"
            )
        return self._service

    def _running(self) -> TaskGroup:
        if self._tasks is None:
            raise RuntimeError(
                "the emulator is not running: use `async with Emulator() as emulator:`"
            )
        return self._tasks
