"""The `Emulator`: enter it, reach it by transport or port, inspect what happened."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Self

import anyio
import attrs

from finetuning_async.emulator import _control, _fields
from finetuning_async.emulator._admin import ControlApp
from finetuning_async.emulator._app import build_app
from finetuning_async.emulator._clock import Clock
from finetuning_async.emulator._manual_control import ManualControl
from finetuning_async.emulator._middleware import Front
from finetuning_async.emulator._service import Service
from finetuning_async.emulator._settings import RESET_ONLY, EmulatorSettings
from finetuning_async.emulator._state_dir import StateDir
from finetuning_async.emulator._webhooks import deliver

if TYPE_CHECKING:
    from collections.abc import Mapping
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


class Emulator(ManualControl):
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

        async with Emulator() as emulator:  # all of this over HTTP: /_emulator/
            emulator.load({"tracks": [{"prompt": "night", "id": "n1"}]})
            stuck = emulator.add_track("rain", status="stuck")
            emulator.change_track(stuck.id, after_reads=3)  # then it is completed
            emulator.advance(3600)
            emulator.configure(queue_size=2)
            emulator.reset()
            print(list(emulator.tracks))  # what was loaded is there again

        seeded = Emulator.from_seed({"settings": {"queue_size": 2}}, speed=10)
    """

    _front: Front | None = None
    _tasks: TaskGroup | None = None
    _control_app: ControlApp | None = None
    _start: tuple[dict[str, Any], list[Mapping[str, Any]]] = ({}, [])
    _waiting: Mapping[str, Any] = {}
    _kept: StateDir | None = None
    _restored: bool = False
    _seed: Mapping[str, Any] | None = None
    _early_webhooks: tuple[Job, ...] = ()

    def __repr__(self) -> str:
        if self._service is None:
            return "<Emulator, not entered>"
        requests, jobs = len(self.requests), len(self.tracks)
        return f"<Emulator: {requests} requests, {jobs} tracks, speed {self.speed:g}>"

    async def __aenter__(self) -> Self:
        self._set("_start", (self._values(), []))
        self._set("_waiting", {})
        self._set("_early_webhooks", ())
        self._set("_control_app", ControlApp(self, self._state, self._serve_service))
        self._open_state()
        try:
            self._first_begin()
        except BaseException:
            if self._kept is not None:
                self._kept.close()
            raise
        self._set("_tasks", anyio.create_task_group())
        await self._running().__aenter__()
        for job in self._early_webhooks:
            self._start_webhook(job)
        if self._kept is not None:
            self._running().start_soon(self._kept.keep, self._state)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        tasks = self._running()
        self._set("_tasks", None)
        tasks.cancel_scope.cancel()
        try:
            return await tasks.__aexit__(kind, error, traceback)
        finally:
            await self._close_state()

    @classmethod
    def from_seed(cls, seed: Mapping[str, Any], /, **settings: Any) -> Self:
        """Make an emulator from what a seed file holds.

        Args:
            seed: What `load` takes, and ``settings``, an object.
            settings: Settings as for the constructor; they come before the seed's.

        Raises:
            ValueError: A setting is not allowed; an entry is checked when the emulator
                is entered.
        """
        rest = {name: value for name, value in seed.items() if name != "settings"}
        values = {**_control.read_settings(seed.get("settings")), **settings}
        try:
            made = cls(**values)
        except ValueError as error:
            raise ValueError(_fields.message_of(error)) from None
        made._set("_seed", rest)
        return made

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
    def app(self) -> ControlApp:
        """The ASGI app: the service, and its control API under ``/_emulator/``."""
        self._state()
        assert self._control_app is not None  # noqa: S101 - made together with the state
        return self._control_app

    def transport(self) -> httpx.AsyncBaseTransport:
        """A transport that connects an `httpx.AsyncClient` to this emulator."""
        # It imports httpx: 6 MiB, which an emulator on a port does not need.
        from finetuning_async.emulator._transport import EmulatorTransport

        return EmulatorTransport(self)

    def add_account(
        self, api_key: str, *, tier: str = "pro", credits: int = 2000, pack: int = 0
    ) -> Account:
        """Add an account.

        Args:
            api_key: The key that authenticates it: ``ft_live_`` and 32 visible ASCII
                characters.
            tier: Its plan; only ``pro`` and ``lifetime`` may use the API.
            credits: Its credits each month, at least 0.
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

    # Starting anew.

    def configure(self, **settings: Any) -> tuple[str, ...]:
        """Change settings while the emulator runs.

        Args:
            settings: As for the constructor. The service uses some only when it starts
                (speed, seed, windows and limits, the first account, URLs); they wait
                for the next `reset`.

        Returns:
            The names of the settings that wait for a reset.

        Raises:
            ValueError: A value is out of range.
            TypeError: A setting is unknown.
        """
        EmulatorSettings(**{**self._values(), **settings})
        later = {k: v for k, v in settings.items() if k in RESET_ONLY}
        self._set("_waiting", {**self._waiting, **later})
        for name, value in settings.items():
            if name not in later:
                self._set(name, value)
        return tuple(self._waiting)

    def load(self, seed: Mapping[str, Any]) -> None:
        """Add accounts, tracks, playlists and faults; a `reset` adds them again.

        If `restored`, the state of the last run stays, and only a reset adds them.

        Args:
            seed: Lists by these four names; each entry is a body of the control API.

        Raises:
            ValueError: An entry is not allowed; the message names it.
        """
        if not self.restored:
            _control.load(self._state(), seed)
        self._start[1].append(seed)

    def reset(self, *, seed: int | None = None) -> None:
        """Start anew: only what `load` added is there again.

        Settings are those of the start; those that waited for a reset hold until the
        next one.

        Args:
            seed: Another seed until the next reset; `None` for the same one.
        """
        self._state().over = True
        self._state().clock.wake()
        chosen = {} if seed is None else {"seed": seed}
        for name, value in {**self._start[0], **self._waiting, **chosen}.items():
            self._set(name, value)
        self._set("_waiting", {})
        self._begin()
        self._set("_restored", False)
        for loaded in self._start[1]:
            _control.load(self._state(), loaded)

    @property
    def restored(self) -> bool:
        """Whether the state is that of an earlier run, found in ``state_dir``."""
        return self._restored

    @property
    def waiting(self) -> Mapping[str, Any]:
        """The settings that wait for a `reset`, by name."""
        return self._waiting

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
        self._state().settle(self._state().clock.now())
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
        return self.tracks[track_id].status_at(self._state().clock.now())

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

    def _open_state(self) -> None:
        kept = None if self.state_dir is None else StateDir(self.state_dir)
        if kept is not None:
            kept.open()
        self._set("_kept", kept)

    def _first_begin(self) -> None:
        """Make the service, or restore it from ``state_dir``, which is then kept."""
        kept = self._kept
        self._begin(0 if kept is None else kept.run)
        self._set("_restored", kept is not None and kept.restore(self._state()))
        if self._seed is not None:
            self.load(self._seed)

    async def _close_state(self) -> None:
        kept, service = self._kept, self._service
        self._set("_kept", None)
        if kept is None or service is None:
            return
        try:
            await kept.save(service)
        finally:
            kept.close()

    def _begin(self, run: int = 0) -> None:
        """Make the service anew, with the settings as they are now."""
        service = Service(self, Clock(), run)
        service.on_webhook = self._start_webhook
        self._set("_service", service)
        self._set("_front", Front(service, build_app(service)))

    async def _serve_service(self, scope: Any, receive: Any, send: Any) -> None:
        assert self._front is not None  # noqa: S101 - made together with the app
        await self._front(scope, receive, send)

    def _values(self) -> dict[str, Any]:
        names = [field.name for field in attrs.fields(EmulatorSettings)]
        return {name: getattr(self, name) for name in names}

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)  # settings are frozen for others

    def _start_webhook(self, job: Job) -> None:
        if self._tasks is None:  # of a seed, or of the last run
            self._set("_early_webhooks", (*self._early_webhooks, job))
        else:
            self._tasks.start_soon(deliver, self._state(), job)

    async def _handle(self, scope: dict[str, Any], exchange: Exchange) -> None:
        try:
            await self.app(scope, exchange.receive, exchange.send)
        finally:
            exchange.end()

    def _running(self) -> TaskGroup:
        if self._tasks is None:
            raise RuntimeError(
                "the emulator is not running: use `async with Emulator() as emulator:`"
            )
        return self._tasks
